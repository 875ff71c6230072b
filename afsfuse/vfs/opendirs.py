"""Open directories: opened in somebody's name, and listed from then on in that."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from afsfuse.errors import NotPermitted
from afsfuse.vfs import access
from afsfuse.vfs.dynroot import DynamicRoot
from afsfuse.vfs.entry import KEPT, LISTED
from afsfuse.vfs.files import HandleTable
from afsfuse.vfs.listings import DirectoryHandle, DirectoryReader, RootHandle
from afsfuse.vfs.mountpoints import MountPoint

if TYPE_CHECKING:
    from afsfuse.auth.identity import Caller, Identity
    from afsfuse.cache import CacheManager, Directory
    from afsfuse.model import Inode
    from afsfuse.vfs.background import Background
    from afsfuse.vfs.dynroot import CellRoots
    from afsfuse.vfs.files import Holders
    from afsfuse.vfs.inodes import Node, NodeTable
    from afsfuse.vfs.lookups import Lookups


class OpenDirectories:
    """All of a mount, by their handles."""

    def __init__(
        self,
        cache: CacheManager,
        nodes: NodeTable,
        lookups: Lookups,
        roots: CellRoots,
        background: Background,
        holders: Holders,
    ) -> None:
        self._cache = cache
        self._nodes = nodes
        self._lookups = lookups
        self._roots = roots
        self._holders = holders
        self._reader = DirectoryReader(cache, nodes, lookups, background)
        self._listed: dict[Inode, tuple[int, int]] = {}
        """Of which version the kernel keeps what is listed now, and through how many handles."""
        self.handles: HandleTable[DirectoryHandle | RootHandle] = HandleTable(first=2, step=2)

    async def open(self, node: Node, caller: Caller, who: Identity) -> int:
        """Open a directory; a mount point is entered."""
        handle: DirectoryHandle | RootHandle
        if isinstance(node, DynamicRoot):
            handle = RootHandle(node, self._roots, self._reader, caller, who)
        else:
            mount, fid = await self._lookups.place(node, who)
            try:
                directory = await self._cache.directory(mount.volume, fid, who)
            except NotPermitted as exc:
                raise access.refusal(node, exc) from None
            await self._lookups.vnode(node, who)
            handle = DirectoryHandle(node, mount, fid, directory, caller, who, self._reader)
        self._holders.add(node, who)
        marks = self._marks(node, directory) if isinstance(handle, DirectoryHandle) else 0
        return self.handles.add(handle, marks)

    def _marks(self, node: Node, directory: Directory) -> int:
        """What the kernel may keep of the listing that begins. Free of await.

        It puts together what it is given through any handle. So nothing may be kept as long as an
        older version is listed, too.
        """
        version, handles = self._listed.get(node.inode, (directory.data_version, 0))
        if version != directory.data_version:
            return 0
        self._listed[node.inode] = version, handles + 1
        kept = node.pages_version == version and _is_known(node, directory)
        node.pages_version = version
        return LISTED | KEPT if kept else LISTED

    def release(self, handle: int) -> None:
        """Close a directory. Never raises."""
        opened = self.handles.pop(handle)
        if opened is not None:
            opened.close()
            if handle & LISTED:
                version, handles = self._listed.pop(opened.node.inode)
                if handles > 1:
                    self._listed[opened.node.inode] = version, handles - 1
            self._holders.remove(opened.node, opened.who)
            self._nodes.discard(opened.node)


def _is_known(node: Node, directory: Directory) -> bool:
    """Whether the kernel has nearly all that stands in a directory, and nobody need be asked.

    If it has to ask for much, it shall list anew: then we ask for that in bulk. And names of mount
    points are kept for a short time: to look them up, one by one, would use the trees behind them.
    """
    now = trio.current_time()
    wanted = len(directory) - len((b".", b".."))
    known = 0
    for child in (node.names or {}).values():
        if isinstance(child, MountPoint):
            return False
        known += child.vnode is not None and child.vnode.valid(now)
    return known >= wanted - wanted // 8
