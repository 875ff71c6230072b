"""The file system as a kernel sees it: one method for each thing it asks.

Each method finds the node and hands over to whoever knows more. Errors are `AfsError`s, whose
`errno` is the answer.
"""

from __future__ import annotations

import errno
import itertools
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from afsfuse.auth.identity import NOBODY, Identities
from afsfuse.cache.doors import LOOK, READ
from afsfuse.errors import AfsError, NotPermitted
from afsfuse.model import FileKind
from afsfuse.vfs import access, xattrs
from afsfuse.vfs.background import Background
from afsfuse.vfs.dynroot import DYNAMIC_SPACE, CellRoots, DynamicLink, DynamicRoot, MadeUp
from afsfuse.vfs.expiry import Expiry
from afsfuse.vfs.files import FileHandle, Files, HandleTable
from afsfuse.vfs.inodes import ROOT_INODE
from afsfuse.vfs.listings import DirectoryHandle, DirectoryReader, RootHandle
from afsfuse.vfs.lookups import Lookups
from afsfuse.vfs.mountpoints import MountPoint, parse_mountpoint, volume_root
from afsfuse.vfs.options import DYNAMIC_ROOT
from afsfuse.vfs.resolving import Resolver
from afsfuse.vfs.space import Spaces
from afsfuse.vfs.trees import Keep
from afsfuse.vfs.trimming import Trimmer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from afsfuse.auth.identity import Caller, Identity
    from afsfuse.cache import CacheManager
    from afsfuse.cell.directory import CellDirectory
    from afsfuse.cell.volumes import VolumeLocator
    from afsfuse.fileserver.client import FileServerClient
    from afsfuse.model import Inode
    from afsfuse.vfs.entry import Entry, Listing, OpenFile, VolumeSpace
    from afsfuse.vfs.inodes import Node, NodeStatistics, NodeTable
    from afsfuse.vfs.invalidation import KernelNotifier
    from afsfuse.vfs.options import VfsOptions

BY_UID = Identities({}).of
"""Who callers are while there are no PAGs."""


@dataclass(frozen=True, slots=True)
class VfsStatistics:
    """A snapshot of what the vfs holds."""

    nodes: NodeStatistics
    open_files: int
    open_directories: int


class FileSystem:
    """Serves one mount. `run` must be running whenever anything is asked."""

    def __init__(
        self,
        cells: CellDirectory,
        locator: VolumeLocator,
        cache: CacheManager,
        client: FileServerClient,
        *,
        nodes: NodeTable,
        notifier: KernelNotifier,
        options: VfsOptions,
        identify: Callable[[Caller], Identity] = BY_UID,
    ) -> None:
        """`identify` says whom tokens of a caller belong to: by default to its uid.

        `nodes` is the table that the cache's listener, `KernelInvalidator`, looks at, too.

        Raises `AfsError` if `options.source` is neither the dynamic root nor a mount point's body.
        """
        self._client = client
        self._identify = identify
        self._cache = cache
        self._nodes = nodes
        self._background = Background()
        self._roots = CellRoots(cells, nodes, options)
        self._resolver = Resolver(cells, locator, cache, nodes, notifier, self._background, options)
        self._lookups = Lookups(cache, nodes, self._resolver, self._roots, options)
        self._reader = DirectoryReader(cache, nodes, self._lookups, self._background)
        self._file_handles: HandleTable[FileHandle] = HandleTable(first=1, step=2)
        self._directory_handles: HandleTable[DirectoryHandle | RootHandle] = HandleTable(
            first=2, step=2
        )
        self._files = Files(cache, nodes, self._file_handles)
        self._spaces = Spaces(client, options.space_lifetime)
        self.expiry = Expiry(nodes, cache, locator, notifier, options.expire, self._open_nodes)
        """The background task that lets idle trees go; to be run beside `run`."""
        self._trimmer = Trimmer(nodes, notifier, options.node_limit)
        self._root = self._make_root(cells, options)
        nodes.plant(self._root)

    def _make_root(self, cells: CellDirectory, options: VfsOptions) -> Node:
        if options.source == DYNAMIC_ROOT:
            return self._roots.root
        spec = parse_mountpoint(os.fsencode(options.source))
        return volume_root(spec, cells.this_cell)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Do what goes on in the background, until cancelled."""
        await self._background.run(task_status=task_status)

    async def prepare(self) -> None:
        """See that the root can be shown: find the volume of a mount that shows only one.

        Raises `AfsError` if there is no such volume. The dynamic root needs nobody.
        """
        if isinstance(self._root, MountPoint):
            await self._lookups.vnode(self._root, NOBODY)

    def _open_nodes(self) -> Iterator[tuple[Node, Keep]]:
        """The nodes of open files and directories, and who opened them."""
        for opened in self._file_handles:
            yield opened.node, _kept_by("open file", opened)
        for directory in self._directory_handles:
            yield directory.node, _kept_by("open directory", directory)

    def may_see(self, node: Node, who: Identity) -> bool:
        """Whether an identity is known to be allowed to look at all of a node's path."""
        while node.inode != ROOT_INODE:
            above = node.parent
            if above is None:
                return False
            vnode = above.vnode
            if not isinstance(above, MadeUp) and (
                vnode is None or not self._cache.doors.lets_in(vnode, LOOK, who)
            ):
                return False
            node = above
        return True

    def statistics(self) -> VfsStatistics:
        """How many nodes and handles there are."""
        return VfsStatistics(
            self._nodes.statistics(), len(self._file_handles), len(self._directory_handles)
        )

    # Nodes.

    async def lookup(self, parent: Inode, name: bytes, caller: Caller) -> Entry:
        """The entry of a name; the kernel holds it once more from now on.

        A name that is not there gives an entry with inode 0, whose `entry_timeout` says for how
        long to believe that, and which is not counted.
        """
        who = self._identify(caller)
        entry = await self._lookups.lookup(self._nodes.get(parent), name, who)
        self._trimmer.trim()
        return entry

    def forget(self, pairs: Iterable[tuple[Inode, int]]) -> None:
        """The kernel drops so many references to each of these inodes. Never raises."""
        self._nodes.forget(pairs)

    async def getattr(self, inode: Inode, caller: Caller) -> Entry:
        """Attributes; `entry_timeout` means nothing here."""
        node = self._nodes.get(inode)
        public = self._lookups.public_attributes(node)
        if public is not None:
            return public
        who = self._identify(caller)
        entry = await self._lookups.attributes(node, who)
        if not isinstance(node, MadeUp):
            await self._require_sight(node, who)
        return entry

    async def _require_sight(self, node: Node, who: Identity) -> None:
        """`NotPermitted` for whom a node may not be shown; who has it open may know it."""
        sight = self._lookups.sight
        if sight.open_until(node, node.vnode) > trio.current_time() or self._holds(node, who):
            return
        await sight.require(node, node.vnode, who)

    def _holds(self, node: Node, who: Identity) -> bool:
        return node.handles > 0 and any(
            opened.node is node and opened.who == who
            for opened in itertools.chain(self._file_handles, self._directory_handles)
        )

    async def readlink(self, inode: Inode, caller: Caller) -> bytes:
        """The body of a symbolic link, as it stands in the cell."""
        node = self._nodes.get(inode)
        if isinstance(node, DynamicLink):
            return node.body
        who = self._identify(caller)
        vnode = await self._lookups.vnode(node, who)
        if vnode.status.kind is not FileKind.SYMLINK:
            raise AfsError(f"{node.path()}: not a symbolic link", errno=errno.EINVAL)
        return await self._cache.readlink(vnode.volume, vnode.fid, who)

    async def access(self, inode: Inode, mask: int, caller: Caller) -> bool:
        """Whether `caller` may do what `mask` (`os.R_OK` and so on) says; EROFS for writing."""
        access.refuse_writing(mask)
        node = self._nodes.get(inode)
        if isinstance(node, MadeUp):
            return True
        who = self._identify(caller)
        vnode = await self._lookups.vnode(node, who)
        doors = self._cache.doors
        public = doors.lets_in(vnode, READ, NOBODY)
        return access.may(vnode.status, mask, READ if public else await doors.rights(vnode, who))

    # Files.

    async def open(self, inode: Inode, flags: int, caller: Caller) -> OpenFile:
        """Open a file for reading; EROFS if `flags` speak of anything else."""
        node = self._nodes.get(inode)
        if isinstance(node, MadeUp):
            raise AfsError(f"{node.path()}: not a file", errno=errno.EISDIR)
        who = self._identify(caller)
        vnode = await self._lookups.vnode(node, who)
        self._files.check(node, vnode, flags)
        if not await self._cache.doors.allows(vnode, READ, who):
            raise access.refusal(node)
        return self._files.open(node, vnode, caller, who)

    def open_at_once(self, inode: Inode, flags: int, caller: Caller) -> OpenFile | None:
        """What `open` gives, if nobody has to be asked for that; else None."""
        node = self._nodes.get(inode)
        vnode = node.vnode
        if isinstance(node, MadeUp) or vnode is None or not vnode.valid(trio.current_time()):
            return None
        who = self._identify(caller)
        self._files.check(node, vnode, flags)
        if not self._cache.doors.lets_in(vnode, READ, who):
            return None
        return self._files.open(node, vnode, caller, who)

    async def read(self, handle: int, offset: int, size: int) -> bytes | memoryview:
        """Bytes of an open file; fewer than `size` only at its end."""
        return await self._files.read(handle, offset, size)

    def read_at_once(self, handle: int, offset: int, size: int) -> memoryview | None:
        """What `read` gives, if it is there in one piece; else None."""
        return self._files.read_at_once(handle, offset, size)

    def release(self, handle: int) -> None:
        """Close a file. Never raises."""
        self._files.release(handle)

    def caller_of(self, handle: int) -> Caller:
        """Who opened a file or directory; EBADF if it is not open."""
        opened = self._file_handles.find(handle) or self._directory_handles.get(handle)
        return opened.caller

    # Directories.

    async def opendir(self, inode: Inode, caller: Caller) -> int:
        """Open a directory; a mount point is entered."""
        node = self._nodes.get(inode)
        handle: DirectoryHandle | RootHandle
        who = self._identify(caller)
        if isinstance(node, DynamicRoot):
            handle = RootHandle(node, self._roots, self._reader, caller, who)
        else:
            mount, fid = await self._lookups.place(node, who)
            try:
                directory = await self._cache.directory(mount.volume, fid, who)
            except NotPermitted:
                raise access.refusal(node) from None
            await self._lookups.vnode(node, who)
            handle = DirectoryHandle(node, mount, fid, directory, caller, who, self._reader)
        node.handles += 1
        return self._directory_handles.add(handle)

    async def readdir(self, handle: int, offset: int, room: int) -> list[Listing]:
        """The next entries, at most `room` of them, from `offset` on; none at the end.

        `offset` is 0 or the `next_offset` of an entry. The entries are true in the moment in which
        this returns: hand them on without any await, and report each one that the kernel took.
        """
        self._trimmer.trim()
        return await self._directory_handles.get(handle).read(offset, room)

    def listed(self, handle: int, listing: Listing) -> None:
        """The kernel took an entry of the last `readdir`, and holds its inode once more.

        Entries that are not reported are forgotten. `.` and `..` may be reported; they do not
        count.
        """
        self._directory_handles.get(handle).listed(listing)

    def releasedir(self, handle: int) -> None:
        """Close a directory. Never raises."""
        opened = self._directory_handles.pop(handle)
        if opened is not None:
            opened.close()
            opened.node.handles -= 1
            self._nodes.discard(opened.node)

    # Volumes.

    async def statfs(self, inode: Inode, caller: Caller) -> VolumeSpace:
        """The room in the volume of an inode."""
        node = self._nodes.get(inode)
        if isinstance(node, MadeUp):
            return DYNAMIC_SPACE
        who = self._identify(caller)
        mount, _ = await self._lookups.place(node, who)
        return await self._spaces.space(mount.volume, who)

    async def getxattr(self, inode: Inode, name: bytes, caller: Caller) -> bytes:
        """The value of an extended attribute; ENODATA if there is none."""
        node = self._nodes.get(inode)
        if name not in xattrs.NAMES or isinstance(node, MadeUp):
            raise xattrs.no_such_attribute(name)
        who = self._identify(caller)
        mount, fid = await self._lookups.place(node, who)
        await self._lookups.vnode(node, who)
        await self._require_sight(node, who)
        return await xattrs.value(self._client, mount.volume, fid, name, who)

    async def listxattr(self, inode: Inode, caller: Caller) -> list[bytes]:
        """The names of all extended attributes, which are the same everywhere."""
        node = self._nodes.get(inode)
        if isinstance(node, MadeUp):
            return []
        await self._require_sight(node, self._identify(caller))
        return list(xattrs.NAMES)


def _kept_by(what: str, opened: FileHandle | DirectoryHandle | RootHandle) -> Keep:
    caller = opened.caller
    return Keep(what, f"{opened.node.path()}, opened by process {caller.tid}", caller.uid)
