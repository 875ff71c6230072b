"""Open directories: opened in somebody's name, and listed from then on in that."""

from __future__ import annotations

from typing import TYPE_CHECKING

from afsfuse.errors import NotPermitted
from afsfuse.vfs import access
from afsfuse.vfs.dynroot import DynamicRoot
from afsfuse.vfs.files import HandleTable
from afsfuse.vfs.listings import DirectoryHandle, DirectoryReader, RootHandle

if TYPE_CHECKING:
    from afsfuse.auth.identity import Caller, Identity
    from afsfuse.cache import CacheManager
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
        return self.handles.add(handle)

    def release(self, handle: int) -> None:
        """Close a directory. Never raises."""
        opened = self.handles.pop(handle)
        if opened is not None:
            opened.close()
            self._holders.remove(opened.node, opened.who)
            self._nodes.discard(opened.node)
