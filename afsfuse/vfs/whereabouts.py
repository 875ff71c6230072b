"""Where a path leads, as far as that is in memory: asks no server, and waits for nobody.

So it can be told also, and above all, while a server is dead. Names are followed through what the
kernel holds and through cached directories, mount points through the targets that were found, and
symbolic links by their bodies. Nobody is led into a directory that he is not known to be allowed to
look into, or was when it was last asked about and nobody has taken that back since.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

from afsfuse.cache.doors import LOOK
from afsfuse.interfaces.common import Fid
from afsfuse.model import FileKind
from afsfuse.vfs.dynroot import DynamicLink, DynamicRoot
from afsfuse.vfs.inodes import Node, VnodeNode
from afsfuse.vfs.mountpoints import MountPoint

if TYPE_CHECKING:
    from afsfuse.auth.identity import Identity
    from afsfuse.cache import CacheManager, Vnode
    from afsfuse.cell.volumes import Volume
    from afsfuse.vfs.dynroot import CellRoots

LINKS_MAX = 40
"""Symbolic links in one path. Source: MAXSYMLINKS in linux/namei.h"""


class Ending(enum.Enum):
    """Why a path was followed no further."""

    FOUND = "found"
    UNKNOWN = "unknown"  # nothing of the next name is in memory
    ABSENT = "absent"  # the directory, as it was last seen, has no such name
    CLOSED = "closed"  # it is not known that who asks may look into the directory
    UNRESOLVED = "unresolved"  # it is not known where the mount point leads
    LEAVES = "leaves"  # a symbolic link leads out of the mount
    LOOP = "loop"  # too many symbolic links
    NO_DIRECTORY = "no directory"  # a name is looked up in what is none


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """How far a path was followed, and what is there."""

    path: bytes
    """From the mount's root, links replaced."""
    rest: bytes
    """What could not be followed; after `LEAVES`, what to go on with, from the link's target."""
    ending: Ending
    volume: Volume | None
    """The one in which the last thing is that was reached; None for what is made up."""
    vnode: Vnode | None
    """What was reached, as far as it is known."""
    point: MountPoint | None
    """The mount point through which its volume was entered, or that leads nowhere yet."""


class _Spot:
    """One place on the way."""

    __slots__ = ("node", "point", "vnode", "volume")

    def __init__(
        self,
        node: Node | None,
        vnode: Vnode | None,
        volume: Volume | None,
        point: MountPoint | None,
    ) -> None:
        self.node = node
        self.vnode = vnode
        self.volume = volume
        self.point = point


class Tracker:
    """Follows paths of one mount."""

    def __init__(self, root: Node, roots: CellRoots, cache: CacheManager) -> None:
        self._root = root
        self._roots = roots
        self._cache = cache

    def follow(self, path: bytes, who: Identity) -> Whereabouts:
        """Where a path from the mount's root leads for an identity. Free of await."""
        spots = [self._at_root()]
        names = [name for name in path.split(b"/") if name not in (b"", b".")]
        done: list[bytes] = []
        links = 0
        while names:
            if names[0] == b"..":
                names.pop(0)
                if done:
                    done.pop()
                    spots.pop()
                continue
            here = spots[-1]
            step = self._step(here, names[0], who)
            if isinstance(step, Ending):
                return self._told(here, done, names, step)
            name = names.pop(0)
            body = self._link(step)
            if body is None:
                spots.append(step)
                done.append(name)
                continue
            links += 1
            if links > LINKS_MAX:
                return self._told(here, done, [name, *names], Ending.LOOP)
            if body.startswith(b"/"):
                return self._told(here, done, [body, *names], Ending.LEAVES)
            names = [part for part in body.split(b"/") if part not in (b"", b".")] + names
        return self._told(spots[-1], done, [], self._arrived(spots[-1]))

    @staticmethod
    def _told(here: _Spot, done: list[bytes], rest: list[bytes], ending: Ending) -> Whereabouts:
        return Whereabouts(
            b"/" + b"/".join(done), b"/".join(rest), ending, here.volume, here.vnode, here.point
        )

    @staticmethod
    def _arrived(spot: _Spot) -> Ending:
        unresolved = isinstance(spot.node, MountPoint) and spot.node.target is None
        return Ending.UNRESOLVED if unresolved else Ending.FOUND

    def _at_root(self) -> _Spot:
        return self._spot(self._root, None)

    def _spot(self, node: Node, around: MountPoint | None) -> _Spot:
        """The place that a node stands for; a mount point stands for its target."""
        if isinstance(node, MountPoint):
            volume = node.target.volume if node.target is not None else None
            return _Spot(node, node.vnode, volume, node)
        if isinstance(node, VnodeNode):
            return _Spot(node, node.vnode, node.mount.volume, around)
        return _Spot(node, None, None, None)

    def _step(self, here: _Spot, name: bytes, who: Identity) -> _Spot | Ending:
        """From a directory to a name in it, or why not."""
        node = here.node
        if isinstance(node, DynamicRoot):
            child = self._roots.known(name)
            return Ending.UNKNOWN if child is None else self._spot(child, None)
        if isinstance(node, MountPoint) and node.target is None:
            return Ending.UNRESOLVED
        vnode, volume = here.vnode, here.volume
        if vnode is None or volume is None:
            return Ending.UNKNOWN
        if vnode.status.kind is not FileKind.DIRECTORY:
            return Ending.NO_DIRECTORY
        if not self._cache.doors.let_in_lately(vnode, LOOK, who):
            return Ending.CLOSED
        held = node.names.get(name) if node is not None and node.names else None
        if held is not None:
            return self._spot(held, here.point)
        if vnode.directory is None:
            return Ending.UNKNOWN
        found = vnode.directory.find(name)
        if found is None:
            return Ending.ABSENT
        below = self._cache.peek(volume, Fid(vnode.fid.volume, *found))
        if below is None or below.status.kind is FileKind.MOUNTPOINT:
            return Ending.UNKNOWN
        return _Spot(None, below, volume, here.point)

    def _link(self, spot: _Spot) -> bytes | None:
        """The body of a symbolic link, if it is one and its body is known."""
        if isinstance(spot.node, DynamicLink):
            return spot.node.body
        vnode = spot.vnode
        if vnode is None or vnode.status.kind is not FileKind.SYMLINK or vnode.link is None:
            return None
        return vnode.link[1]
