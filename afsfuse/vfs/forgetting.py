"""Having the kernel and our nodes forget what somebody has changed beside it: names, targets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from afsfuse.errors import AfsError
from afsfuse.vfs.inodes import ROOT_INODE
from afsfuse.vfs.mountpoints import MountPoint
from afsfuse.vfs.names import NAME_MAX, SYS_SUFFIX

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from afsfuse.vfs.inodes import Node, NodeTable
    from afsfuse.vfs.invalidation import KernelNotifier

SYSNAMES_MAX = 16
"""Source: MAXNUMSYSNAMES in afs.h."""


class Forgetting:
    """Of one mount."""

    def __init__(
        self,
        nodes: NodeTable,
        notifier: KernelNotifier,
        sysnames: list[bytes],
        settle: Callable[[None], Awaitable[object]] | None = None,
    ) -> None:
        """`sysnames` is the very list that `VfsOptions` has; `settle` waits until the kernel has
        done all that it was told, with a bound.
        """
        self._settle = settle
        self._nodes = nodes
        self._notifier = notifier
        self._sysnames = sysnames

    @property
    def sysnames(self) -> tuple[bytes, ...]:
        """What `@sys` stands for."""
        return tuple(self._sysnames)

    def set_sysnames(self, names: Sequence[bytes]) -> None:
        """Have `@sys` stand for these, in their order. `AfsError` for what no name can be."""
        if not 0 < len(names) <= SYSNAMES_MAX:
            raise AfsError(f"@sys stands for 1 to {SYSNAMES_MAX} names")
        for name in names:
            if not 0 < len(name) <= NAME_MAX or b"/" in name or b"\0" in name or name[:1] == b".":
                raise AfsError(f"{name.decode(errors='backslashreplace')!r} cannot be a name")
        self._sysnames[:] = names
        for node in self._nodes:
            held = [name for name in (*(node.names or ()), *(node.absent or ()))]
            for name in held:
                if name.endswith(SYS_SUFFIX):
                    self._drop(node, name)

    def cell_changed(self, name: str) -> None:
        """A name in the list of cells means something else, if the kernel has it."""
        root = self._nodes.find(ROOT_INODE)
        assert root is not None
        for each in (name.encode(), b"." + name.encode()):
            self._drop(root, each)

    def target(self, point: MountPoint) -> None:
        """Ask anew where a mount point leads, when somebody enters it the next time."""
        point.checked_until = 0.0
        point.failure = None
        if point.fid is not None:
            point.spec = None
        self._notifier.invalidate_attributes(point.inode)

    def all_targets(self) -> None:
        """The same for all mount points, but for what they say themselves."""
        for node in self._nodes:
            if isinstance(node, MountPoint):
                node.checked_until = 0.0
                node.failure = None

    async def settled(self) -> None:
        """Wait, within a bound, until the kernel has forgotten what it was told to forget."""
        if self._settle is not None:
            await self._settle(None)

    def _drop(self, node: Node, name: bytes) -> None:
        if self._nodes.unhold(node, name):
            self._notifier.invalidate_name(node.inode, name)
