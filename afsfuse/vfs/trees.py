"""Trees: the mounts that were entered, which of them nobody uses, and who keeps the others.

A *tree* is one mount, a volume at one place of the tree of names, with all that hangs on it: the
nodes that the kernel holds, the vnodes that these show, the promises of the servers for them. The
tree below a mount point inside it is a tree of its own, its child.

Trees expire like those of the kernel's own AFS client: at the ticks of a timer each tree is marked,
any use takes the mark off, and a tree whose mark is still there at the next tick goes, children
before their parents. So a tree goes when it was idle for one to two times the timer's period.
Source: mark_mounts_for_expiry in fs/namespace.c of Linux, afs_mntpt_expiry_timer in fs/afs/mntpt.c.

What counts as use is a request about anything in the tree. The kernel answers much from its own
caches, but a path that leads into a tree leads over its mount point, whose name the kernel is let
believe for a small part of the period only (`name_timeout`). Whoever is inside already, with an
open file or a working directory, uses the tree without any request: that is looked for when a tree
is about to go (`Keep`).

Nothing here awaits, knows a clock or makes a call.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from afsfuse.cell.tables import compacted

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from afsfuse.cell.volumes import Volume
    from afsfuse.vfs.inodes import Mount

_ROOT = 1  # the number of the root's inode, which `inodes` builds on this file and names
_SHARE = 8  # a mount point's name is believed for one part in so many of the period of expiry


def name_timeout(expire: float) -> float:
    """For how many seconds the kernel may believe the name of a mount point without asking again.

    What it does with the name in that time is not seen. `expire`: seconds between two ticks; 0:
    trees do not expire, and it may believe it for as long as it is true.
    """
    return expire / _SHARE if expire else math.inf


class Keep(NamedTuple):
    """Why a tree may not go."""

    what: str
    """`open file`, `working directory`, `mount`, `unwritten data` and so on."""
    who: str = ""
    """For people: which process, or which file."""
    uid: int | None = None
    """Whose process it is, if it is one: others are not told of it."""


class Survey(NamedTuple):
    """How processes use a mount without any request: see `afsfuse.fuse.usage`."""

    inodes: list[tuple[int, Keep]]
    """Inodes that are in use as working or root directories."""
    paths: list[tuple[bytes, Keep]]
    """The same by paths from the root of the mount: what other mounts show or stand on."""
    unseen: list[Keep]
    """Processes that may be anywhere: nothing is known of them."""


class Trees:
    """All mounts that were entered and not left yet."""

    def __init__(self) -> None:
        self._trees: dict[Mount, None] = {}
        self._shown: Counter[Volume] = Counter()  # in how many trees
        self._bare: dict[Volume, None] = {}  # shown in none since the last tick
        self._bare_before: dict[Volume, None] = {}  # ... since the one before

    def __len__(self) -> int:
        return len(self._trees)

    def __iter__(self) -> Iterator[Mount]:
        """All of them; none must be entered or left meanwhile."""
        return iter(self._trees)

    def __contains__(self, tree: object) -> bool:
        return tree in self._trees

    def entered(self, tree: Mount) -> None:
        """A mount point was resolved; that is a use."""
        if tree not in self._trees:
            self._trees[tree] = None
            self._shown[tree.volume] += 1
            self._bare.pop(tree.volume, None)
            self._bare_before.pop(tree.volume, None)

    def left(self, tree: Mount) -> None:
        """A mount point is gone, or leads elsewhere."""
        if tree not in self._trees:
            return
        del self._trees[tree]
        volume = tree.volume
        self._shown[volume] -= 1
        if not self._shown[volume]:
            del self._shown[volume]
            self._bare[volume] = None

    def compact(self) -> None:
        """Give back the room of trees that have gone."""
        self._trees = compacted(self._trees)
        self._shown = compacted(self._shown)
        self._bare = compacted(self._bare)
        self._bare_before = compacted(self._bare_before)

    def shown(self, volume: Volume) -> bool:
        """Whether any tree shows a volume."""
        return volume in self._shown

    def released(self, volume: Volume) -> None:
        """Nothing is kept of a volume any more."""
        self._bare.pop(volume, None)
        self._bare_before.pop(volume, None)

    def sweep(self, now: float) -> None:
        """Note which trees were used since the last time."""
        for tree in self._trees:
            if tree.used:
                tree.used = False
                tree.idle_since = now

    def bare_volumes(self) -> list[Volume]:
        """To be asked once a tick: the volumes that were in no tree at the last one either.

        The kernel forgets trees of its own accord when it is short of memory.
        """
        due = list(self._bare_before)
        self._bare_before = self._bare
        self._bare = {}
        return due

    def children(self) -> dict[Mount, list[Mount]]:
        """The trees directly below each tree that has any."""
        children: dict[Mount, list[Mount]] = {}
        for tree in self._trees:
            around = tree.around
            if around is not None:
                children.setdefault(around, []).append(tree)
        return children

    def below(self, tree: Mount) -> list[Mount]:
        """A tree and all below it, each behind those below it."""
        children = self.children()
        found = [tree]
        for each in found:
            found += children.get(each, ())
        return found[::-1]

    def idle(self, before: float, kept: Collection[Mount]) -> list[Mount]:
        """The trees that may go, each behind all those below it.

        `before`: they must not have been used from then on; `kept`: those that must stay, and with
        them all trees around them. Call `sweep` first.
        """
        order = [tree for tree in self._trees if tree.around is None]
        children = self.children()
        for tree in order:
            order += children.get(tree, ())
        staying = set(kept)
        due: list[Mount] = []
        for tree in reversed(order):
            if tree in staying or tree.used or tree.idle_since >= before or is_top(tree):
                around = tree.around
                if around is not None:
                    staying.add(around)
            else:
                due.append(tree)
        return due


def is_top(tree: Mount) -> bool:
    """Whether a tree is the whole FUSE mount, which only `umount` ends."""
    return tree.point.inode == _ROOT


def depth(tree: Mount) -> int:
    """In how many trees a tree stands."""
    count = 0
    around = tree.around
    while around is not None:
        count += 1
        around = around.around
    return count


def nesting(tree: Mount | None, volume: Volume) -> int:
    """How often a volume is shown by a tree and those around it."""
    count = 0
    while tree is not None:
        count += tree.volume is volume
        tree = tree.around
    return count
