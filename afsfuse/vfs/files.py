"""Open files, and the table of handles."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Generic, TypeVar

from afsfuse.cache.writeback import Writer
from afsfuse.errors import AfsError
from afsfuse.model import FileKind
from afsfuse.vfs import access
from afsfuse.vfs.entry import OpenFile
from afsfuse.vfs.inodes import VnodeNode
from afsfuse.vfs.neighbours import Neighbours
from afsfuse.vfs.writing import WRITING, check_writable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from afsfuse.auth.identity import Caller, Identity
    from afsfuse.cache import CacheManager, ReadState, Vnode
    from afsfuse.vfs.inodes import Node, NodeTable

T = TypeVar("T")


class HandleTable(Generic[T]):
    """Numbers for open things. A number is not used again for as long as the table lives."""

    def __init__(self, first: int, step: int) -> None:
        """Two tables with different `first` below `step` never give the same number."""
        self._next = first
        self._step = step
        self._open: dict[int, T] = {}

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[T]:
        return iter(self._open.values())

    def add(self, thing: T) -> int:
        """A new number for `thing`."""
        handle = self._next
        self._next += self._step
        self._open[handle] = thing
        return handle

    def get(self, handle: int) -> T:
        """What stands behind a number; EBADF if nothing does."""
        try:
            return self._open[handle]
        except KeyError:
            raise AfsError(f"handle {handle} is not open", errno=errno.EBADF) from None

    def find(self, handle: int) -> T | None:
        return self._open.get(handle)

    def pop(self, handle: int) -> T | None:
        """Close it; None if it was not open."""
        return self._open.pop(handle, None)


class FileHandle:
    """One open file. Reading goes on as it began, whatever becomes of its name."""

    __slots__ = ("caller", "node", "stream", "who", "writer")

    def __init__(
        self, node: VnodeNode, caller: Caller, who: Identity, stream: ReadState, flags: int
    ) -> None:
        self.node = node
        self.caller = caller
        """Who opened it; reads come without saying who reads."""
        self.who = who
        """In whose name it is read and written, from whatever process."""
        self.stream = stream
        """The cache's notion of how this handle is being read."""
        self.writer = Writer(who) if flags & WRITING else None
        """... and of what is written through it; None if it is open for reading only."""


class Files:
    """Opening, reading and closing files."""

    def __init__(
        self, cache: CacheManager, nodes: NodeTable, handles: HandleTable[FileHandle]
    ) -> None:
        self._cache = cache
        self._nodes = nodes
        self._handles = handles
        self._neighbours = Neighbours(cache)

    @staticmethod
    def check(node: Node, vnode: Vnode, flags: int) -> None:
        """Refuse what nobody can open, whatever his rights."""
        status = vnode.status
        if not isinstance(node, VnodeNode) or status.kind is FileKind.DIRECTORY:
            raise AfsError(f"{node.path()}: a directory", errno=errno.EISDIR)
        if status.kind is not FileKind.FILE:
            raise AfsError(f"{node.path()}: a symbolic link", errno=errno.ELOOP)
        if flags & os.O_ACCMODE != os.O_WRONLY and not access.mode_allows(status, os.R_OK):
            raise access.refusal(node)
        if flags & WRITING:
            check_writable(node, vnode)

    def open(
        self, node: Node, vnode: Vnode, caller: Caller, who: Identity, flags: int = os.O_RDONLY
    ) -> OpenFile:
        """Open the file that `node` shows, whose current vnode is `vnode`, and which is `check`ed
        and open to `who`.

        The kernel's pages are kept exactly if they are of this data version: it may have changed
        without the kernel having been told yet.
        """
        assert isinstance(node, VnodeNode)
        status = vnode.status
        keep = node.pages_version in (-1, status.data_version)
        fresh = node.pages_version != status.data_version
        node.pages_version = status.data_version
        handle = FileHandle(node, caller, who, self._cache.open_stream(vnode, who), flags)
        node.handles += 1
        if fresh and not flags & (os.O_WRONLY | os.O_TRUNC):
            self._cache.prefetch((vnode,), who)  # the kernel has no pages, so a read comes next
            self._neighbours.opened(node, who)
        return OpenFile(self._handles.add(handle), keep)

    async def read(self, handle: int, offset: int, size: int) -> bytes | memoryview:
        """Up to `size` bytes; less only at the end of the file."""
        opened = self._handles.get(handle)
        node = opened.node
        return await self._cache.read(node.mount.volume, node.fid, offset, size, opened.stream)

    def read_at_once(self, handle: int, offset: int, size: int) -> memoryview | None:
        """The same from what is there; None if that is not enough."""
        opened = self._handles.get(handle)
        vnode = opened.node.vnode
        return None if vnode is None else self._cache.peek_data(vnode, offset, size, opened.stream)

    def release(self, handle: int) -> None:
        """Close a handle. Never raises: there is nobody to tell."""
        opened = self._handles.pop(handle)
        if opened is not None:
            self._cache.close_stream(opened.stream)
            opened.node.handles -= 1
            self._nodes.discard(opened.node)
