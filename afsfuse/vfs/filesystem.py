"""The file system as a kernel sees it: one method for each thing it asks.

Each method finds the node and hands over to whoever knows more. Errors are `AfsError`s, whose
`errno` is the answer.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

import trio

from afsfuse.auth.identity import NOBODY, Identities
from afsfuse.cache.doors import READ
from afsfuse.cache.leftovers import Leftovers
from afsfuse.errors import AfsError
from afsfuse.model import FileKind
from afsfuse.vfs import access
from afsfuse.vfs.background import Background
from afsfuse.vfs.behind import Finder
from afsfuse.vfs.dirops import DirectoryOperations
from afsfuse.vfs.dynroot import DYNAMIC_SPACE, CellRoots, DynamicLink, MadeUp
from afsfuse.vfs.expiry import Expiry, busy_volumes, opened_nodes
from afsfuse.vfs.figures import VfsStatistics
from afsfuse.vfs.files import FileHandle, Files, HandleTable, Holders
from afsfuse.vfs.invalidation import OwnChanges
from afsfuse.vfs.locking import Locking
from afsfuse.vfs.lookups import Lookups
from afsfuse.vfs.mending import Mender
from afsfuse.vfs.mountpoints import MountPoint, parse_mountpoint, volume_root
from afsfuse.vfs.opendirs import OpenDirectories
from afsfuse.vfs.options import DYNAMIC_ROOT
from afsfuse.vfs.orphans import Orphans
from afsfuse.vfs.resolving import Resolver
from afsfuse.vfs.space import Spaces
from afsfuse.vfs.trimming import Trimmer
from afsfuse.vfs.whereabouts import Tracker
from afsfuse.vfs.writing import WRITING, FileWriting
from afsfuse.vfs.xattrs import ExtendedAttributes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from afsfuse.auth.identity import Caller, Identity
    from afsfuse.cache import CacheManager, Vnode
    from afsfuse.cell.directory import CellDirectory
    from afsfuse.cell.volumes import VolumeLocator
    from afsfuse.fileserver.client import FileServerClient
    from afsfuse.model import Inode
    from afsfuse.vfs.entry import Attributes, Entry, Listing, OpenFile, VolumeSpace
    from afsfuse.vfs.expiry import Use
    from afsfuse.vfs.inodes import Node, NodeTable, VnodeNode
    from afsfuse.vfs.invalidation import KernelNotifier, Settle
    from afsfuse.vfs.options import VfsOptions
    from afsfuse.vfs.trees import Trees

BY_UID = Identities({}).of
"""Who callers are while there are no PAGs."""


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
        leftovers: Leftovers | None = None,
        settle: Settle | None = None,
    ) -> None:
        """`identify` says whom tokens of a caller belong to: by default to its uid.

        `leftovers` is the list of names that are to be removed; without it nothing is written down.
        `settle` waits until the kernel has done what it was told about some inodes, with a bound.

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
        self._file_handles: HandleTable[FileHandle] = HandleTable(first=1, step=2)
        self._holders = Holders()
        self._directories = OpenDirectories(
            cache, nodes, self._lookups, self._roots, self._background, self._holders
        )
        self._files = Files(cache, nodes, self._file_handles, self._holders)
        own = OwnChanges(nodes, notifier, options.sysnames, settle)
        self._orphans = Orphans(
            cache, locator, own, self._background,
            Leftovers(None) if leftovers is None else leftovers,
        )  # fmt: skip
        self.dirops = DirectoryOperations(cache, nodes, self._lookups, own, self._orphans)
        self._locking = Locking(cache.locks, self._file_handles)
        self._writing = FileWriting(cache, notifier)
        self.spaces = Spaces(client, options.space_lifetime)
        self._xattrs = ExtendedAttributes(client, cache, self._lookups, self._require_sight)
        self.finder = Finder(nodes, self._lookups, self._require_sight)
        """For those who name inodes beside the kernel."""
        self.mender = Mender(nodes, self._lookups, self._background, notifier, settle)
        self.expiry = Expiry(nodes, cache, locator, notifier, self.mender, options.expire)
        """The background task that lets idle trees go; to be run beside `run`."""
        self.expiry.keepers += [self._opened, lambda: busy_volumes(cache)]
        self._trimmer = Trimmer(nodes, notifier, options.node_limit)
        self._root = self._make_root(cells, options)
        nodes.plant(self._root)
        self.tracker = Tracker(self._root, self._roots, cache)
        """Follows paths without asking anybody."""

    def _opened(self) -> Iterator[Use]:
        """What is open, and by whom: it keeps its tree."""
        yield from opened_nodes("open file", self._file_handles)
        yield from opened_nodes("open directory", self._directories.handles)

    def _make_root(self, cells: CellDirectory, options: VfsOptions) -> Node:
        if options.source == DYNAMIC_ROOT:
            return self._roots.root
        spec = parse_mountpoint(os.fsencode(options.source))
        return volume_root(spec, cells.this_cell)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Do what goes on in the background, until cancelled."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self._background.run)
            self._orphans.inherit()
            task_status.started()

    async def finish(self) -> None:
        """The mount is gone: return when everything that was put off until then is done."""
        await self._orphans.finish()

    def token_changed(self, who: Identity, cell: str) -> None:
        """An identity has another token for a cell, or none."""
        self._orphans.token_changed()

    async def prepare(self) -> None:
        """See that the root can be shown: find the volume of a mount that shows only one.

        Raises `AfsError` if there is no such volume. The dynamic root needs nobody.
        """
        if isinstance(self._root, MountPoint):
            await self._lookups.vnode(self._root, NOBODY)

    @property
    def trees(self) -> Trees:
        """The mounts that were entered."""
        return self._nodes.trees

    def may_see(self, node: Node, who: Identity) -> bool:
        """Whether an identity is known to be allowed to look at all of a node's path."""
        return self._lookups.sight.path_is_open(node, who)

    def statistics(self) -> VfsStatistics:
        """How many nodes and handles there are."""
        return VfsStatistics(
            self._nodes.statistics(), len(self._file_handles), len(self._directories.handles)
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

    def lookup_at_once(self, parent: Inode, name: bytes, caller: Caller) -> Entry | None:
        """What `lookup` gives, if nobody has to be asked for that; else None."""
        again = self.mender.answer(parent, name, caller)
        if again is not None:
            return again
        return self._lookups.at_once(self._nodes.get(parent), name, self._identify(caller))

    def forget(self, pairs: Iterable[tuple[Inode, int]]) -> None:
        """The kernel drops so many references to each of these inodes. Never raises."""
        self._nodes.forget(pairs)

    async def getattr(self, inode: Inode, caller: Caller) -> Entry:
        """Attributes; `entry_timeout` means nothing here."""
        node = self._nodes.get(inode)
        who = self._identify(caller)
        entry = await self._lookups.attributes(node, who)
        if not isinstance(node, MadeUp):
            await self._require_sight(node, who)
        return entry

    def getattr_at_once(self, inode: Inode) -> Entry | None:
        """What `getattr` gives, if that is known and anybody may know it; else None."""
        return self._lookups.public_attributes(self._nodes.get(inode))

    async def _require_sight(self, node: Node, who: Identity) -> None:
        """`NotPermitted` for whom a node may not be shown; who has it open may know it."""
        sight = self._lookups.sight
        if sight.open_until(node, node.vnode) > trio.current_time() or self._holders.has(node, who):
            return
        await sight.require(node, node.vnode, who)

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
        """Whether `caller` may do what `mask` (`os.R_OK` and so on) says.

        Raises `AfsError`: EROFS for writing where nobody can.
        """
        node = self._nodes.get(inode)
        if isinstance(node, MadeUp):
            access.refuse_writing(mask)
            return True
        who = self._identify(caller)
        vnode = await self._lookups.vnode(node, who)
        return await access.permits(self._cache.doors, vnode, mask, who)

    # Files.

    async def open(self, inode: Inode, flags: int, caller: Caller) -> OpenFile:
        """Open a file, for what the flags of open(2) say."""
        node = self._nodes.get(inode)
        if isinstance(node, MadeUp):
            raise AfsError(f"{node.path()}: not a file", errno=errno.EISDIR)
        who = self._identify(caller)
        vnode = await self._lookups.vnode(node, who)
        self._files.check(node, vnode, flags)
        doors = self._cache.doors
        if flags & os.O_ACCMODE != os.O_WRONLY and not await doors.allows(vnode, READ, who):
            raise access.refusal(node, doors.refusal(vnode.volume, who))
        if flags & WRITING:
            await self._writing.require(node, vnode, who)
            vnode = await self._lookups.vnode(node, who)  # the status may have moved meanwhile
        return self._open(node, vnode, flags, caller, who)

    def open_at_once(self, inode: Inode, flags: int, caller: Caller) -> OpenFile | None:
        """What `open` gives, if nobody has to be asked for that; else None."""
        node = self._nodes.get(inode)
        vnode = node.vnode
        if isinstance(node, MadeUp) or vnode is None or not vnode.valid(trio.current_time()):
            return None
        who = self._identify(caller)
        self._files.check(node, vnode, flags)
        if flags & os.O_ACCMODE != os.O_WRONLY and not self._cache.doors.lets_in(vnode, READ, who):
            return None
        if flags & WRITING and not self._writing.may_at_once(vnode, who):
            return None
        return self._open(node, vnode, flags, caller, who)

    def _open(
        self, node: Node, vnode: Vnode, flags: int, caller: Caller, who: Identity
    ) -> OpenFile:
        """Open what may be opened, and cut it if that is asked for. Free of await."""
        if flags & os.O_APPEND and flags & WRITING:
            self._writing.check_end(node, vnode)
        opened = self._files.open(node, vnode, caller, who, flags)
        if flags & os.O_TRUNC:
            writer = self._file_handles.get(opened.handle).writer
            assert writer is not None
            self._writing.truncate(node, vnode, 0, writer)
        return opened

    async def read(self, handle: int, offset: int, size: int) -> bytes | memoryview:
        """Bytes of an open file; fewer than `size` only at its end."""
        return await self._files.read(handle, offset, size)

    def read_at_once(self, handle: int, offset: int, size: int) -> memoryview | None:
        """What `read` gives, if it is there in one piece; else None."""
        return self._files.read_at_once(handle, offset, size)

    async def write(self, handle: int, offset: int, data: bytes) -> int:
        """Write to an open file; returns how many bytes. Waits while too much is not stored.

        EIO, once, if a lock did not hold that was taken through this handle.
        """
        self._locking.check(handle)
        return await self._writing.write(self._file_handles.get(handle), offset, data)

    def write_at_once(self, handle: int, offset: int, data: bytes) -> int | None:
        """The same, if there is room; else None."""
        self._locking.check(handle)
        return self._writing.write_at_once(self._file_handles.get(handle), offset, data)

    def is_settled(self, handle: int) -> bool:
        """Whether `flush` has nothing to do and nothing to tell."""
        opened = self._file_handles.find(handle)
        return opened is not None and self._writing.is_settled(opened) and not self._locking.posix

    async def flush(self, handle: int, owner: int) -> None:
        """A process closes a descriptor of a file, and with that drops its POSIX locks on it.

        Returns when the server has what was written, or raises why not.
        """
        try:
            await self._writing.settle(self._file_handles.get(handle), safe=False)
        finally:
            await self._locking.closed(handle, owner)

    async def fsync(self, handle: int) -> None:
        """As `flush`, but it has to be on the server's disk."""
        await self._writing.settle(self._file_handles.get(handle), safe=True)

    def release(self, handle: int) -> None:
        """Close a file. Never raises."""
        opened = self._file_handles.find(handle)
        vnode = None if opened is None else opened.node.vnode
        self._locking.released(handle)
        self._files.release(handle)
        if opened is not None and vnode is not None:
            self._orphans.closed(vnode)
            self._writing.close(opened, vnode)

    @property
    def locking(self) -> Locking:
        """Locks on open files."""
        return self._locking

    def keep_locks(self) -> None:
        """The kernel asks us for all locks, from now on; else it keeps them itself."""
        self._files.local_locks = False

    async def setattr(
        self, inode: Inode, wanted: Attributes, handle: int | None, caller: Caller
    ) -> Entry:
        """Set attributes; `handle` if it is done through an open file. The new attributes."""
        node = self._nodes.get(inode)
        if isinstance(node, MadeUp):
            raise AfsError(f"{node.path()}: not on any server", errno=errno.EPERM)
        opened = None if handle is None else self._file_handles.find(handle)
        who = self._identify(caller) if opened is None else opened.who
        vnode = await self._lookups.vnode(node, who)
        await self._writing.set_attributes(node, vnode, wanted, opened, who)
        return await self._lookups.attributes(node, who)

    def caller_of(self, handle: int) -> Caller | None:
        """Who opened a file or directory; None if it is not open."""
        opened = self._file_handles.find(handle) or self._directories.handles.find(handle)
        return None if opened is None else opened.caller

    # Directories.

    async def opendir(self, inode: Inode, caller: Caller) -> int:
        """Open a directory; a mount point is entered."""
        return await self._directories.open(self._nodes.get(inode), caller, self._identify(caller))

    async def readdir(self, handle: int, offset: int, room: int) -> list[Listing]:
        """The next entries, at most `room` of them, from `offset` on; none at the end.

        `offset` is 0 or the `next_offset` of an entry. The entries are true in the moment in which
        this returns: hand them on without any await, and report each one that the kernel took.
        """
        self._trimmer.trim()
        return await self._directories.handles.get(handle).read(offset, room)

    def listed(self, handle: int, listing: Listing) -> None:
        """The kernel took an entry of the last `readdir`, and holds its inode once more.

        Entries that are not reported are forgotten. `.` and `..` may be reported; they do not
        count.
        """
        self._directories.handles.get(handle).listed(listing)

    def releasedir(self, handle: int) -> None:
        """Close a directory. Never raises."""
        self._directories.release(handle)

    # Names.

    async def create(
        self, parent: Inode, name: bytes, mode: int, flags: int, caller: Caller
    ) -> tuple[OpenFile, Entry]:
        """Make a file and open it; one that is there is opened, unless `flags` have O_EXCL. The
        entry's inode is held once more by the kernel, here and below.
        """
        who = self._identify(caller)
        try:
            node, entry = await self.dirops.create(self._nodes.get(parent), name, mode, who)
        except AfsError as exc:
            if exc.errno != errno.EEXIST or flags & os.O_EXCL:
                raise
            # Somebody else made it after the kernel had looked.
            entry = await self.lookup(parent, name, caller)
            if not entry.inode:
                raise
            try:
                return await self.open(entry.inode, flags, caller), entry
            except BaseException:
                self.forget([(entry.inode, 1)])  # the kernel is not given it
                raise
        return self._open_created(node, flags, caller, who), entry

    def _open_created(self, node: VnodeNode, flags: int, caller: Caller, who: Identity) -> OpenFile:
        """Open a file that was made just now by who opens it, whatever its mode. Free of await."""
        assert node.vnode is not None
        return self._open(node, node.vnode, flags & ~os.O_TRUNC, caller, who)

    async def mknod(self, parent: Inode, name: bytes, mode: int, caller: Caller) -> Entry:
        """Make a file; EPERM for pipes, sockets and devices, of which AFS has none."""
        if not stat.S_ISREG(mode):
            raise AfsError(
                f"{name!r}: AFS has no pipes, sockets or devices (mode {mode:o})",
                errno=errno.EPERM,
            )
        who = self._identify(caller)
        return (await self.dirops.create(self._nodes.get(parent), name, mode, who))[1]

    async def mkdir(self, parent: Inode, name: bytes, mode: int, caller: Caller) -> Entry:
        """Make a directory."""
        who = self._identify(caller)
        return await self.dirops.mkdir(self._nodes.get(parent), name, mode, who)

    async def symlink(self, parent: Inode, name: bytes, body: bytes, caller: Caller) -> Entry:
        """Make a symbolic link, or a mount point if `body` is one's."""
        who = self._identify(caller)
        return await self.dirops.symlink(self._nodes.get(parent), name, body, who)

    async def link(self, inode: Inode, parent: Inode, name: bytes, caller: Caller) -> Entry:
        """Give a file a further name."""
        who = self._identify(caller)
        node = self._nodes.get(inode)
        return await self.dirops.link(node, self._nodes.get(parent), name, who)

    async def unlink(self, parent: Inode, name: bytes, caller: Caller) -> None:
        """Remove a name of anything but a directory."""
        who = self._identify(caller)
        await self.dirops.unlink(self._nodes.get(parent), name, who)

    async def rmdir(self, parent: Inode, name: bytes, caller: Caller) -> None:
        """Remove an empty directory."""
        who = self._identify(caller)
        await self.dirops.rmdir(self._nodes.get(parent), name, who)

    async def rename(
        self,
        old_parent: Inode,
        old_name: bytes,
        new_parent: Inode,
        new_name: bytes,
        flags: int,
        caller: Caller,
    ) -> None:
        """Move a name; `flags` are those of renameat2(2)."""
        who = self._identify(caller)
        old, new = self._nodes.get(old_parent), self._nodes.get(new_parent)
        await self.dirops.rename(old, old_name, new, new_name, flags, who)

    # Volumes.

    async def statfs(self, inode: Inode, caller: Caller) -> VolumeSpace:
        """The room in the volume of an inode."""
        node = self._nodes.get(inode)
        if isinstance(node, MadeUp):
            return DYNAMIC_SPACE
        who = self._identify(caller)
        mount, _ = await self._lookups.place(node, who)
        return await self.spaces.space(mount.volume, who)

    async def getxattr(self, inode: Inode, name: bytes, caller: Caller) -> bytes:
        """The value of an extended attribute; ENODATA if there is none."""
        return await self._xattrs.get(self._nodes.get(inode), name, self._identify(caller))

    async def setxattr(self, inode: Inode, name: bytes, value: bytes, caller: Caller) -> None:
        """Set an extended attribute; EOPNOTSUPP for all but the access list."""
        await self._xattrs.set(self._nodes.get(inode), name, value, self._identify(caller))

    async def removexattr(self, inode: Inode, name: bytes, caller: Caller) -> None:
        """ENODATA for what is not there; EPERM for what is, since nothing of it can be removed."""
        await self._xattrs.remove(self._nodes.get(inode), name, self._identify(caller))

    async def listxattr(self, inode: Inode, caller: Caller) -> list[bytes]:
        """None: see `xattrs.NAMES`."""
        node = self._nodes.get(inode)
        if not isinstance(node, MadeUp):
            await self._require_sight(node, self._identify(caller))
        return []
