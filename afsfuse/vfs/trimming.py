"""Keeping the number of nodes within bounds.

The kernel remembers files as long as it has memory, which may be much more than ours, and each of
them costs a node and a vnode here, about a kibibyte together. Only the kernel can let go of them.
So when there are too many, it is asked to forget the names of files that it was given longest ago;
references come back in its own time.

Directories are left alone: a process that works in one would lose its path. Open files, too,
since it would gain nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from afsfuse.vfs.inodes import VnodeNode

if TYPE_CHECKING:
    from afsfuse.vfs.inodes import Node, NodeTable
    from afsfuse.vfs.invalidation import KernelNotifier

_PAUSE = 1.0  # seconds: the kernel needs time to give references back
_SHARE = 16  # one part in so many goes beyond what is too much, so that trimming is rare


class Trimmer:
    """Asks the kernel to forget."""

    def __init__(self, nodes: NodeTable, notifier: KernelNotifier, limit: int) -> None:
        """`limit`: nodes above which trimming begins."""
        self._nodes = nodes
        self._notifier = notifier
        self._limit = limit
        self._next = 0.0

    def trim(self) -> None:
        """To be called whenever there may be more nodes than before. Cheap when there is room."""
        excess = len(self._nodes) - self._limit
        if excess <= 0:
            return
        now = trio.current_time()
        if now < self._next:
            return
        self._next = now + _PAUSE
        for node in self._nodes.oldest(excess + self._limit // _SHARE):
            if isinstance(node, VnodeNode) and not node.is_directory and not node.handles:
                self._ask(node)

    def _ask(self, node: Node) -> None:
        for parent, name in node.places():
            self._nodes.unhold(parent, name)
            self._notifier.invalidate_name(parent.inode, name)
