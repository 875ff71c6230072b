"""The request handlers: each translates its arguments, makes one call of the vfs, translates back.

A mount with `-o ro` is read-only in the kernel's eyes (`MS_RDONLY`), so that no handler which would
change something is ever called. FLUSH is what makes close(2) tell the truth, and what ends POSIX
locks; that of files which were only read is answered by `_libfuse` as long as nobody has such a
lock. ACCESS has to tell the truth, too, since rights in AFS are not what the mode bits say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, cast

import pyfuse3

from afsfuse.auth.identity import Caller
from afsfuse.fuse.convert import (
    attributes_to_set,
    entry_attributes,
    file_info,
    statvfs_data,
)
from afsfuse.fuse.handler import asking_first, handler, quiet
from afsfuse.fuse.requestlog import parse
from afsfuse.model import Inode

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from afsfuse.fuse.interrupts import Interrupts
    from afsfuse.fuse.locks import LockApi, LockRequests
    from afsfuse.fuse.requestlog import Requests
    from afsfuse.fuse.workers import Gate
    from afsfuse.vfs.entry import Attributes, Entry, Listing, OpenFile, VolumeSpace

READDIR_ROOM = 192
"""Names asked of the vfs for one READDIRPLUS: what fits into 32 KiB, the C library's buffer."""

ROOT = Inode(1)


class FileSystemApi(Protocol):
    """What is served: `afsfuse.vfs.filesystem.FileSystem`, or a toy in tests."""

    async def lookup(self, parent: Inode, name: bytes, caller: Caller) -> Entry: ...
    def lookup_at_once(self, parent: Inode, name: bytes, caller: Caller) -> Entry | None: ...
    def forget(self, pairs: Iterable[tuple[Inode, int]]) -> None: ...
    async def getattr(self, inode: Inode, caller: Caller) -> Entry: ...
    def getattr_at_once(self, inode: Inode) -> Entry | None: ...
    async def readlink(self, inode: Inode, caller: Caller) -> bytes: ...
    async def open(self, inode: Inode, flags: int, caller: Caller) -> OpenFile: ...
    def open_at_once(self, inode: Inode, flags: int, caller: Caller) -> OpenFile | None: ...
    async def read(self, handle: int, offset: int, size: int) -> bytes | memoryview: ...
    def read_at_once(self, handle: int, offset: int, size: int) -> memoryview | None: ...
    async def write(self, handle: int, offset: int, data: bytes) -> int: ...
    def write_at_once(self, handle: int, offset: int, data: bytes) -> int | None: ...
    def is_settled(self, handle: int) -> bool: ...
    async def flush(self, handle: int, owner: int) -> None: ...
    async def fsync(self, handle: int) -> None: ...
    def release(self, handle: int) -> None: ...
    def caller_of(self, handle: int) -> Caller | None: ...
    @property
    def locking(self) -> LockApi: ...
    def keep_locks(self) -> None: ...
    async def setattr(
        self, inode: Inode, wanted: Attributes, handle: int | None, caller: Caller
    ) -> Entry: ...
    async def opendir(self, inode: Inode, caller: Caller) -> int: ...
    async def readdir(self, handle: int, offset: int, room: int) -> Sequence[Listing]: ...
    def listed(self, handle: int, listing: Listing) -> None: ...
    def releasedir(self, handle: int) -> None: ...
    async def create(
        self, parent: Inode, name: bytes, mode: int, flags: int, caller: Caller
    ) -> tuple[OpenFile, Entry]: ...
    async def mknod(self, parent: Inode, name: bytes, mode: int, caller: Caller) -> Entry: ...
    async def mkdir(self, parent: Inode, name: bytes, mode: int, caller: Caller) -> Entry: ...
    async def symlink(self, parent: Inode, name: bytes, body: bytes, caller: Caller) -> Entry: ...
    async def link(self, inode: Inode, parent: Inode, name: bytes, caller: Caller) -> Entry: ...
    async def unlink(self, parent: Inode, name: bytes, caller: Caller) -> None: ...
    async def rmdir(self, parent: Inode, name: bytes, caller: Caller) -> None: ...
    async def rename(
        self,
        old_parent: Inode,
        old_name: bytes,
        new_parent: Inode,
        new_name: bytes,
        flags: int,
        caller: Caller,
    ) -> None: ...
    async def statfs(self, inode: Inode, caller: Caller) -> VolumeSpace: ...
    async def access(self, inode: Inode, mask: int, caller: Caller) -> bool: ...
    async def getxattr(self, inode: Inode, name: bytes, caller: Caller) -> bytes: ...
    async def setxattr(self, inode: Inode, name: bytes, value: bytes, caller: Caller) -> None: ...
    async def listxattr(self, inode: Inode, caller: Caller) -> Sequence[bytes]: ...
    async def removexattr(self, inode: Inode, name: bytes, caller: Caller) -> None: ...


def _caller(ctx: pyfuse3.RequestContext) -> Caller:
    """Who asks. `ctx.pid` is the id of the thread, whatever its name says."""
    return Caller(ctx.uid, ctx.gid, ctx.pid)


class Operations(pyfuse3.Operations):
    """What `pyfuse3.main` calls. `about` are extended attributes of the root about the daemon."""

    supports_dot_lookup = False  # the kernel asks for "." and ".." by name only for NFS exports
    enable_acl = False
    enable_writeback_cache = False

    def __init__(
        self,
        filesystem: FileSystemApi,
        interrupts: Interrupts,
        requests: Requests,
        gate: Gate,
        locks: LockRequests,
        about: Mapping[bytes, bytes],
    ) -> None:
        super().__init__()
        self.interrupts = interrupts
        self.requests = requests
        self.gate = gate
        self.locks = locks
        self._vfs = filesystem
        self._about = about

    def user_of(self, arguments: tuple[object, ...]) -> int:
        """The uid that a request names, or that of whoever opened what is read."""
        uid = getattr(arguments[-1], "uid", None)
        if uid is None:
            opener = self._vfs.caller_of(cast("int", arguments[0]))
            return 0 if opener is None else opener.uid
        return cast("int", uid)

    def stacktrace(self) -> None:
        """Nothing: pyfuse3 would log the stack of every thread, for whoever sets an attribute of
        the name that it has for that.
        """

    def _lookup_at_once(
        self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes | None:
        entry = self._vfs.lookup_at_once(Inode(parent_inode), name, _caller(ctx))
        return None if entry is None else entry_attributes(entry)

    @asking_first(_lookup_at_once)
    @handler
    async def lookup(
        self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        return entry_attributes(await self._vfs.lookup(Inode(parent_inode), name, _caller(ctx)))

    @quiet
    async def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        self._vfs.forget([(Inode(inode), count) for inode, count in inode_list])

    def _getattr_at_once(
        self, inode: int, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes | None:
        entry = self._vfs.getattr_at_once(Inode(inode))
        return None if entry is None else entry_attributes(entry)

    @asking_first(_getattr_at_once)
    @handler
    async def getattr(self, inode: int, ctx: pyfuse3.RequestContext) -> pyfuse3.EntryAttributes:
        return entry_attributes(await self._vfs.getattr(Inode(inode), _caller(ctx)))

    @handler
    async def readlink(self, inode: int, ctx: pyfuse3.RequestContext) -> bytes:
        return await self._vfs.readlink(Inode(inode), _caller(ctx))

    def _open_at_once(
        self, inode: int, flags: int, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.FileInfo | None:
        opened = self._vfs.open_at_once(Inode(inode), flags, _caller(ctx))
        return None if opened is None else file_info(opened)

    @asking_first(_open_at_once)
    @handler
    async def open(self, inode: int, flags: int, ctx: pyfuse3.RequestContext) -> pyfuse3.FileInfo:
        return file_info(await self._vfs.open(Inode(inode), flags, _caller(ctx)))

    def _read_at_once(self, fh: int, off: int, size: int) -> bytes | memoryview | None:
        return self._vfs.read_at_once(fh, off, size)

    @asking_first(_read_at_once)
    @handler
    async def read(  # type: ignore[override]  # pyfuse3 takes any buffer
        self, fh: int, off: int, size: int
    ) -> bytes | memoryview:
        return await self._vfs.read(fh, off, size)

    def _write_at_once(self, fh: int, off: int, buf: bytes) -> int | None:
        return self._vfs.write_at_once(fh, off, buf)

    @asking_first(_write_at_once)
    @handler
    async def write(self, fh: int, off: int, buf: bytes) -> int:
        return await self._vfs.write(fh, off, buf)

    async def flush(self, fh: int) -> None:
        if not self._vfs.is_settled(fh):
            # Whose it is is read before the first await, so it is this request's.
            await self.settle(fh, self.locks.flush_owner())

    @handler
    async def settle(self, fh: int, owner: int) -> None:
        """What is left of a flush, if that is not answered at once."""
        try:
            await self._vfs.flush(fh, owner)
        finally:
            self.locks.note()

    @handler
    async def fsync(self, fh: int, datasync: bool) -> None:
        await self._vfs.fsync(fh)

    async def fsyncdir(self, fh: int, datasync: bool) -> None:
        """Names are changed at the server at once, and it has no call that would do more."""

    @handler
    async def setattr(
        self,
        inode: int,
        attr: pyfuse3.EntryAttributes,
        fields: pyfuse3.SetattrFields,
        fh: int | None,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.EntryAttributes:
        wanted = attributes_to_set(attr, fields)
        return entry_attributes(await self._vfs.setattr(Inode(inode), wanted, fh, _caller(ctx)))

    @quiet
    async def release(self, fh: int) -> None:
        self._vfs.release(fh)
        self.locks.note()

    @handler
    async def opendir(self, inode: int, ctx: pyfuse3.RequestContext) -> int:
        return await self._vfs.opendir(Inode(inode), _caller(ctx))

    @handler
    async def readdir(self, fh: int, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        for listing in await self._vfs.readdir(fh, start_id, READDIR_ROOM):
            name, entry, next_offset = listing
            if not pyfuse3.readdir_reply(token, name, entry_attributes(entry), next_offset):
                break
            self._vfs.listed(fh, listing)

    @quiet
    async def releasedir(self, fh: int) -> None:
        self._vfs.releasedir(fh)

    # Names. The kernel has applied the umask, if it did not leave that to us.

    @handler
    async def create(
        self, parent_inode: int, name: bytes, mode: int, flags: int, ctx: pyfuse3.RequestContext
    ) -> tuple[pyfuse3.FileInfo, pyfuse3.EntryAttributes]:
        opened, entry = await self._vfs.create(
            Inode(parent_inode), name, mode & ~ctx.umask, flags, _caller(ctx)
        )
        return file_info(opened), entry_attributes(entry)

    @handler
    async def mknod(
        self, parent_inode: int, name: bytes, mode: int, rdev: int, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        return entry_attributes(
            await self._vfs.mknod(Inode(parent_inode), name, mode & ~ctx.umask, _caller(ctx))
        )

    @handler
    async def mkdir(
        self, parent_inode: int, name: bytes, mode: int, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        return entry_attributes(
            await self._vfs.mkdir(Inode(parent_inode), name, mode & ~ctx.umask, _caller(ctx))
        )

    @handler
    async def symlink(
        self, parent_inode: int, name: bytes, target: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        return entry_attributes(
            await self._vfs.symlink(Inode(parent_inode), name, target, _caller(ctx))
        )

    @handler
    async def link(
        self, inode: int, new_parent_inode: int, new_name: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        return entry_attributes(
            await self._vfs.link(Inode(inode), Inode(new_parent_inode), new_name, _caller(ctx))
        )

    @handler
    async def unlink(self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        await self._vfs.unlink(Inode(parent_inode), name, _caller(ctx))

    @handler
    async def rmdir(self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        await self._vfs.rmdir(Inode(parent_inode), name, _caller(ctx))

    @handler
    async def rename(
        self,
        parent_inode_old: int,
        name_old: bytes,
        parent_inode_new: int,
        name_new: bytes,
        flags: int,
        ctx: pyfuse3.RequestContext,
    ) -> None:
        old, new = Inode(parent_inode_old), Inode(parent_inode_new)
        await self._vfs.rename(old, name_old, new, name_new, flags, _caller(ctx))

    # Volumes

    @handler
    async def statfs(self, ctx: pyfuse3.RequestContext) -> pyfuse3.StatvfsData:
        # pyfuse3 keeps the node to itself; the request log names it. This line is read before
        # the first await, so it is this request's.
        inode = parse(self.requests.last).nodeid or ROOT
        return statvfs_data(await self._vfs.statfs(Inode(inode), _caller(ctx)))

    @handler
    async def access(self, inode: int, mode: int, ctx: pyfuse3.RequestContext) -> bool:
        return await self._vfs.access(Inode(inode), mode, _caller(ctx))

    @handler
    async def getxattr(self, inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> bytes:
        if inode == ROOT and name in self._about:
            return self._about[name]
        return await self._vfs.getxattr(Inode(inode), name, _caller(ctx))

    @handler
    async def setxattr(
        self, inode: int, name: bytes, value: bytes, ctx: pyfuse3.RequestContext
    ) -> None:
        # XATTR_CREATE and XATTR_REPLACE are dealt with by pyfuse3, which asks for the value first.
        await self._vfs.setxattr(Inode(inode), name, value, _caller(ctx))

    @handler
    async def removexattr(self, inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        await self._vfs.removexattr(Inode(inode), name, _caller(ctx))

    @handler
    async def listxattr(self, inode: int, ctx: pyfuse3.RequestContext) -> Sequence[bytes]:
        return await self._vfs.listxattr(Inode(inode), _caller(ctx))
