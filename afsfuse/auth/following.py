"""What goes on beside a token store: changes by other daemons, the end of PAGs, old tokens."""

from __future__ import annotations

import contextlib
import ctypes
import enum
import logging
import os
import struct
from typing import TYPE_CHECKING

import trio

from afsfuse.auth.folders import PAGS, TOKENS
from afsfuse.auth.processes import alive

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from afsfuse.auth.store import Pag, TokenStore

log = logging.getLogger(__name__)

SWEEP_SECONDS = 60.0
"""Between two looks for what is over without an event having told."""
_EVENT = struct.Struct("iIII")  # Source: inotify(7)
_BUFFER = 1 << 16


class _Mask(enum.IntFlag):
    """Source: sys/inotify.h."""

    MOVED_FROM = 0x40
    MOVED_TO = 0x80
    DELETE = 0x200
    OVERFLOW = 0x4000
    ONLY_DIRECTORY = 0x0100_0000


class Changes:
    """Names that appear in, and vanish from, folders. OSError if the kernel does not tell."""

    def __init__(self, folders: dict[str, Path]) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.descriptor = self._check(self._libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK))
        self._kinds: dict[int, str] = {}
        wanted = _Mask.MOVED_FROM | _Mask.MOVED_TO | _Mask.DELETE | _Mask.ONLY_DIRECTORY
        try:
            for kind, path in folders.items():
                watch = self._libc.inotify_add_watch(self.descriptor, os.fsencode(path), wanted)
                self._kinds[self._check(watch)] = kind
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        os.close(self.descriptor)

    def read(self) -> Iterator[tuple[str, str] | None]:
        """What has changed, as folder and name; None when events were lost: anything may have."""
        with contextlib.suppress(BlockingIOError):
            data = os.read(self.descriptor, _BUFFER)
            at = 0
            while at < len(data):
                watch, mask, _, length = _EVENT.unpack_from(data, at)
                at += _EVENT.size + length
                if mask & _Mask.OVERFLOW:
                    yield None
                elif watch in self._kinds:
                    yield self._kinds[watch], os.fsdecode(data[at - length : at].rstrip(b"\0"))

    def _check(self, result: int) -> int:
        if result < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return result


class Follower:
    """Keeps a loaded store as its files are, and its PAGs as their processes are."""

    def __init__(self, store: TokenStore) -> None:
        self._store = store

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Follow until cancelled."""
        folders = {kind: self._store.folder / kind for kind in (TOKENS, PAGS)}
        async with trio.open_nursery() as nursery:
            try:
                changes = Changes(folders)
            except OSError as exc:
                log.warning("other daemons' tokens are seen late: no inotify: %s", exc.strerror)
            else:
                nursery.start_soon(self._follow, changes)
            self._store.on_pag = lambda pag: nursery.start_soon(self._await_end, pag)
            for pag in self._store.pags.values():
                self._store.on_pag(pag)
            self._store.rescan()  # what changed before we watched
            task_status.started()
            try:
                while True:
                    await trio.sleep(SWEEP_SECONDS)
                    self._store.rescan()
            finally:
                self._store.on_pag = None

    async def _follow(self, changes: Changes) -> None:
        try:
            while True:
                await trio.lowlevel.wait_readable(changes.descriptor)
                for change in changes.read():
                    if change is None:
                        self._store.rescan()
                    else:
                        self._store.reread(*change)
        finally:
            changes.close()

    async def _await_end(self, pag: Pag) -> None:
        """End a PAG with its root."""
        try:
            descriptor = os.pidfd_open(pag.root.pid)
        except ProcessLookupError:
            self._store.end_pag(pag.id)
            return
        except OSError:  # an old kernel: the sweep will see it
            return
        try:
            if alive(pag.root):  # the number is not another's already
                await trio.lowlevel.wait_readable(descriptor)
        finally:
            os.close(descriptor)
        self._store.end_pag(pag.id)
