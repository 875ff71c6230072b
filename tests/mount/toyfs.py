"""A file system in memory with the vfs's interface, whose operations hang or fail on order."""

from __future__ import annotations

import errno
import itertools
import os
import stat
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio

from afsfuse.errors import AfsError, NameTooLong
from afsfuse.model import Inode
from afsfuse.vfs.entry import (
    BLOCK_SIZE,
    READS_ONLY,
    UNFLUSHED,
    Entry,
    Listing,
    OpenFile,
    VolumeSpace,
    negative,
)
from tests.mount.toylocks import ToyLocking

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from afsfuse.auth.identity import Caller
    from afsfuse.vfs.entry import Attributes

ATTRIBUTES = {b"afs.cell": b"example.org", b"afs.fid": b"536870912:1:1"}
TIMEOUT = 3600.0  # what a kernel may believe when a callback promise backs it


@dataclass
class Node:
    """A file (bytes), a directory (names) or a symbolic link (target)."""

    inode: int
    content: bytes | dict[str, Node]
    link: bytes | None = None
    version: int = 1
    shown: int = 0
    """The version of the last open: what the kernel's pages are of."""
    behaviour: dict[str, str] = field(default_factory=dict)
    """By operation: `hang`, `bug`, or the name of an errno."""
    gate: trio.Event = field(default_factory=trio.Event)
    """Ends what hangs."""

    @property
    def mode(self) -> int:
        if self.link is not None:
            return stat.S_IFLNK | 0o777
        if isinstance(self.content, dict):
            return stat.S_IFDIR | 0o755
        return stat.S_IFREG | 0o644


class ReadOnly:
    """The part of the interface that changes something: nothing can be changed here."""

    async def create(
        self, parent: Inode, name: bytes, mode: int, flags: int, caller: Caller
    ) -> tuple[OpenFile, Entry]:
        raise _read_only()

    async def mknod(self, parent: Inode, name: bytes, mode: int, caller: Caller) -> Entry:
        raise _read_only()

    async def mkdir(self, parent: Inode, name: bytes, mode: int, caller: Caller) -> Entry:
        raise _read_only()

    async def symlink(self, parent: Inode, name: bytes, body: bytes, caller: Caller) -> Entry:
        raise _read_only()

    async def link(self, inode: Inode, parent: Inode, name: bytes, caller: Caller) -> Entry:
        raise _read_only()

    async def unlink(self, parent: Inode, name: bytes, caller: Caller) -> None:
        raise _read_only()

    async def rmdir(self, parent: Inode, name: bytes, caller: Caller) -> None:
        raise _read_only()

    async def rename(
        self,
        old_parent: Inode,
        old_name: bytes,
        new_parent: Inode,
        new_name: bytes,
        flags: int,
        caller: Caller,
    ) -> None:
        raise _read_only()


def _read_only() -> AfsError:
    return AfsError("nothing can be changed", errno=errno.EROFS)


class ToyFileSystem(ReadOnly):
    """Implements what `afsfuse.fuse.operations.FileSystemApi` asks for."""

    def __init__(self) -> None:
        self._inodes = itertools.count(2)
        self.root = Node(1, {})
        self.nodes: dict[int, Node] = {1: self.root}
        self.lookups: Counter[int] = Counter()
        self.calls: Counter[str] = Counter()
        self.set: list[Attributes] = []
        """What was asked of `setattr`."""
        self.asked: list[int] = []
        """Inodes for which statfs was asked."""
        self.extended: dict[bytes, bytes] = {}
        """Extended attributes that were set, of whatever node."""
        self.handles: dict[int, Node] = {}
        self._callers: dict[int, Caller] = {}
        self._handle = itertools.count(1)
        self.locking = ToyLocking(self.handles)

    def add(self, path: str, content: bytes | dict[str, Node], link: bytes | None = None) -> Node:
        parent, _, name = path.rpartition("/")
        directory = self.at(parent).content
        assert isinstance(directory, dict)
        node = directory[name] = Node(next(self._inodes), content, link)
        self.nodes[node.inode] = node
        return node

    def at(self, path: str) -> Node:
        node = self.root
        for name in path.split("/"):
            if name:
                assert isinstance(node.content, dict)
                node = node.content[name]
        return node

    def entry(self, node: Node) -> Entry:
        size = len(node.content if node.link is None else node.link)
        return Entry(
            inode=Inode(node.inode),
            generation=1,
            mode=node.mode,
            nlink=1,
            uid=0,
            gid=0,
            size=size,
            mtime=1_700_000_000,  # fixed: a new version within one second looks like this
            blksize=BLOCK_SIZE,
            attr_timeout=TIMEOUT,
            entry_timeout=TIMEOUT,
        )

    async def _act(self, operation: str, node: Node) -> None:
        self.calls[operation] += 1
        match node.behaviour.get(operation):
            case None:
                return
            case "hang":
                await node.gate.wait()
            case "bug":
                raise KeyError(f"bug in {operation}")
            case name:
                raise AfsError("on order", errno=getattr(errno, name))

    async def lookup(self, parent: Inode, name: bytes, caller: Caller) -> Entry:
        node = self.nodes[parent]
        await self._act("lookup", node)
        if len(name) > 255:
            raise NameTooLong(f"{len(name)} bytes")
        assert isinstance(node.content, dict)
        if (child := node.content.get(name.decode())) is None:
            return negative(TIMEOUT)
        self.lookups[child.inode] += 1
        return self.entry(child)

    def forget(self, pairs: Iterable[tuple[Inode, int]]) -> None:
        for inode, count in pairs:
            self.lookups[inode] -= count

    async def getattr(self, inode: Inode, caller: Caller) -> Entry:
        await self._act("getattr", self.nodes[inode])
        return self.entry(self.nodes[inode])

    async def readlink(self, inode: Inode, caller: Caller) -> bytes:
        await self._act("readlink", self.nodes[inode])
        return self.nodes[inode].link or b""

    async def open(self, inode: Inode, flags: int, caller: Caller) -> OpenFile:
        node = self.nodes[inode]
        await self._act("open", node)
        keep, node.shown = node.shown == node.version, node.version
        handle = next(self._handle)
        if not flags & (os.O_WRONLY | os.O_RDWR):
            handle |= READS_ONLY
            if node.behaviour.get("close") == "untold":
                handle |= UNFLUSHED
        self.handles[handle] = node
        self._callers[handle] = caller
        return OpenFile(handle, keep)

    def lookup_at_once(self, parent: Inode, name: bytes, caller: Caller) -> Entry | None:
        return None

    def getattr_at_once(self, inode: Inode) -> Entry | None:
        return None

    def open_at_once(self, inode: Inode, flags: int, caller: Caller) -> OpenFile | None:
        return None

    def read_at_once(self, handle: int, offset: int, size: int) -> memoryview | None:
        """A node with the behaviour `at_once` answers without waiting, or with its bug."""
        node = self.handles[handle]
        if not node.behaviour.get("at_once"):
            return None
        self.calls["read_at_once"] += 1
        assert isinstance(node.content, bytes)
        return memoryview(node.content)[offset : offset + size]

    async def read(self, handle: int, offset: int, size: int) -> memoryview:
        node = self.handles[handle]
        await self._act("read", node)
        assert isinstance(node.content, bytes)
        return memoryview(node.content)[offset : offset + size]

    def write_at_once(self, handle: int, offset: int, data: bytes) -> int | None:
        return None

    async def write(self, handle: int, offset: int, data: bytes) -> int:
        node = self.handles[handle]
        await self._act("write", node)
        assert isinstance(node.content, bytes)
        content = node.content.ljust(offset, b"\0")
        node.content = content[:offset] + data + content[offset + len(data) :]
        return len(data)

    def is_settled(self, handle: int) -> bool:
        self.calls["is_settled"] += 1
        return not (self.handles[handle].behaviour.get("flush") or self.locking.posix)

    async def flush(self, handle: int, owner: int) -> None:
        try:
            await self._act("flush", self.handles[handle])
        finally:
            await self.locking.closed(handle, owner)

    def keep_locks(self) -> None:
        self.calls["keep_locks"] += 1

    async def fsync(self, handle: int) -> None:
        await self._act("fsync", self.handles[handle])

    async def setattr(
        self, inode: Inode, wanted: Attributes, handle: int | None, caller: Caller
    ) -> Entry:
        node = self.nodes[inode]
        await self._act("setattr", node)
        self.set.append(wanted)
        if wanted.size is not None:
            assert isinstance(node.content, bytes)
            node.content = node.content[: wanted.size].ljust(wanted.size, b"\0")
        return self.entry(node)

    def release(self, handle: int) -> None:
        self.calls["release"] += 1
        self.locking.released(handle)
        if self.handles.pop(handle).behaviour.get("release"):
            raise KeyError("bug in release")

    def caller_of(self, handle: int) -> Caller | None:
        return self._callers.get(handle)

    async def opendir(self, inode: Inode, caller: Caller) -> int:
        await self._act("opendir", self.nodes[inode])
        handle = next(self._handle)
        self.handles[handle] = self.nodes[inode]
        self._callers[handle] = caller
        return handle

    async def readdir(self, handle: int, offset: int, room: int) -> Sequence[Listing]:
        node = self.handles[handle]
        await self._act("readdir", node)
        assert isinstance(node.content, dict)
        names = itertools.islice(enumerate(node.content.items(), 1), offset, offset + room)
        return [Listing(name.encode(), self.entry(child), i) for i, (name, child) in names]

    def listed(self, handle: int, listing: Listing) -> None:
        self.lookups[listing.entry.inode] += 1

    def releasedir(self, handle: int) -> None:
        self.release(handle)

    async def statfs(self, inode: Inode, caller: Caller) -> VolumeSpace:
        self.asked.append(inode)
        await self._act("statfs", self.nodes[inode])
        return VolumeSpace(1024, 5000, 1234, 0, 0, 255)

    async def access(self, inode: Inode, mask: int, caller: Caller) -> bool:
        await self._act("access", self.nodes[inode])
        return not mask & 2

    async def getxattr(self, inode: Inode, name: bytes, caller: Caller) -> bytes:
        await self._act("getxattr", self.nodes[inode])
        if name not in ATTRIBUTES:
            raise AfsError("no such attribute", errno=errno.ENODATA)
        return ATTRIBUTES[name]

    async def setxattr(self, inode: Inode, name: bytes, value: bytes, caller: Caller) -> None:
        await self._act("setxattr", self.nodes[inode])
        self.extended[name] = value

    async def removexattr(self, inode: Inode, name: bytes, caller: Caller) -> None:
        await self._act("removexattr", self.nodes[inode])
        del self.extended[name]

    async def listxattr(self, inode: Inode, caller: Caller) -> Sequence[bytes]:
        await self._act("listxattr", self.nodes[inode])
        return list(ATTRIBUTES)
