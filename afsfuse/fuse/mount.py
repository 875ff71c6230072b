"""Making and removing the mount: mount(2) as root, `fusermount3` as an ordinary user.

libfuse could do this, too, but it tells no more than "failed" and prints the rest on standard
error. Here each failure keeps its errno, so that its message can say what to do. libfuse then gets
the open connection as `/dev/fd/N`, a form of mount point that it has had since 3.3.

All functions block: call them from a thread when an event loop runs. `prepare` and
`real_directory` look at DIR itself, so they must not be called by the daemon while it is mounted
there: it would wait for its own answer. The others go by the mount table.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import socket
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from afsfuse import mounttable
from afsfuse.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

DEVICE = "/dev/fuse"
_OWN_TABLE = Path("/proc/self/mountinfo")

EXIT_NOT_PERMITTED = 1
EXIT_SYSTEM = 2
EXIT_MOUNT = 32

PID_ATTRIBUTE = "afsfuse.pid"
"""Extended attribute of a mount's root that names the daemon's process; it is not listed."""

_HELPER_SECONDS = 10.0

# mount(2) and umount2(2). Source: linux/mount.h
_MS_RDONLY, _MS_NOSUID, _MS_NODEV = 1, 2, 4
_MNT_FORCE, _MNT_DETACH, _UMOUNT_NOFOLLOW = 1, 2, 8
_FLAGS = {
    **{"noexec": 8, "noatime": 1024, "nodiratime": 2048, "nosymfollow": 256},
    **{"sync": 16, "dirsync": 128},
}
"""Options of mount(8) that reach the kernel."""


class MountError(UsageError):
    """The mount cannot be made or removed; the message says what to do about it."""

    def __init__(self, message: str, *, exit_code: int = EXIT_MOUNT) -> None:
        super().__init__(message, exit_code=exit_code)


@dataclass(frozen=True)
class MountOptions:
    """How the mount shows, and who may use it."""

    source: str
    """What the mount table shows as the mounted thing."""
    subtype: bool = True
    """Type `fuse.afs`; without it plain `fuse`."""
    allow_other: bool = False
    """Let everybody use the mount, not only the user who made it."""
    read_only: bool = False
    """Have the kernel refuse every change with EROFS."""
    flags: tuple[str, ...] = ()
    """Further ones, by the names that mount(8) has for them: `config.MOUNT_FLAGS`."""

    @property
    def type(self) -> str:
        return "fuse.afs" if self.subtype else "fuse"


@dataclass(frozen=True)
class Mount:
    """A line of a mount table."""

    device: str
    """`major:minor` of the mounted file system."""
    directory: str
    type: str
    source: str
    options: str
    """The file system's own ones, such as `user_id=0`."""


def parse_mount_table(table: bytes) -> list[Mount]:
    """The mounts of a mountinfo, oldest first."""
    return [
        Mount(
            line.device, os.fsdecode(line.point), line.type, os.fsdecode(line.source), line.options
        )
        for line in mounttable.parse(table)
    ]


def find_mount(directory: str) -> Mount | None:
    """What is mounted on exactly this (real) directory; of several the topmost."""
    mounts = parse_mount_table(_OWN_TABLE.read_bytes())
    return next((mount for mount in reversed(mounts) if mount.directory == directory), None)


def real_directory(directory: str) -> str:
    """The path as the mount table has it: absolute, without symbolic links."""
    parent, name = os.path.split(os.path.abspath(directory))
    if not name or os.path.islink(directory):
        return os.path.realpath(directory)
    return os.path.join(os.path.realpath(parent), name)


def prepare(directory: str) -> str:
    """See that DIR can be mounted on, clearing a dead mount from it; returns its real path."""
    for _ in range(8):  # mounts can be stacked, also dead ones
        try:
            mode = os.stat(directory).st_mode
            os.statvfs(directory)  # of a dead mount the kernel may still know the attributes
        except OSError as exc:
            if exc.errno != errno.ENOTCONN:
                raise _unusable(directory, exc) from None
            _clear_dead(directory)
            continue
        if not stat.S_ISDIR(mode):
            raise MountError(f"{directory}: not a directory: a mount needs one")
        real = real_directory(directory)
        if (mount := find_mount(real)) is not None and not _waits_for_mount(mount):
            if mount.type.startswith("fuse") and is_dead(real):
                _clear_dead(directory)
                continue
            raise MountError(
                f"{directory}: busy: {mount.source} (type {mount.type}) is mounted there:"
                f" unmount it first, or choose another directory"
            )
        return real
    raise MountError(f"{directory}: dead mounts are stacked there: umount -l {directory}")


def _waits_for_mount(mount: Mount) -> bool:
    """Whether it is there to have another one mounted on it, as that of a unit `.automount` is.

    Of the other kind, `indirect`, directories in it are that. Source: autofs(5), and the kernel's
    Documentation/filesystems/autofs.rst.
    """
    return mount.type == "autofs" and not {"direct", "offset"}.isdisjoint(mount.options.split(","))


def is_dead(directory: str) -> bool:
    """Whether the daemon of the FUSE mount on DIR is gone.

    stat(2) does not tell: the kernel goes on to answer from what it remembers, for as long as the
    daemon has said that it may. Nobody remembers extended attributes.
    """
    try:
        os.getxattr(directory, PID_ATTRIBUTE)
    except OSError as exc:
        return exc.errno == errno.ENOTCONN
    return False


def _unusable(directory: str, exc: OSError) -> MountError:
    """Why DIR cannot even be looked at."""
    match exc.errno:
        case errno.ENOENT:
            return MountError(f"{directory}: no such directory: create it with mkdir -p")
        case errno.ENOTDIR:
            return MountError(f"{directory}: a component of the path is not a directory")
        case errno.EACCES:
            return MountError(
                f"{directory}: not accessible for this user: choose another directory",
                exit_code=EXIT_NOT_PERMITTED,
            )
        case _:
            return MountError(f"{directory}: {exc.strerror}: choose another directory")


def _clear_dead(directory: str) -> None:
    """Remove the mount of a daemon that is gone."""
    directory = real_directory(directory)
    mount = find_mount(directory)
    if mount is None or not mount.type.startswith("fuse"):
        raise MountError(f"{directory}: lies on a mount whose daemon is gone: umount -l that first")
    unmount(directory, lazy=True)


def mount(directory: str, options: MountOptions) -> int:
    """Mount on DIR, which `prepare` has seen; returns the connection with the kernel, open."""
    if os.geteuid() == 0:
        return _mount_as_root(directory, options)
    return _mount_as_user(directory, options)


def device_advice(exc: OSError) -> str:
    """What to do when the device of FUSE cannot be opened."""
    return {
        errno.ENOENT: "load the kernel's module: modprobe fuse",
        errno.ENODEV: "load the kernel's module: modprobe fuse",
        errno.EACCES: "let this user read and write it, or mount as root",
        errno.EPERM: "allow the device in this container",
    }.get(exc.errno or 0, "see that FUSE works on this machine")


def _open_device() -> int:
    try:
        return os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
    except OSError as exc:
        told = f"{DEVICE}: {exc.strerror}: {device_advice(exc)}"
        raise MountError(told, exit_code=EXIT_SYSTEM) from None


def _mount_as_root(directory: str, options: MountOptions) -> int:
    connection = _open_device()
    flags = _MS_NOSUID | _MS_NODEV | _MS_RDONLY * options.read_only
    for flag in options.flags:
        flags |= _FLAGS[flag]
    data = f"fd={connection},rootmode=40000,user_id={os.geteuid()},group_id={os.getegid()}"
    if options.allow_other:
        data += ",allow_other"
    try:
        _libc_call(
            "mount",
            os.fsencode(options.source),
            os.fsencode(directory),
            options.type.encode(),
            ctypes.c_ulong(flags),
            data.encode(),
        )
    except OSError as exc:
        os.close(connection)
        if exc.errno == errno.EPERM:
            raise MountError(
                f"{directory}: the kernel does not permit mounting: CAP_SYS_ADMIN is missing",
                exit_code=EXIT_NOT_PERMITTED,
            ) from None
        raise MountError(f"{directory}: mount failed: {exc.strerror}") from None
    return connection


def _mount_as_user(directory: str, options: MountOptions) -> int:
    """Let the setuid helper mount; it hands the connection over through a socket.

    Source: libfuse's fusermount.c, and `_FUSE_COMMFD` in its mount.c.
    """
    os.close(_open_device())  # the helper opens it with this user's rights: the same answer
    fsname = options.source.replace("\\", "\\\\").replace(",", "\\,")
    words = [
        "ro" if options.read_only else "rw",
        "nosuid",
        "nodev",
        *options.flags,
        f"fsname={fsname}",
    ]
    words += ["subtype=afs"] * options.subtype + ["allow_other"] * options.allow_other
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours:
        with theirs:
            _run_helper(
                ["-o", ",".join(words), "--", directory],
                directory,
                environment={"_FUSE_COMMFD": str(theirs.fileno())},
                keep=(theirs.fileno(),),
            )
        _, descriptors, _, _ = socket.recv_fds(ours, 1, 1)  # it has sent it, or never will
    if not descriptors:
        raise MountError(f"{directory}: fusermount3 handed nothing over", exit_code=EXIT_SYSTEM)
    os.set_inheritable(descriptors[0], False)
    return descriptors[0]


def unmount(directory: str, *, lazy: bool, force: bool = False) -> None:
    """Remove the topmost mount from DIR, a real path.

    `lazy`: at once, even when it is in use. `force`: the kernel also answers every waiting
    request, with an error; only root can have that, for others it means nothing.
    """
    if os.geteuid() == 0:
        try:
            flags = _UMOUNT_NOFOLLOW | _MNT_DETACH * lazy | _MNT_FORCE * force
            _libc_call("umount2", os.fsencode(directory), ctypes.c_int(flags))
        except OSError as exc:
            raise _not_unmounted(directory, exc.errno or 0, exc.strerror or "") from None
        return
    words = ["-u", "-z"] if lazy else ["-u"]
    _run_helper([*words, "--", directory], directory)


def _not_unmounted(directory: str, number: int, reason: str) -> MountError:
    match number:
        case errno.EBUSY:
            return MountError(
                f"{directory}: busy: a process has a file or its working directory there;"
                f" find it with: fuser -m {directory}"
            )
        case errno.EINVAL | errno.ENOENT:
            return MountError(f"{directory}: nothing is mounted there")
        case errno.EPERM:
            return MountError(
                f"{directory}: not permitted: unmount it as root or as the user who mounted it",
                exit_code=EXIT_NOT_PERMITTED,
            )
        case _:
            return MountError(f"{directory}: umount failed: {reason}")


def _libc_call(name: str, *arguments: object) -> None:
    """Call a function of the C library that returns -1 on failure; OSError then."""
    function = getattr(ctypes.CDLL(None, use_errno=True), name)
    if function(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _run_helper(
    arguments: list[str],
    directory: str,
    *,
    environment: dict[str, str] | None = None,
    keep: tuple[int, ...] = (),
) -> None:
    """Run fusermount3; what it says on standard error becomes our message."""
    try:
        done = subprocess.run(
            ["fusermount3", *arguments],
            env={**os.environ, "LC_ALL": "C", **(environment or {})},
            pass_fds=keep,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_HELPER_SECONDS,
            check=False,
        )
    except FileNotFoundError:
        raise MountError(
            "fusermount3 is missing: install the package fuse3, or mount as root",
            exit_code=EXIT_SYSTEM,
        ) from None
    except subprocess.TimeoutExpired:
        raise MountError(f"{directory}: fusermount3 does not end", exit_code=EXIT_SYSTEM) from None
    if done.returncode == 0:
        return
    lines = done.stderr.decode(errors="replace").strip().splitlines()
    said = lines[-1] if lines else f"exit status {done.returncode}"
    said = re.sub(r"^\S*fusermount3: ", "", said)
    if "user_allow_other" in said:
        raise MountError(
            f"{directory}: allow_other is for root alone here: leave it out, or put the line"
            " user_allow_other into /etc/fuse.conf",
            exit_code=EXIT_NOT_PERMITTED,
        )
    if "write access" in said:
        raise MountError(
            f"{directory}: not writable for this user: choose a directory of your own",
            exit_code=EXIT_NOT_PERMITTED,
        )
    if "busy" in said.lower():
        raise _not_unmounted(directory, errno.EBUSY, said)
    raise MountError(f"{directory}: {said}")


def device_of(directory: str) -> str | None:
    """`major:minor` of what is mounted on DIR, asked of the mount table and not of DIR."""
    mount = find_mount(directory)
    return None if mount is None else mount.device


def places_of(device: str) -> list[str]:
    """Where the whole FUSE file system of this `major:minor` is to be seen, with nothing on it: a
    mount moves with the directory around it, and there can be copies.
    """
    seen = {line.point: line for line in mounttable.parse(_OWN_TABLE.read_bytes())}
    return [
        os.fsdecode(line.point)
        for line in seen.values()
        if line.device == device and line.root == b"/" and line.type.startswith("fuse")
    ]


def copies_elsewhere(device: str) -> Iterator[tuple[str, str]]:
    """Processes in whose mount namespace a FUSE mount of this `major:minor` is: each as text, and
    the path by which that mount is reached from here.

    A container or a service that was started while the mount was there has a copy of it, and the
    daemon goes on as long as any copy is there. The kernel gives numbers of mounts that are gone
    to others: who is asked by that path tells. Only root can look into all processes.
    """
    for pid in filter(str.isdigit, os.listdir("/proc")):
        process = Path("/proc", pid)
        try:
            table = (process / "mountinfo").read_bytes()
            name = (process / "comm").read_text(errors="replace").strip()
        except OSError:  # it has ended, or is not ours to look at
            continue
        for mount in parse_mount_table(table):
            if mount.device == device and mount.type.startswith("fuse"):
                yield f"{name} (process {pid})", f"{process}/root{mount.directory}"
                break
