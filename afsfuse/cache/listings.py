"""Whole directories: fetched in one call, parsed, kept with their version, compared when new.

They are on the disk, too, as files are: what comes from a server is written there, and read from
there when the same version is wanted again, also by another daemon. What was edited in place is
written when it leaves the memory, since each change makes another version.
"""

from __future__ import annotations

import errno
from collections import OrderedDict
from typing import TYPE_CHECKING

import trio

from afsfuse.auth.identity import NOBODY
from afsfuse.cache.directories import MAX_SIZE, PAGE_SIZE, Directory
from afsfuse.cache.doors import LOOK
from afsfuse.cache.listener import NullListener
from afsfuse.cell.tables import compacted
from afsfuse.errors import AfsError, DataCorrupt
from afsfuse.fileserver.failures import locate
from afsfuse.model import FileKind

if TYPE_CHECKING:
    from afsfuse.auth.identity import Identity
    from afsfuse.cache.callbacks import BreakLog
    from afsfuse.cache.chunks import ChunkStore
    from afsfuse.cache.disk import NoFile
    from afsfuse.cache.doors import Doors
    from afsfuse.cache.listener import KernelListener
    from afsfuse.cache.statuses import StatusKeeper
    from afsfuse.cache.vnodes import Vnode
    from afsfuse.cell.volumes import Volume
    from afsfuse.fileserver.client import FileServerClient
    from afsfuse.interfaces.common import Fid

_NOBODY = NullListener()
_ATTEMPTS = 6
_GROWTH = 16 * PAGE_SIZE  # asked for beyond the known size, in case the directory is growing


class Listings:
    """The parsed directories of all volumes, bounded by their memory."""

    def __init__(
        self,
        client: FileServerClient,
        statuses: StatusKeeper,
        doors: Doors,
        log: BreakLog,
        store: ChunkStore,
        limit: int,
    ) -> None:
        """Keep directories of at most `limit` bytes in all, and at least one; `store` knows where
        they are on the disk.
        """
        self._client = client
        self._statuses = statuses
        self._doors = doors
        self._log = log
        self._store = store
        self._limit = limit
        self._order: OrderedDict[Vnode, int] = OrderedDict()  # what each costs; least used first
        self._flights: dict[Vnode, trio.Event] = {}
        self.used = 0
        self.fetches = 0
        self.disk_hits = 0

    def __len__(self) -> int:
        """Number of directories kept."""
        return len(self._order)

    async def directory(
        self, volume: Volume, fid: Fid, listener: KernelListener, who: Identity = NOBODY
    ) -> Directory:
        """The directory in the version of its status, if `who` may look; raise `AfsError`."""
        for _ in range(_ATTEMPTS):
            vnode = await self._statuses.status(volume, fid, who)
            if vnode.status.kind is not FileKind.DIRECTORY:
                raise AfsError("not a directory", errno=errno.ENOTDIR, cell=volume.cell.name)
            if vnode.look_until <= trio.current_time():
                await self._doors.require(vnode, LOOK, who)
            known = vnode.directory
            if known is not None and known.data_version == vnode.status.data_version:
                self._order.move_to_end(vnode)
                return known
            flight = self._flights.get(vnode)
            if flight is not None:
                await flight.wait()
                continue
            fetched = await self._fetch(vnode, listener, self._statuses.speaker(who, volume))
            if fetched is not None:
                return fetched
        raise AfsError(
            "the directory changes faster than it can be read",
            errno=errno.EAGAIN,
            cell=volume.cell.name,
            volume=volume.name,
        )

    def at_once(self, vnode: Vnode, who: Identity) -> Directory | None:
        """What `directory` gives, if it is here and `who` is known to be let in; else None."""
        known = vnode.directory
        if (
            known is None
            or known.data_version != vnode.status.data_version
            or not vnode.valid(trio.current_time())
            or not self._doors.lets_in(vnode, LOOK, who)
        ):
            return None
        vnode.used = True
        self._order.move_to_end(vnode)
        return known

    async def _fetch(
        self, vnode: Vnode, listener: KernelListener, who: Identity
    ) -> Directory | None:
        """Bring a directory into memory, from the disk or from its server, for all who want it.

        None if it changed too much meanwhile.
        """
        done = self._flights[vnode] = trio.Event()
        try:
            file = self._on_disk(vnode)
            data = await file.read(0, vnode.status.length)
            if data is None:
                return await self._from_server(vnode, listener, who)
            if self._on_disk(vnode) is not file:
                return None
            fresh = Directory.parse(bytes(data), vnode.status.data_version)
            self.disk_hits += 1
            if vnode.valid(trio.current_time()):  # else it may have left the table
                self._install(vnode, fresh, listener)
            return fresh
        except DataCorrupt as exc:
            vnode.void()  # a status that led here is not to be kept as long as was promised
            locate(exc, vnode.volume, vnode.server)
            raise
        finally:
            del self._flights[vnode]
            done.set()

    async def _from_server(
        self, vnode: Vnode, listener: KernelListener, who: Identity
    ) -> Directory | None:
        """Fetch and parse; None if it grew too much meanwhile or another version is newer.

        The server holds the vnode during the call, so what comes is one version, the one that the
        call's own status names.
        """
        size = vnode.status.length
        if not 0 < size <= MAX_SIZE:
            raise DataCorrupt(f"directory {vnode.fid} is said to have {size} bytes")
        buffer = bytearray(size + _GROWTH)
        ticket = self._log.begin()
        try:
            self.fetches += 1
            reply = await self._client.fetch_data(
                vnode.volume, vnode.fid, 0, [memoryview(buffer)], who
            )
            applied = self._statuses.apply(vnode.volume, vnode.fid, reply, ticket, who)
        finally:
            self._log.end()
        version, length = reply.status.data_version, reply.status.length
        if length > len(buffer):
            return None
        if reply.length != length:
            raise DataCorrupt(
                f"a server sent {reply.length} of the {length} bytes of directory {vnode.fid}"
            )
        fresh = Directory.parse(bytes(memoryview(buffer)[:length]), version)
        if applied.status.data_version != version or self._statuses.is_late(vnode.volume, reply):
            return None
        self._install(applied, fresh, listener)
        self.save(applied)
        return fresh

    def _on_disk(self, vnode: Vnode) -> NoFile:
        status = vnode.status
        return self._store.on_disk(vnode, status.data_version, status.length)

    def save(self, vnode: Vnode) -> None:
        """Have the directory of a vnode written to the disk, if it is not there. Free of await."""
        directory, status = vnode.directory, vnode.status
        if (
            directory is None
            or directory.data_version != status.data_version
            or directory.length != status.length
        ):
            return
        file = self._on_disk(vnode)
        size = self._store.chunk_size
        if file.holds(0, (status.length - 1) // size):
            return
        view = memoryview(directory.snapshot())
        file.put(0, [view[start : start + size] for start in range(0, len(view), size)])

    def _install(self, vnode: Vnode, fresh: Directory, listener: KernelListener) -> None:
        """Put a new version in the place of the old one, and tell what is different in it."""
        old = vnode.directory
        self._forget(vnode)
        vnode.directory = fresh
        self._order[vnode] = fresh.cost
        self.used += fresh.cost
        self._shrink()
        if not listener.interested(vnode):
            return
        if old is not None:
            names = old.diff(fresh)
            if names:
                listener.names_changed(vnode, names)
        elif vnode.evicted_version not in (None, fresh.data_version):
            listener.names_changed(vnode, None)
        vnode.evicted_version = None

    def adopt(self, vnode: Vnode, fresh: Directory) -> None:
        """Keep the directory of a vnode that was made just now: nobody can hold names of it."""
        if vnode.directory is None and vnode.evicted_version is None:
            self._install(vnode, fresh, _NOBODY)

    def edited(self, vnode: Vnode) -> None:
        """The directory of a vnode was edited in place, so it may cost more or less."""
        assert vnode.directory is not None
        cost = vnode.directory.cost
        self.used += cost - self._order[vnode]
        self._order[vnode] = cost
        self._order.move_to_end(vnode)
        self._shrink()

    def _shrink(self) -> None:
        while self.used > self._limit and len(self._order) > 1:
            oldest = next(iter(self._order))
            assert oldest.directory is not None
            self.save(oldest)
            oldest.evicted_version = oldest.directory.data_version
            self._forget(oldest)

    def _forget(self, vnode: Vnode) -> None:
        """Drop a directory if there is one."""
        vnode.directory = None
        self.used -= self._order.pop(vnode, 0)

    def compact(self) -> None:
        """Give back the room of directories that were dropped."""
        self._order = compacted(self._order)

    def drop(self, vnode: Vnode) -> None:
        """The vnode is leaving."""
        self._forget(vnode)
