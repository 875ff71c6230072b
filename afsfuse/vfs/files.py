"""Open files, and the table of handles."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Generic, TypeVar

from afsfuse.cache.writeback import Writer
from afsfuse.errors import AfsError, NotPermitted
from afsfuse.model import FileKind, VolumeType
from afsfuse.vfs import access
from afsfuse.vfs.entry import READS_ONLY, UNFLUSHED, OpenFile
from afsfuse.vfs.inodes import NO_PAGES, VnodeNode
from afsfuse.vfs.neighbours import Neighbours
from afsfuse.vfs.writing import WRITING, check_writable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from afsfuse.auth.identity import Caller, Identity
    from afsfuse.cache import CacheManager, ReadState, Vnode
    from afsfuse.model import Inode
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

    def add(self, thing: T, marks: int = 0) -> int:
        """A new number for `thing`; `marks` are bits of it that mean something, from 61 on."""
        handle = self._next | marks
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


class Holders:
    """Who has which nodes open. Asked whenever somebody may not see a node, so it must not take
    longer when a user has many things open.
    """

    def __init__(self) -> None:
        self._times: dict[tuple[Inode, Identity], int] = {}

    def add(self, node: Node, who: Identity) -> None:
        """It is open once more; the node stays as long."""
        node.handles += 1
        key = (node.inode, who)
        self._times[key] = self._times.get(key, 0) + 1

    def remove(self, node: Node, who: Identity) -> None:
        """The inverse."""
        node.handles -= 1
        key = (node.inode, who)
        if self._times[key] > 1:
            self._times[key] -= 1
        else:
            del self._times[key]

    def has(self, node: Node, who: Identity) -> bool:
        """Whether an identity has a node open."""
        return (node.inode, who) in self._times


class FileHandle:
    """One open file. Reading goes on as it began, whatever becomes of its name."""

    __slots__ = ("appends", "caller", "node", "stream", "who", "writer")

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
        self.appends = bool(flags & os.O_APPEND)
        """Whether it was opened to write at the end, wherever the kernel believes that to be."""


class Files:
    """Opening, reading and closing files."""

    def __init__(
        self,
        cache: CacheManager,
        nodes: NodeTable,
        handles: HandleTable[FileHandle],
        holders: Holders,
    ) -> None:
        self._cache = cache
        self._nodes = nodes
        self._handles = handles
        self._holders = holders
        self._neighbours = Neighbours(cache)
        self.local_locks = True
        """Whether the kernel keeps all locks itself."""

    @staticmethod
    def check(node: Node, vnode: Vnode, flags: int) -> None:
        """Refuse what nobody can open, whatever his rights."""
        status = vnode.status
        if not isinstance(node, VnodeNode) or status.kind is FileKind.DIRECTORY:
            raise AfsError(f"{node.path()}: a directory", errno=errno.EISDIR)
        if status.kind is not FileKind.FILE:
            raise AfsError(f"{node.path()}: a symbolic link", errno=errno.ELOOP)
        if flags & os.O_ACCMODE != os.O_WRONLY and not access.mode_allows(status, os.R_OK):
            raise NotPermitted(f"{node.path()}: its mode does not let anybody read it")
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
        keep = node.pages_version in (NO_PAGES, status.data_version)
        fresh = node.pages_version != status.data_version
        node.pages_version = status.data_version
        handle = FileHandle(node, caller, who, self._cache.open_stream(vnode, who), flags)
        self._holders.add(node, who)
        if fresh and status.length and not flags & (os.O_WRONLY | os.O_TRUNC):
            self._cache.prefetch((vnode,), who)  # the kernel has no pages, so a read comes next
            self._neighbours.opened(node, who)
        return OpenFile(self._handles.add(handle, self._marks(node, flags)), keep)

    def _marks(self, node: VnodeNode, flags: int) -> int:
        """What closing a file asks for. On a read-only volume no POSIX lock is in another's way,
        so that none need end."""
        if flags & WRITING:
            return 0
        if self.local_locks or node.mount.volume.type is not VolumeType.RW:
            return READS_ONLY | UNFLUSHED
        return READS_ONLY

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
            self._holders.remove(opened.node, opened.who)
            self._nodes.discard(opened.node)
