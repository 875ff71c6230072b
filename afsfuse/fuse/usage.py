"""How processes use a mount without asking it for anything, as far as /proc tells.

A process that has a directory as its working or root directory sends no request for that, and an
invalidation of a name above would take its path away: `getcwd` fails then. So does another mount
that shows a directory of this one, or stands on one; a descriptor that was opened with O_PATH; a
watch of inotify(7) or fanotify(7). Other open files are known without this, and so are files that
are mapped or executed: the kernel keeps them open meanwhile.

Directories are told by device and inode number, not by paths, which are different in other mount
namespaces and chroots. `statx` with AT_STATX_DONT_SYNC takes both from the kernel's memory: asking
our own mount from here would wait for the event loop, and perhaps for a server. Other file systems
need not let us in, FUSE mounts of other users do not; then it is not ours.

What cannot be looked into may be anywhere. Root can look into everything. The daemon of an ordinary
user cannot look into programs that run with other rights, `sudo` for one, and must take it that
those are inside which may be: see `_may_be_inside`.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import struct
from typing import TYPE_CHECKING, NamedTuple

from afsfuse import mounttable
from afsfuse.auth.processes import DEEPEST, Unclear, kin
from afsfuse.vfs.trees import Keep, Survey

if TYPE_CHECKING:
    from collections.abc import Iterator

_AT_FDCWD = -100
_AT_STATX_DONT_SYNC = 0x4000  # Source: linux/fcntl.h
_STATX_NOTHING = 0  # both come in any case. A FUSE mount that lets us not in refuses all but this
_STATX_SIZE = 256
_INODE = struct.Struct("@Q")
_DEVICE = struct.Struct("@II")
_INODE_AT, _DEVICE_AT = 32, 136
_GONE = (errno.ENOENT, errno.ESRCH, errno.EINVAL)
"""EINVAL: the mount table of a process that is ending."""
_INIT = 1  # in a container it may have rights that root has not; nobody works in it
_ELSEWHERE = (0, -1, -1)  # inode number and device of what is not ours
_UNSET = 0xFFFFFFFF  # the login uid of who never logged in

_LINKS = (("cwd", "working directory"), ("root", "root directory"))  # the root comes last
_ON_DISK = ("/", "(")  # how the names of descriptors begin that are no sockets or the like
_READS_OR_WRITES = 0o600
"""Of the link that stands for a descriptor; one that was opened with O_PATH has neither."""
_WATCHES = ("anon_inode:inotify", "anon_inode:[fanotify]")
_WATCH = re.compile(r"notify .*\bino:([0-9a-f]+) sdev:([0-9a-f]+)")  # Source: fs/notify/fdinfo.c
_MINOR_BITS = 20  # of a device as the kernel itself writes it. Source: linux/kdev_t.h


class Mounted(NamedTuple):
    """Which mount is looked for, and who may use it."""

    device: str
    """`major:minor`."""
    everybody: bool
    """Whether all users may use it, or only the one who runs the daemon."""


def survey(mounted: Mounted) -> Survey:
    """Look at all processes once. Blocks for some milliseconds: call it from a thread."""
    look = _Look(mounted)
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            look.at(pid)
        except OSError as exc:
            if exc.errno not in _GONE and _may_be_inside(int(pid), mounted.everybody):
                keep = Keep("process that cannot be looked into", _called(pid), None)
                look.found.unseen.append(keep)
    return look.found


class _Look:
    """One look at all processes."""

    def __init__(self, mounted: Mounted) -> None:
        self.found = Survey([], [], [])
        self._device = mounted.device
        major, minor = map(int, mounted.device.split(":"))
        self._numbers = (major, minor)
        self._tables: set[tuple[str, tuple[int, int, int]]] = set()
        """Mount tables that were read. One shows what can be reached from a root directory, so
        there may be several in a namespace."""

    def at(self, pid: str) -> None:
        """One process with all its threads. Raises OSError if it cannot be looked into."""
        seen: set[tuple[int, str]] = set()
        for thread in _threads(pid):
            try:
                self._at_thread(pid, f"/proc/{pid}/task/{thread}", seen)
            except OSError as exc:
                if exc.errno not in _GONE:
                    raise
                # That thread has ended. The first one may, long before the others.
        if int(pid) != os.getpid():
            self._at_descriptors(pid, seen)

    def _at_thread(self, pid: str, where: str, seen: set[tuple[int, str]]) -> None:
        for link, what in _LINKS:
            identity = _identity(f"{where}/{link}")
            self._note(pid, identity, what, seen)
        table = (os.readlink(f"{where}/ns/mnt"), identity)
        if table not in self._tables:
            self._tables.add(table)
            self.found.paths.extend(_mounts_of(f"{where}/mountinfo", self._device))

    def _at_descriptors(self, pid: str, seen: set[tuple[int, str]]) -> None:
        """What a process has open without the file system knowing it, and what it watches."""
        for number in os.listdir(f"/proc/{pid}/fd"):
            path = f"/proc/{pid}/fd/{number}"
            try:
                target = os.readlink(path)
                if target in _WATCHES:
                    for identity in _watched(f"/proc/{pid}/fdinfo/{number}"):
                        self._note(pid, identity, "watch", seen)
                elif target[:1] in _ON_DISK and not os.lstat(path).st_mode & _READS_OR_WRITES:
                    self._note(pid, _identity(path), "open path", seen)
            except OSError as exc:
                if exc.errno not in _GONE:
                    raise

    def _note(
        self, pid: str, identity: tuple[int, int, int], what: str, seen: set[tuple[int, str]]
    ) -> None:
        number, *device = identity
        if tuple(device) == self._numbers and (number, what) not in seen:
            seen.add((number, what))
            self.found.inodes.append((number, Keep(what, _called(pid), _uid(pid))))


def _watched(path: str) -> Iterator[tuple[int, int, int]]:
    """Inode number and device of all that an inotify or fanotify descriptor watches."""
    with open(path, encoding="ascii", errors="replace") as file:
        for line in file:
            if (found := _WATCH.search(line)) is not None:
                number, device = int(found[1], 16), int(found[2], 16)
                yield number, device >> _MINOR_BITS, device & ((1 << _MINOR_BITS) - 1)


def _threads(pid: str) -> list[str]:
    """All threads: some servers give each a working directory of its own."""
    return os.listdir(f"/proc/{pid}/task")


def _statx() -> ctypes._NamedFuncPointer | None:
    """The C library's function, which musl and old glibc lack."""
    return getattr(ctypes.CDLL(None, use_errno=True), "statx", None)


_STATX = _statx()


def _identity(path: str) -> tuple[int, int, int]:
    """Inode number and device of what a link in /proc leads to, without asking its file system.

    Raises OSError if the process cannot be looked into, or is gone.
    """
    try:
        return _look_at(path)
    except OSError:
        os.readlink(path)  # raises if it is /proc that refuses
        return _ELSEWHERE


def _look_at(path: str) -> tuple[int, int, int]:
    if _STATX is None:
        status = os.stat(path)
        return status.st_ino, os.major(status.st_dev), os.minor(status.st_dev)
    buffer = ctypes.create_string_buffer(_STATX_SIZE)
    if _STATX(_AT_FDCWD, path.encode(), _AT_STATX_DONT_SYNC, _STATX_NOTHING, buffer):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), path)
    return *_INODE.unpack_from(buffer, _INODE_AT), *_DEVICE.unpack_from(buffer, _DEVICE_AT)


def _called(pid: str) -> str:
    """A process in words."""
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            return f"{file.read().strip()} (process {pid})"
    except OSError:
        return f"process {pid}"


def _uid(pid: str) -> int | None:
    """The real user of a process; None if it is gone."""
    users = _numbers(pid, b"Uid:")
    return users[0] if users else None


def _numbers(pid: str, field: bytes) -> list[int]:
    """The real, effective, saved and file system id in a line of a process's status."""
    try:
        with open(f"/proc/{pid}/status", "rb") as status:
            for line in status:
                if line.startswith(field):
                    return [int(word) for word in line.split()[1:]]
    except OSError:
        pass
    return []


def _may_be_inside(pid: int, everybody: bool) -> bool:
    """Whether a process that cannot be looked into may have a directory in the mount.

    Where only one user may use the mount, the kernel lets a process in if all its user and group
    ids are that user's; another one can only have begun in there, as `sudo` in a shell that is
    inside. So it is younger than the mount, and comes from that user: by its login or its parents.
    Source: fuse_permissible_uidgid in fs/fuse/dir.c.

    One of that user's own that is older might have gone in by itself. It is taken that it did not:
    whoever logs in has such a process all the time, as `(sd-pam)`, and programs that are closed to
    their own user, agents and key rings, do not wander about. If it did, its path is restored.
    """
    if pid in (_INIT, os.getpid()):
        return False
    if everybody:
        return True
    try:
        if kin(pid).process.start < kin(os.getpid()).process.start:
            return False
        uid, gid = os.getuid(), os.getgid()
        if {*_numbers(str(pid), b"Uid:")} == {uid} and {*_numbers(str(pid), b"Gid:")} == {gid}:
            return True
        with open(f"/proc/{pid}/loginuid", encoding="ascii") as file:
            login = int(file.read())
        return login == uid or (login == _UNSET and _comes_from(pid, uid))
    except (OSError, ValueError, Unclear):
        return True


def _comes_from(pid: int, uid: int) -> bool:
    """Whether a process or one of its parents belongs to a user. Raises `Unclear`."""
    for _ in range(DEEPEST):
        if uid in _numbers(str(pid), b"Uid:"):
            return True
        pid = kin(pid).parent
        if pid == 0:
            return False
    raise Unclear


def _mounts_of(path: str, device: str) -> list[tuple[bytes, Keep]]:
    """What a mount table says about other mounts in or of ours. Raises OSError."""
    with open(path, "rb") as table:
        lines = mounttable.parse(table.read())
    ours = {line.number: line for line in lines if line.device == device}
    found = []
    for line in lines:
        where = os.fsdecode(line.point)
        below = ours.get(line.parent)
        if line.device == device and line.root != b"/":
            found.append((line.root, Keep("mount", where)))
        elif below is not None and line.point.startswith(below.point):
            shown = below.root.rstrip(b"/") + line.point[len(below.point.rstrip(b"/")) :]
            found.append((shown, Keep("mount", where)))
    return found
