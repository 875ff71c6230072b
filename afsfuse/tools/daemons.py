"""Which daemon serves a path, and what the path is there.

`of(path)` opens it, without a right beyond those of looking it up, and so keeps it known to the
daemon for as long as it is asked about::

    with daemons.of(path) as served:
        answer = served.ask("volume")

The daemon's end of such a verb begins with `control.paths.Paths.find`. `around(path)` opens nothing
and asks nobody but the daemon: it goes by the mount table, and is of use when a server is dead.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from afsfuse import mounttable
from afsfuse.control.places import ANSWER_SECONDS, places
from afsfuse.errors import ControlRefused, NoDaemon, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from afsfuse.control.places import Daemon

EXIT_FAILED = 1


class Elsewhere(UsageError):
    """A path is in no mount of ours, or nobody can be asked about it."""

    def __init__(self, message: str) -> None:
        super().__init__(message, exit_code=EXIT_FAILED)


class Served:
    """A path and its daemon."""

    def __init__(self, path: str, daemon: Daemon, device: str, inode: int, directory: str) -> None:
        self.path = path
        """As it was given."""
        self.directory = directory
        """Where the daemon's mount is."""
        self.inode = inode
        self._daemon = daemon
        self._device = device

    def ask(self, verb: str, **arguments: object) -> dict[str, Any]:
        """Have the daemon do something with the path. Raises `ControlRefused`, `NoDaemon`."""
        return self._daemon.ask(verb, device=self._device, inode=self.inode, **arguments)


@contextlib.contextmanager
def of(path: str, *, follow: bool = True) -> Iterator[Served]:
    """What serves a path; of a symbolic link it is what it leads to, unless not to `follow`.

    Raises `Elsewhere` for what is in no mount of ours, OSError for what cannot be looked up.
    """
    flags = os.O_PATH | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
    descriptor = os.open(path, flags)
    try:
        found = os.fstat(descriptor)
        device = f"{os.major(found.st_dev)}:{os.minor(found.st_dev)}"
        daemon, directory = _serving(device, path)
        yield Served(path, daemon, device, found.st_ino, directory)
    finally:
        os.close(descriptor)


def around(path: str) -> tuple[Daemon, str]:
    """The daemon whose mount a path is below, by its name alone; the path from the mount's root.

    Symbolic links are not followed and nothing is looked up. Raises `Elsewhere`.
    """
    whole = os.fsencode(os.path.abspath(path))
    best: tuple[bytes, bytes, str] | None = None  # where, what of it, its device
    for line in _mount_table():
        where, what = line.point, line.root
        inside = whole == where or whole.startswith(where.rstrip(b"/") + b"/")
        if inside and (best is None or len(where) >= len(best[0])):
            best = where, what, line.device
    if best is None:
        raise _elsewhere(path)
    where, what, device = best
    daemon, _ = _serving(device, path)
    below = what.rstrip(b"/") + whole[len(where.rstrip(b"/")) :]
    return daemon, os.fsdecode(below) or "/"


def fuse_mounts() -> set[str]:
    """Where FUSE file systems are mounted: nothing below these can be looked at without waiting."""
    return {os.fsdecode(line.point) for line in _mount_table() if line.type.startswith("fuse")}


def _mount_table() -> list[mounttable.Line]:
    return mounttable.parse(Path("/proc/self/mountinfo").read_bytes())


def _serving(device: str, path: str) -> tuple[Daemon, str]:
    """The daemon of a device, and where that is mounted. Raises `Elsewhere`."""
    silent = False
    for daemon in (daemon for place in places() for daemon in place.daemons()):
        try:
            answer = daemon.ask("serves", ANSWER_SECONDS)
        except NoDaemon:
            continue
        except ControlRefused:  # an older one, or one that is stuck
            silent = True
            continue
        if answer["device"] == device:
            return daemon, answer["directory"]
    if silent:
        raise Elsewhere(f"{path}: not served by any daemon that answers: see their logs")
    raise _elsewhere(path)


def _elsewhere(path: str) -> Elsewhere:
    return Elsewhere(f"{path}: not in an AFS file system that afsfuse has mounted")
