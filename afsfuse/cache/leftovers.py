"""Names that keep removed files for those who have them open, written down so that none is left.

A daemon has one file in a folder, a line of JSON for each name: written before the name is made,
and struck out by another line after it was removed. The file is locked for as long as the daemon
lives. Whoever starts later takes over the files that nobody has locked: their daemons ended before
they could remove what they had made.

The folder is best one that a machine keeps when it is started anew. Lines survive any end of the
process as soon as they are written, and that of the machine as soon as `sync` has brought them to
the disk, which nobody waits for: a moment later. What is lost in between the salvager of the
volume finds by its prefix.
"""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import uuid
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import trio

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger(__name__)

PREFIX = b".__afs"
"""What such names begin with, here and in all AFS clients; the salvager knows it."""

_FILES = "unlinked-*.jsonl"
_MODE = 0o600  # names of files are nobody's business
_SPARE_LINES = 1000  # of names that are gone, until the file is written anew without them


@dataclass(frozen=True, slots=True)
class Leftover:
    """A name that is to be removed: in which directory, for which file, in whose name."""

    cell: str
    volume: int
    directory: tuple[int, int]
    """Vnode and uniquifier."""
    name: str
    file: tuple[int, int]
    """What must be behind the name; another file stays."""
    who: str
    """`Identity.text`."""


class Leftovers:
    """The list of one daemon. Failures of the disk are logged and cost only what a crash costs."""

    def __init__(self, folder: Path | None, *others: Path) -> None:
        """`folder` is made when it is needed; None: nothing is written down. What daemons have left
        in `others` is taken over, too.
        """
        self._folder = folder
        self._others = others
        self._file: int | None = None
        self._lines = 0
        self._open: dict[Leftover, None] = {}
        self._unsynced = self._syncing = False
        self._complained = False

    def __len__(self) -> int:
        """Names that are not struck out."""
        return len(self._open)

    def note(self, leftover: Leftover) -> None:
        """Write a name down, before it is made."""
        self._open[leftover] = None
        self._append({"made": asdict(leftover)})

    def strike(self, leftover: Leftover) -> None:
        """The name is gone, or never was. When none is left, the file becomes empty."""
        if leftover not in self._open:
            return
        del self._open[leftover]
        if self._open:
            self._append({"gone": asdict(leftover)})
            if self._lines > _SPARE_LINES + 2 * len(self._open):
                self._shorten()
        elif self._file is not None:
            try:
                os.ftruncate(self._file, 0)
                self._lines = 0
            except OSError as exc:  # the next daemon looks for names that are gone
                self._complain(exc)

    def _shorten(self) -> None:
        """Go on in another file, which has what is not struck out: one name may stay for long, and
        thousands come and go.
        """
        before = self._file
        if before is None:
            return
        path, self._file, self._lines = self._path, None, 0
        for leftover in self._open:
            self._append({"made": asdict(leftover)})
        if self._file is None or self._folder is None:
            return  # the one before stays, and stays locked
        with suppress(OSError):
            os.fsync(self._file)  # before the only other copy goes
            os.unlink(path)
        os.close(before)

    def inherit(self) -> list[Leftover]:
        """Take over what daemons that are no more have left; it is in this list from now on."""
        if self._folder is None:
            return []
        found: list[Leftover] = []
        for folder in (self._folder, *self._others):
            for path in sorted(folder.glob(_FILES)):
                found += self._adopt(path)
        return found

    def _adopt(self, path: Path) -> list[Leftover]:
        try:
            file = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError as exc:
            log.debug("%s: %s", path, exc)
            return []
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(file).st_uid != os.geteuid():
                return []
            with open(file, "rb", closefd=False) as lines:
                left = _read(lines.read())
            for leftover in left:
                if leftover not in self._open:
                    self.note(leftover)
            if self._file is not None and left:
                os.fsync(self._file)  # before the only other copy goes
            if self._file is not None or not left:
                os.unlink(path)
        except OSError as exc:  # its daemon lives, or it was taken over in this moment
            log.debug("%s: %s", path, exc)
            return []
        else:
            return left
        finally:
            os.close(file)

    async def sync(self) -> None:
        """Bring what was written down to the disk. Of several at a time one does it for all."""
        self._unsynced = True
        if self._syncing:
            return
        self._syncing = True
        try:
            while self._unsynced and self._file is not None:
                self._unsynced = False
                # One of its own: the thread may still be at it when the daemon closes the file.
                await trio.to_thread.run_sync(_sync, os.dup(self._file), abandon_on_cancel=True)
        finally:
            self._syncing = False

    def close(self) -> None:
        """The daemon ends. A file in which nothing is left goes."""
        if self._file is None:
            return
        if not self._open and self._folder is not None:
            os.unlink(self._path)
        os.close(self._file)
        self._file = None

    def _append(self, line: dict[str, Any]) -> None:
        if self._folder is None:
            return
        try:
            if self._file is None:
                self._file = self._create(self._folder)
            size = os.fstat(self._file).st_size
            data = json.dumps(line).encode() + b"\n"
            if os.write(self._file, data) != len(data):
                os.ftruncate(self._file, size)  # or the next line would be part of this one
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self._lines += 1
        except OSError as exc:
            self._complain(exc)
            if self._file is None:
                self._folder = None

    def _complain(self, error: OSError) -> None:
        level = logging.DEBUG if self._complained else logging.WARNING
        self._complained = True
        why = error.strerror or error
        log.log(level, "%s: names to be removed cannot be written down: %s", self._folder, why)

    def _create(self, folder: Path) -> int:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path = folder / _FILES.replace("*", uuid.uuid4().hex)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        file = os.open(self._path, flags, _MODE)
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return file


def _sync(descriptor: int) -> None:
    """Flush a file, and close the descriptor. A disk that fails costs what a crash costs."""
    try:
        with suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read(text: bytes) -> list[Leftover]:
    """What is left according to the lines of a file. A last line that is cut off is none."""
    left: dict[Leftover, None] = {}
    for line in text.split(b"\n"):
        try:
            (kind, fields), *_ = json.loads(line).items()
            leftover = Leftover(
                str(fields["cell"]), int(fields["volume"]), _pair(fields["directory"]),
                str(fields["name"]), _pair(fields["file"]), str(fields["who"]),
            )  # fmt: skip
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
        if kind == "made":
            left[leftover] = None
        else:
            left.pop(leftover, None)
    return list(left)


def _pair(value: Any) -> tuple[int, int]:  # noqa: ANN401  # JSON
    vnode, unique = value
    return int(vnode), int(unique)
