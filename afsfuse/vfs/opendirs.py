"""Open directories: opened in somebody's name, and listed from then on in that."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

import trio

from afsfuse.errors import NotPermitted
from afsfuse.vfs import access
from afsfuse.vfs.dynroot import DynamicRoot
from afsfuse.vfs.entry import KEPT, LISTED
from afsfuse.vfs.files import HandleTable
from afsfuse.vfs.inodes import MIXED_PAGES
from afsfuse.vfs.listings import DirectoryHandle, DirectoryReader, RootHandle

if TYPE_CHECKING:
    from afsfuse.auth.identity import Caller, Identity
    from afsfuse.cache import CacheManager, Directory
    from afsfuse.model import Inode
    from afsfuse.vfs.background import Background
    from afsfuse.vfs.dynroot import CellRoots
    from afsfuse.vfs.files import Holders
    from afsfuse.vfs.inodes import Node, NodeTable
    from afsfuse.vfs.lookups import Lookups

_SAMPLE = 512  # names of a directory that are looked at when it is opened, or up to twice as many


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
        self._listed: dict[Inode, tuple[Directory, int, int]] = {}
        """What is listed now for the kernel to keep, of which version, through how many handles."""
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

        It puts together what it is given through any handle. So nothing may be kept as long as
        something older is listed, too: another version, or another directory, which may well be of
        the same version, as when the volume was restored or another one has taken its place.
        """
        version = directory.data_version
        known, listed, handles = self._listed.get(node.inode, (directory, version, 0))
        if known is not directory or listed != version or version < 0:
            return 0  # below 0: the volume was replaced a moment ago
        if handles and node.pages_version == MIXED_PAGES:
            return 0  # who lists it now may give the kernel more that is not to be kept
        self._listed[node.inode] = directory, version, handles + 1
        kept = node.pages_version == version and _is_known(node, directory)
        node.pages_version = version
        return LISTED | KEPT if kept else LISTED

    def release(self, handle: int) -> None:
        """Close a directory. Never raises."""
        opened = self.handles.pop(handle)
        if opened is not None:
            opened.close()
            if handle & LISTED:
                directory, version, handles = self._listed.pop(opened.node.inode)
                if handles > 1:
                    self._listed[opened.node.inode] = directory, version, handles - 1
            self._holders.remove(opened.node, opened.who)
            self._nodes.discard(opened.node)


def _is_known(node: Node, directory: Directory) -> bool:
    """Whether the kernel has nearly all that stands in a directory, and nobody need be asked.

    If it has to ask for much, it shall list anew: then we ask for that in bulk. Of many names a
    sample is looked at: a directory is opened not only to be listed, and one of 60,000 names is not
    to cost 6 ms each time.
    """
    names = node.names or {}
    wanted = len(directory) - len((b".", b".."))
    enough = wanted - wanted // 8
    if len(names) < enough:
        return False
    now = trio.current_time()
    step = 1 + len(names) // _SAMPLE
    sample = [child.vnode for child in islice(names.values(), 0, None, step)]
    valid = sum(vnode is not None and vnode.valid(now) for vnode in sample)
    return valid * len(names) >= enough * len(sample)
