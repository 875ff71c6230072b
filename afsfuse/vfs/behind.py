"""What stands behind an inode number that somebody names beside the kernel's requests.

Commands hold a path open and name its inode to the daemon. Nobody is told more of it than he
could see through the mount: whoever guesses a number is judged as whoever asks for a path.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from afsfuse.errors import NotPermitted
from afsfuse.vfs.dynroot import MadeUp
from afsfuse.vfs.mountpoints import MountPoint

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from afsfuse.auth.identity import Identity
    from afsfuse.cache import Vnode
    from afsfuse.interfaces.common import Fid
    from afsfuse.model import Inode
    from afsfuse.vfs.inodes import Mount, Node, NodeTable
    from afsfuse.vfs.lookups import Lookups


class Behind(NamedTuple):
    """A node that is on a server, and what it shows; of a mount point its target's root."""

    node: Node
    mount: Mount
    fid: Fid
    vnode: Vnode
    who: Identity
    """Who asks, and may see it."""


class Finder:
    """Finds what is behind inode numbers."""

    def __init__(
        self,
        nodes: NodeTable,
        lookups: Lookups,
        require_sight: Callable[[Node, Identity], Awaitable[None]],
    ) -> None:
        """`require_sight` raises `NotPermitted` for whom a node may not be shown."""
        self._nodes = nodes
        self._lookups = lookups
        self._require_sight = require_sight

    async def node(self, inode: Inode, who: Identity) -> Node:
        """The node of a number, which `who` may see; a mount point is not entered for it.

        `StaleInode` for a number that is not known, `NotPermitted`, and other `AfsError`s when
        nobody can say whether it may be seen.
        """
        node = self._nodes.get(inode)
        if not isinstance(node, MadeUp):
            await self._require(node, who)
        return node

    async def find(self, inode: Inode, who: Identity) -> Behind | None:
        """What a number stands for; None for what is made up, the list of all cells. Raises as
        `node`, and whatever entering a mount point raises.
        """
        node = self._nodes.get(inode)
        if isinstance(node, MadeUp):
            return None
        if isinstance(node, MountPoint):
            await self._require(node, who)  # where it leads, and why it does not, is told as well
        mount, fid = await self._lookups.place(node, who)
        vnode = await self._lookups.vnode(node, who)
        await self._require(node, who)
        return Behind(node, mount, fid, vnode, who)

    async def _require(self, node: Node, who: Identity) -> None:
        """`NotPermitted` for whom a node may not be shown, who is not told its path either."""
        try:
            await self._require_sight(node, who)
        except NotPermitted as exc:
            error = exc.again()
            error.message = error.message.removeprefix(f"{node.path()}: ")
            raise error from None
