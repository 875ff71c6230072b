"""The folder of the cache: where it is, whose it is, and that one daemon has it for itself.

::

    CACHEDIR.TAG           says to backups, and to us, that this is a cache
    0/                     the room of one daemon; a second daemon takes 1/, and so on
        lock               locked (flock) while the daemon lives
        index.sqlite*      what is where
        parts/7f/3a7f      bytes of files, up to 8 MiB each
        journal/5          what was written and may not have been stored yet
    recovered/             what could not be stored, for people
    unlinked/              names to be removed, one list a daemon (`cache.leftovers`)

Everything belongs to the daemon's user and is closed to everybody else. Rooms whose daemon is gone
are taken again, the lowest first. Source of the tag: https://bford.info/cachedir/
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
import time
from pathlib import Path

from afsfuse.auth.folders import in_memory

OVERRIDE = "AFSFUSE_CACHE_DIR"
"""The variable that names the folder to use by default, or `none`."""
NONE = "none"
SYSTEM = Path("/var/cache/afsfuse")
ROOMS = 16
LEAST = 16 << 20
"""Bytes that a cache must be allowed to have."""
_TAG = "CACHEDIR.TAG"
_TAG_TEXT = (
    "Signature: 8a477f597d28d172789f06886806bc55\n"
    "# This folder belongs to afsfuse. Its caches may be deleted while no afsfuse runs;\n"
    "# a file in a folder named journal may be the only copy of something written.\n"
)
_SHARE = 4  # the default is the fourth part of what is free
_LEAST_DEFAULT, _MOST_DEFAULT = 64 << 20, 32 << 30
_ABANDONED = 30 * 86400  # seconds after which the room of a daemon that was once there is emptied


class FolderRefused(Exception):
    """The folder cannot be used, and why, for people."""


def default_folder() -> Path | None:
    """Where a daemon of this user has its cache if nothing else is said; None: nowhere."""
    if override := os.environ.get(OVERRIDE):
        return None if override == NONE else Path(os.path.abspath(override))
    if os.geteuid() == 0:
        return SYSTEM
    given = os.environ.get("XDG_CACHE_HOME", "")
    home = Path(given) if os.path.isabs(given) else Path(os.path.expanduser("~"), ".cache")
    return home / "afsfuse" if home.is_absolute() else None


class Room:
    """A part of the folder that is this process's alone, until `release`."""

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self._lock = lock
        self._lock_path = str(path / "lock")
        self._lock_status = os.fstat(lock)

    @property
    def parts(self) -> Path:
        """Where the bytes of files are."""
        return self.path / "parts"

    @property
    def journals(self) -> Path:
        """Where the journal is."""
        return self.path / "journal"

    @property
    def index(self) -> Path:
        """The database."""
        return self.path / "index.sqlite"

    def mine(self) -> bool:
        """Whether the path leads to this room still. A folder that somebody has deleted or moved
        can be another daemon's by now. In any thread.
        """
        try:
            return os.path.samestat(os.lstat(self._lock_path), self._lock_status)
        except OSError:
            return False

    def default_limit(self) -> int:
        """Bytes that are a sensible share of what is free, the room's own included; or 0."""
        free = os.statvfs(self.path)
        available = free.f_bavail * free.f_frsize + measure(self.path)
        limit = min(available // _SHARE, _MOST_DEFAULT)
        return limit if limit >= _LEAST_DEFAULT else 0

    def nowait(self) -> int | None:
        """Flags by which preadv(2) never waits for a disk; None if that cannot be had here."""
        if in_memory(self.path):
            return 0
        try:
            os.preadv(self._lock, [bytearray(1)], 0, os.RWF_NOWAIT)
        except BlockingIOError:
            pass
        except OSError:
            return None
        return os.RWF_NOWAIT

    def release(self) -> None:
        """Let others have it."""
        os.utime(self._lock)
        os.close(self._lock)


def take(folder: Path) -> Room:
    """Make the folder and take a room in it. Raises `FolderRefused`."""
    try:
        _prepare(folder)
        for number in range(ROOMS):
            path = folder / str(number)
            _own(path)
            lock = _locked(path)
            if lock is None:
                continue
            room = Room(path, lock)
            _own(room.parts)
            _own(room.journals)
            _inherit(folder, room)
            return room
    except OSError as exc:
        raise FolderRefused(f"{exc.filename or folder}: {exc.strerror}") from exc
    raise FolderRefused(f"{folder}: {ROOMS} daemons have a room there already")


def measure(path: Path) -> int:
    """Bytes of disk that a tree takes."""
    total = 0
    for where, _, names in os.walk(path):
        for name in ("", *names):
            try:
                total += os.lstat(os.path.join(where, name)).st_blocks * 512
            except FileNotFoundError:
                continue  # deleted meanwhile
    return total


def _prepare(folder: Path) -> None:
    """Make the folder. One that holds anything else is not ours to close to its users."""
    tag = folder / _TAG
    if not folder.exists():
        folder.mkdir(0o700, parents=True)
    elif not tag.exists() and os.listdir(folder):
        raise FolderRefused(f"{folder}: holds other things; name a folder that is empty or new")
    _own(folder)
    if not tag.exists():
        tag.write_text(_TAG_TEXT)


def _own(path: Path) -> None:
    """Make sure that a folder is this user's and closed to everybody else."""
    path.mkdir(0o700, exist_ok=True)
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        raise FolderRefused(f"{path}: belongs to somebody else, or is no folder")
    if stat.S_IMODE(status.st_mode) != 0o700:
        path.chmod(0o700)
    if not os.access(path, os.W_OK):  # root is refused by a read-only file system alone
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))


def _locked(path: Path) -> int | None:
    """The descriptor of a room's lock; None if another process holds it."""
    lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        os.close(lock)
        if exc.errno in (errno.EAGAIN, errno.EACCES):
            return None
        raise
    return lock


def _inherit(folder: Path, mine: Room) -> None:
    """Take over journals of daemons that died in other rooms, and empty rooms long abandoned."""
    for number in range(ROOMS):
        path = folder / str(number)
        if path == mine.path or not (path / "lock").exists():
            continue
        lock = _locked(path)
        if lock is None:
            continue
        try:
            daemon = f"{number}.{time.time_ns()}"  # the same for all: see `DiskJournal._load`
            for journal in sorted((path / "journal").glob("*")):
                journal.rename(mine.journals / f"{journal.name}.{daemon}")
            if time.time() - os.fstat(lock).st_mtime > _ABANDONED:
                shutil.rmtree(path, ignore_errors=True)
        finally:
            os.close(lock)
