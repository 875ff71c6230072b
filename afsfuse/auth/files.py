"""Small files in a folder of one's own: written whole or not at all, wiped before they go."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
import time
from typing import TYPE_CHECKING

from afsfuse.auth.processes import NO_ROOM

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SIZE_MAX = 1 << 17
"""Bytes of one file."""
_STALE_SECONDS = 60.0  # nobody takes so long to write one
_NEW = ".new-"  # how names of files begin that are being written


class Folder:
    """The files of one folder, which nobody else may write to."""

    def __init__(self, path: Path) -> None:
        """Raises OSError when it is not there, or open to others."""
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        self.path = path
        self._descriptor = os.open(path, flags)
        status = os.fstat(self._descriptor)  # whatever stood there when somebody looked before
        if status.st_uid != os.geteuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            os.close(self._descriptor)
            raise PermissionError(errno.EPERM, "others may write there", str(path))

    def close(self) -> None:
        os.close(self._descriptor)

    def names(self) -> list[str]:
        """Files that are complete, in order."""
        return sorted(name for name in os.listdir(self._descriptor) if not name.startswith("."))

    def read(self, name: str) -> bytearray | None:
        """What is in a file; None if it is not there, or no file of ours. Wipe it after use.

        Raises OSError where the system has no room to open it: then nothing is known of it.
        """
        try:
            descriptor = self._open(name, os.O_RDONLY)
        except OSError as exc:
            if exc.errno in NO_ROOM:
                raise
            return None
        try:
            status = os.fstat(descriptor)
            proper = stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid()
            if not proper or status.st_size > SIZE_MAX:
                return None
            data = bytearray(status.st_size)
            size = os.preadv(descriptor, [data], 0)
            return data[:size] if size < len(data) else data
        finally:
            os.close(descriptor)

    def write(self, name: str, data: bytes | bytearray) -> None:
        """Put a file in place of the one with this name, which is wiped. Raises OSError."""
        new = f"{_NEW}{secrets.token_hex(8)}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        descriptor = self._open(new, flags)
        try:
            with self._wiped(name):
                if os.write(descriptor, data) != len(data):
                    raise OSError("the file system is full")
                os.rename(new, name, src_dir_fd=self._descriptor, dst_dir_fd=self._descriptor)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(new, dir_fd=self._descriptor)
            raise
        finally:
            os.close(descriptor)

    def remove(self, name: str) -> bool:
        """Wipe a file, and remove it; whether it was there."""
        with self._wiped(name):
            try:
                os.unlink(name, dir_fd=self._descriptor)
            except FileNotFoundError:
                return False
        return True

    def clear(self) -> None:
        """Remove what writers left behind who were ended in the middle."""
        for name in os.listdir(self._descriptor):
            if name.startswith(_NEW):
                with contextlib.suppress(FileNotFoundError):
                    status = os.stat(name, dir_fd=self._descriptor, follow_symlinks=False)
                    if time.time() - status.st_mtime > _STALE_SECONDS:
                        self.remove(name)

    @contextlib.contextmanager
    def _wiped(self, name: str) -> Iterator[None]:
        """Overwrite the file of this name after something was done to the name."""
        try:
            descriptor = self._open(name, os.O_WRONLY)
        except OSError:  # there is none
            yield
            return
        try:
            yield
            os.pwrite(descriptor, bytes(os.fstat(descriptor).st_size), 0)
        finally:
            os.close(descriptor)

    def _open(self, name: str, flags: int) -> int:
        safe = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        return os.open(name, flags | safe, 0o600, dir_fd=self._descriptor)
