"""Giving the kernel a name back that it was told to forget, although somebody is below it.

Who is in a tree that is let go, and was not seen, has lost the path: `getcwd` fails for him when he
is at its root. And the kernel has nothing left by which the tree could be let go later: what is
below a name that was dropped it finds through that name only. Both end when the name is looked up
again. Nobody may do that for long, so the daemon does, on its own mount.

If the name is gone for good, because the mount point was removed or another one is there now, the
kernel is told to forget the names below it instead, which have no path any more in any case.

It may have no right to look into the directories on the way. So its walk is answered here, from
what the kernel holds in any case, and with nothing that it may keep.
"""

from __future__ import annotations

import errno
import logging
from typing import TYPE_CHECKING, NamedTuple

from afsfuse.vfs.inodes import ROOT_INODE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from afsfuse.auth.identity import Caller
    from afsfuse.model import Inode
    from afsfuse.vfs.background import Background
    from afsfuse.vfs.entry import Entry
    from afsfuse.vfs.inodes import Node, NodeTable
    from afsfuse.vfs.invalidation import KernelNotifier, Settle
    from afsfuse.vfs.lookups import Lookups

log = logging.getLogger(__name__)

_REMOVED = (errno.ENOENT, errno.ENOTDIR)


class _Walked(NamedTuple):
    """A path from the root of the mount."""

    path: bytes
    steps: dict[tuple[Inode, bytes], Node]
    """What stands at each name of it."""


async def no_walk(path: bytes, started: Callable[[int], object]) -> None:
    """No kernel mounts it, so there is nothing to be mended."""


class Mender:
    """Of one mount."""

    def __init__(
        self,
        nodes: NodeTable,
        lookups: Lookups,
        background: Background,
        notifier: KernelNotifier,
        settle: Settle | None = None,
    ) -> None:
        """`settle` waits until the kernel has done what it was told about some inodes, with a
        bound.
        """
        self._settle = settle
        self._nodes = nodes
        self._lookups = lookups
        self._background = background
        self._notifier = notifier
        self._walks: dict[Node, _Walked] = {}
        self._walkers: dict[int, _Walked] = {}  # by thread
        self.walk: Callable[[bytes, Callable[[int], object]], Awaitable[None]] = no_walk
        """Walks a path of the mount in a thread, whose number it tells first. See
        `afsfuse.fuse.session`."""

    def mend(self, node: Node) -> None:
        """Have the kernel look a directory up where it was, in the background."""
        walked = _steps_to(node)
        if walked is None:
            self._drop_below(node)
        elif node not in self._walks:
            self._walks[node] = walked
            self._background.start(self._mend, node, walked)

    async def _mend(self, node: Node, walked: _Walked) -> None:
        walkers: list[int] = []

        def started(thread: int) -> None:  # in that thread
            walkers.append(thread)
            self._walkers[thread] = walked

        try:
            if self._settle is not None:  # else the name could be dropped after this
                await self._settle([inode for inode, _ in walked.steps])
            await self.walk(walked.path, started)
        except OSError as exc:
            log.debug("%s is not looked up again: %s", node.path(), exc.strerror)
            if exc.errno in _REMOVED:
                self._drop_below(node)
        finally:
            del self._walks[node]
            for thread in walkers:
                del self._walkers[thread]

    def _drop_below(self, node: Node) -> None:
        """There is no way back, as it was removed: the kernel shall forget what it holds below."""
        for name in [*(node.names or ())]:
            self._nodes.unhold(node, name)
            self._notifier.invalidate_name(node.inode, name)

    def answer(self, parent: Inode, name: bytes, caller: Caller) -> Entry | None:
        """What a lookup of our own gets; None if it is somebody else's. No use of any tree."""
        walked = self._walkers.get(caller.tid)
        node = None if walked is None else walked.steps.get((parent, name))
        if node is None or self._nodes.find(node.inode) is not node:
            return None
        above = self._nodes.peek(parent)
        return self._lookups.again(above, name, node) if _is_free(above, name, node) else None


def _is_free(above: Node, name: bytes, node: Node) -> bool:
    """Whether the kernel has nothing else under a name: that must not lose its path instead."""
    return (above.names or {}).get(name, node) is node


def _steps_to(node: Node) -> _Walked | None:
    """How a node is reached from the root; None if it is not, as something else is there now."""
    names: list[bytes] = []
    steps: dict[tuple[Inode, bytes], Node] = {}
    while node.inode != ROOT_INODE:
        above = node.parent
        if above is None or (above.inode, node.name) in steps:
            return None
        if not _is_free(above, node.name, node):
            return None
        steps[above.inode, node.name] = node
        names.append(node.name)
        node = above
    return _Walked(b"/".join(reversed(names)), steps)
