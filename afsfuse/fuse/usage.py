"""How processes use a mount without asking it for anything, as far as /proc tells.

A process that has a directory as its working or root directory sends no request for that, and an
invalidation of a name above would take its path away: `getcwd` fails then. So does another mount
that shows a directory of this one, or stands on one. Open files are known without this, and so are
files that are mapped or executed: the kernel keeps them open meanwhile.

Directories are told by device and inode number, not by paths, which are different in other mount
namespaces and chroots. `statx` with AT_STATX_DONT_SYNC takes both from the kernel's memory: asking
our own mount from here would wait for the event loop, and perhaps for a server.

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
from typing import NamedTuple

from afsfuse.auth.processes import DEEPEST, Unclear, kin
from afsfuse.vfs.trees import Keep, Survey

_AT_FDCWD = -100
_AT_STATX_DONT_SYNC = 0x4000  # Source: linux/fcntl.h
_STATX_INO = 0x100  # Source: linux/stat.h
_STATX_SIZE = 256
_INODE = struct.Struct("@Q")
_DEVICE = struct.Struct("@II")
_INODE_AT, _DEVICE_AT = 32, 136
_GONE = (errno.ENOENT, errno.ESRCH)
_INIT = 1  # in a container it may have rights that root has not; nobody works in it
_UNSET = 0xFFFFFFFF  # the login uid of who never logged in
_ESCAPED = re.compile(rb"\\([0-7]{3})")

_LINKS = (("cwd", "working directory"), ("root", "root directory"))


class Mounted(NamedTuple):
    """Which mount is looked for, and who may use it."""

    device: str
    """`major:minor`."""
    everybody: bool
    """Whether all users may use it, or only the one who runs the daemon."""


class _MountLine(NamedTuple):
    """What a line of mountinfo says. Source: proc_pid_mountinfo(5)."""

    number: int
    parent: int
    device: str
    root: bytes
    """The directory of the file system that is shown."""
    point: bytes
    """Where, as a path from the root of whoever reads the table."""


def survey(mounted: Mounted) -> Survey:
    """Look at all processes once. Blocks for some milliseconds: call it from a thread."""
    found = Survey([], [], [])
    wanted = tuple(int(part) for part in mounted.device.split(":"))
    namespaces: set[str] = set()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            _look_at(pid, wanted, found)
            namespace = os.readlink(f"/proc/{pid}/ns/mnt")
            if namespace not in namespaces:
                namespaces.add(namespace)
                found.paths.extend(_mounts_of(pid, mounted.device))
        except OSError as exc:
            if exc.errno not in _GONE and _may_be_inside(int(pid), mounted.everybody):
                found.unseen.append(Keep("process that cannot be looked into", _called(pid), None))
    return found


def _look_at(pid: str, device: tuple[int, ...], found: Survey) -> None:
    """The directories of a process and its threads. Raises OSError."""
    seen: set[tuple[int, str]] = set()
    for thread in _threads(pid):
        for link, what in _LINKS:
            try:
                where = _identity(f"/proc/{pid}/task/{thread}/{link}")
            except OSError as exc:
                if exc.errno in _GONE and thread != pid:
                    continue  # that thread has ended
                raise
            if where[1:] == device and (where[0], what) not in seen:
                seen.add((where[0], what))
                found.inodes.append((where[0], Keep(what, _called(pid), _uid(pid))))


def _threads(pid: str) -> list[str]:
    """All threads: some servers give each a working directory of its own."""
    return os.listdir(f"/proc/{pid}/task")


def _statx() -> ctypes._NamedFuncPointer | None:
    """The C library's function, which musl and old glibc lack."""
    return getattr(ctypes.CDLL(None, use_errno=True), "statx", None)


_STATX = _statx()


def _identity(path: str) -> tuple[int, int, int]:
    """Inode number and device of what a path leads to, without asking its file system."""
    if _STATX is None:
        status = os.stat(path)
        return status.st_ino, os.major(status.st_dev), os.minor(status.st_dev)
    buffer = ctypes.create_string_buffer(_STATX_SIZE)
    if _STATX(_AT_FDCWD, path.encode(), _AT_STATX_DONT_SYNC, _STATX_INO, buffer):
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
    """
    if pid in (_INIT, os.getpid()):
        return False
    if everybody:
        return True
    uid, gid = os.getuid(), os.getgid()
    if {*_numbers(str(pid), b"Uid:")} == {uid} and {*_numbers(str(pid), b"Gid:")} == {gid}:
        return True
    try:
        if kin(pid).process.start < kin(os.getpid()).process.start:
            return False
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


def _mounts_of(pid: str, device: str) -> list[tuple[bytes, Keep]]:
    """What the mount table of a process says about other mounts in or of ours. Raises OSError."""
    with open(f"/proc/{pid}/mountinfo", "rb") as table:
        lines = [_parse(line) for line in table]
    ours = {line.number: line for line in lines if line.device == device}
    found = []
    for line in lines:
        where = os.fsdecode(line.point)
        below = ours.get(line.parent)
        if line.device == device and line.root != b"/":
            found.append((line.root, Keep("mount", where)))
        elif below is not None and line.point.startswith(below.point):
            path = below.root.rstrip(b"/") + line.point[len(below.point.rstrip(b"/")) :]
            found.append((path, Keep("mount", where)))
    return found


def _parse(line: bytes) -> _MountLine:
    number, parent, device, root, point = line.split(maxsplit=5)[:5]
    return _MountLine(int(number), int(parent), device.decode(), _plain(root), _plain(point))


def _plain(text: bytes) -> bytes:
    """A path of a mount table without its escapes."""
    return _ESCAPED.sub(lambda match: bytes([int(match[1], 8)]), text)
