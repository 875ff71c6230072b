"""The procedures that change a volume, as coroutines.

All raise `AfsError`: `ReadOnlyVolume` without a call for a volume that nobody can write to,
`TokenExpired` if a change could be made in nobody's name only, and `OutcomeUnknown` if a server
fell silent over a change that must not be made twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeVar

import trio

from afsfuse.errors import DataCorrupt
from afsfuse.fileserver.operation import Effect, Operation
from afsfuse.fileserver.procedures import too_old
from afsfuse.fileserver.replies import (
    ChangeReply,
    CreateReply,
    LinkReply,
    Promise,
    RenameReply,
    promise_of,
)
from afsfuse.interfaces import fileserver as fs
from afsfuse.model import FileKind, Status
from rxrpc import CallAborted

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Sequence

    from afsfuse.auth.identity import Identity
    from afsfuse.cell.volumes import Volume
    from afsfuse.fileserver.operation import Site
    from afsfuse.fileserver.procedures import Procedures
    from afsfuse.fileserver.rotation import Rotation
    from afsfuse.interfaces.common import Fid
    from rxrpc.rpc import Rpc

A = TypeVar("A")
R = TypeVar("R")
T = TypeVar("T")

# As plain numbers: the operators of an IntFlag cost ten times as much.
_MTIME, _OWNER = int(fs.StoreMask.MODIFICATION_TIME), int(fs.StoreMask.OWNER)
_GROUP, _MODE = int(fs.StoreMask.GROUP), int(fs.StoreMask.MODE)
_FSYNC = int(fs.StoreMask.FSYNC)

_SHORT = 16 << 10  # bytes that are copied, so that they go out together with the arguments
_OLD_STORE_END = 2**31 - 1  # how long StoreData can make a file: its server counts with signs


class StatusChange(NamedTuple):
    """What is to be set of a vnode; None leaves it as it is."""

    mode: int | None = None  # permission bits
    owner: int | None = None
    group: int | None = None
    mtime: int | None = None  # Unix seconds; there are no finer times on the wire
    safe: bool = False  # answer only when it is on the server's disk

    def to_wire(self) -> fs.StoreStatus:
        mask = _FSYNC if self.safe else 0
        if self.mtime is not None:
            mask |= _MTIME
        if self.owner is not None:
            mask |= _OWNER
        if self.group is not None:
            mask |= _GROUP
        if self.mode is not None:
            mask |= _MODE
        return fs.StoreStatus(
            fs.StoreMask(mask),
            client_mod_time=(self.mtime or 0) & 0xFFFFFFFF,
            owner=self.owner or 0,
            group=self.group or 0,
            unix_mode_bits=self.mode or 0,
        )


UNCHANGED = StatusChange()

_FILES = (FileKind.FILE,)
_DIRECTORIES = (FileKind.DIRECTORY,)
_LINKS = (FileKind.SYMLINK, FileKind.MOUNTPOINT)


def _made(
    directory: Fid,
    kinds: Collection[FileKind],
    reply: fs.CreateReply | fs.SymlinkReply,
    promise: Promise | None,
    site: Site,
) -> CreateReply:
    """What a server says that it has made, if that can be: a new vnode of the same volume."""
    status, fid = Status.from_wire(reply.status), reply.fid
    if status.kind not in kinds:
        raise DataCorrupt(f"a server made a {status.kind.value} where it was to make another thing")
    if fid.volume != directory.volume or fid == directory:
        raise DataCorrupt(f"a server says that it has made {fid} in {directory}")
    above = Status.from_wire(reply.directory_status)
    return CreateReply(fid, status, above, promise, reply.sync, site.server)


class Changes:
    """Makes changes at the file servers of all cells."""

    def __init__(self, rotation: Rotation, procedures: Procedures) -> None:
        """`FileServerClient.changes` is the one that is used."""
        self._rotation = rotation
        self._procedures = procedures

    # Directories

    async def create_file(
        self, volume: Volume, directory: Fid, name: bytes, change: StatusChange, who: Identity
    ) -> CreateReply:
        """A new empty file."""
        return await self._create(fs.CREATE_FILE, _FILES, volume, directory, name, change, who)

    async def make_dir(
        self, volume: Volume, directory: Fid, name: bytes, change: StatusChange, who: Identity
    ) -> CreateReply:
        """A new directory, with the access list of the one in which it is made."""
        return await self._create(fs.MAKE_DIR, _DIRECTORIES, volume, directory, name, change, who)

    async def _create(
        self,
        rpc: Rpc[fs.CreateArgs, fs.CreateReply],
        kinds: Collection[FileKind],
        volume: Volume,
        directory: Fid,
        name: bytes,
        change: StatusChange,
        who: Identity,
    ) -> CreateReply:
        args = fs.CreateArgs(directory, name, change.to_wire())

        async def attempt(site: Site) -> CreateReply:
            before = trio.current_time()
            reply = await site.connection.call(rpc, args, timeouts=site.timeouts)
            promise = promise_of(reply.callback, site.server, before)
            return _made(directory, kinds, reply, promise, site)

        return await self._do(rpc.name, volume, attempt, who)

    async def symlink(
        self,
        volume: Volume,
        directory: Fid,
        name: bytes,
        target: bytes,
        change: StatusChange,
        who: Identity,
    ) -> CreateReply:
        """A symbolic link; without execute bits in its mode it is a mount point."""
        args = fs.SymlinkArgs(directory, name, target, change.to_wire())

        async def attempt(site: Site) -> CreateReply:
            reply = await site.connection.call(fs.SYMLINK, args, timeouts=site.timeouts)
            return _made(directory, _LINKS, reply, None, site)

        return await self._do("Symlink", volume, attempt, who)

    async def link(
        self, volume: Volume, directory: Fid, name: bytes, existing: Fid, who: Identity
    ) -> LinkReply:
        """A further name for a file of the same directory; servers refuse any other with EXDEV."""
        args = fs.LinkArgs(directory, name, existing)

        async def attempt(site: Site) -> LinkReply:
            reply = await site.connection.call(fs.LINK, args, timeouts=site.timeouts)
            return LinkReply(
                Status.from_wire(reply.status),
                Status.from_wire(reply.directory_status),
                reply.sync,
                site.server,
            )

        return await self._do("Link", volume, attempt, who)

    async def remove_file(
        self, volume: Volume, directory: Fid, name: bytes, who: Identity
    ) -> ChangeReply:
        """Take the name of a file, symbolic link or mount point away; the directory's status."""
        args = fs.NameArgs(directory, name)
        return await self._change(fs.REMOVE_FILE, args, volume, who)

    async def remove_dir(
        self, volume: Volume, directory: Fid, name: bytes, who: Identity
    ) -> ChangeReply:
        """Remove an empty directory; the status of the one in which it stood."""
        args = fs.NameArgs(directory, name)
        return await self._change(fs.REMOVE_DIR, args, volume, who)

    async def rename(
        self,
        volume: Volume,
        old_directory: Fid,
        old_name: bytes,
        new_directory: Fid,
        new_name: bytes,
        who: Identity,
    ) -> RenameReply:
        """Move a name within a volume; what had the new name before is removed."""
        args = fs.RenameArgs(old_directory, old_name, new_directory, new_name)

        async def attempt(site: Site) -> RenameReply:
            reply = await site.connection.call(fs.RENAME, args, timeouts=site.timeouts)
            return RenameReply(
                Status.from_wire(reply.old_status),
                Status.from_wire(reply.new_status),
                reply.sync,
                site.server,
            )

        return await self._do("Rename", volume, attempt, who)

    # Files, and what is set of all vnodes

    async def store_status(
        self, volume: Volume, fid: Fid, change: StatusChange, who: Identity
    ) -> ChangeReply:
        """Set mode, owner, group or time."""
        args = fs.StoreStatusArgs(fid, change.to_wire())
        return await self._change(fs.STORE_STATUS, args, volume, who, Effect.SETS)

    async def store_data(
        self,
        volume: Volume,
        fid: Fid,
        position: int,
        buffers: Sequence[bytes | bytearray | memoryview],
        file_length: int,
        who: Identity,
        change: StatusChange = UNCHANGED,
    ) -> ChangeReply:
        """Write the buffers, one behind the other, from `position` on.

        A file that is longer than `file_length` is cut to that before; one that is shorter becomes
        so long, with zeros in what nobody wrote. It can be sent again after silence: the same bytes
        are written once more, and the data version rises by 2.
        """
        size = sum(map(len, buffers))

        async def attempt(site: Site) -> ChangeReply:
            wire = change.to_wire()
            if self._procedures.has(site, fs.STORE_DATA64):
                args = fs.StoreData64Args(fid, wire, position, size, file_length)
                try:
                    return await self._send(site, fs.STORE_DATA64, args, buffers)
                except CallAborted as exc:
                    self._procedures.note_lacking(site, fs.STORE_DATA64, exc)
            if max(position + size, file_length) > _OLD_STORE_END:
                raise too_old(site, volume)
            old = fs.StoreDataArgs(fid, wire, position, size, file_length)
            return await self._send(site, fs.STORE_DATA, old, buffers)

        return await self._do("StoreData64", volume, attempt, who, Effect.SETS)

    @staticmethod
    async def _send(
        site: Site,
        rpc: Rpc[A, fs.StatusReply],
        args: A,
        buffers: Sequence[bytes | bytearray | memoryview],
    ) -> ChangeReply:
        if sum(map(len, buffers)) <= _SHORT:
            data = b"".join(buffers)
            reply = await site.connection.call(rpc, args, data=data, timeouts=site.timeouts)
        else:
            async with site.connection.stream(rpc, args, timeouts=site.timeouts) as call:
                for buffer in buffers:
                    await call.send(buffer)
                reply = await call.finish()
        return ChangeReply(Status.from_wire(reply.status), reply.sync, site.server)

    async def store_acl(self, volume: Volume, fid: Fid, text: bytes, who: Identity) -> ChangeReply:
        """Set the access list of a directory, given as the text in which servers keep it.

        The older procedure is used at servers that have no other only: it stands for a list in
        which negative entries may have become positive ones. Source: CVE-2018-7168.
        """
        args = fs.StoreAclArgs(fid, text)

        async def attempt(site: Site) -> ChangeReply:
            if self._procedures.has(site, fs.STORE_ACL):
                try:
                    return await self._changed(site, fs.STORE_ACL, args)
                except CallAborted as exc:
                    self._procedures.note_lacking(site, fs.STORE_ACL, exc)
            return await self._changed(site, fs.OLD_STORE_ACL, args)

        return await self._do("StoreACL", volume, attempt, who, Effect.SETS)

    async def set_volume_status(
        self, volume: Volume, quota: int | None, offline_message: bytes, who: Identity
    ) -> None:
        """Set a volume's quota in KiB, where 0 is none, and its message; None and an empty text
        leave them. Servers let administrators do it.
        """
        mask = fs.VolumeMask(0) if quota is None else fs.VolumeMask.MAX_QUOTA
        wire = fs.StoreVolumeStatus(mask, 0, quota or 0)
        args = fs.SetVolumeStatusArgs(volume.id, wire, b"", offline_message, b"")

        async def attempt(site: Site) -> None:
            await site.connection.call(fs.SET_VOLUME_STATUS, args, timeouts=site.timeouts)

        await self._do("SetVolumeStatus", volume, attempt, who, Effect.SETS)

    # Locks, which a server forgets after `fs.LOCK_SECONDS`

    async def set_lock(self, volume: Volume, fid: Fid, type: fs.LockType, who: Identity) -> None:
        """Lock a whole file; EAGAIN (as servers say it) if another one has a lock that bars it."""
        await self._lock(fs.SET_LOCK, fs.SetLockArgs(fid, type), volume, who, Effect.ONCE)

    async def extend_lock(self, volume: Volume, fid: Fid, who: Identity) -> None:
        """Have a lock that we hold last longer."""
        await self._lock(fs.EXTEND_LOCK, fs.FidArgs(fid), volume, who, Effect.SETS)

    async def release_lock(self, volume: Volume, fid: Fid, who: Identity) -> None:
        """Give a lock back."""
        await self._lock(fs.RELEASE_LOCK, fs.FidArgs(fid), volume, who, Effect.ONCE)

    async def _lock(
        self, rpc: Rpc[A, fs.SyncReply], args: A, volume: Volume, who: Identity, effect: Effect
    ) -> None:
        async def attempt(site: Site) -> None:
            await site.connection.call(rpc, args, timeouts=site.timeouts)

        await self._do(rpc.name, volume, attempt, who, effect)

    # What they have in common

    async def _change(
        self,
        rpc: Rpc[A, fs.StatusReply],
        args: A,
        volume: Volume,
        who: Identity,
        effect: Effect = Effect.ONCE,
    ) -> ChangeReply:
        async def attempt(site: Site) -> ChangeReply:
            return await self._changed(site, rpc, args)

        return await self._do(rpc.name, volume, attempt, who, effect)

    @staticmethod
    async def _changed(site: Site, rpc: Rpc[A, fs.StatusReply], args: A) -> ChangeReply:
        reply = await site.connection.call(rpc, args, timeouts=site.timeouts)
        return ChangeReply(Status.from_wire(reply.status), reply.sync, site.server)

    async def _do(
        self,
        name: str,
        volume: Volume,
        attempt: Callable[[Site], Awaitable[T]],
        who: Identity,
        effect: Effect = Effect.ONCE,
    ) -> T:
        return await self._rotation.execute(Operation(name, volume, attempt, who, effect))
