"""The facade of the cache: what the file system asks, and what the callback service tells."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import trio

from afsfuse.auth.identity import NOBODY
from afsfuse.cache.callbacks import BreakLog
from afsfuse.cache.changing import DirectoryChanger
from afsfuse.cache.chunks import ChunkStore
from afsfuse.cache.disk import NoDisk
from afsfuse.cache.doors import LOOK, Doors
from afsfuse.cache.entries import CacheEntry, EntrySnapshots, describe
from afsfuse.cache.fetching import Fetcher
from afsfuse.cache.figures import CacheStatistics
from afsfuse.cache.flushing import Flusher
from afsfuse.cache.leaving import Leaving
from afsfuse.cache.listener import NullListener
from afsfuse.cache.listings import Listings
from afsfuse.cache.locks import LockMode, Locks
from afsfuse.cache.promises import Promises
from afsfuse.cache.readahead import ReadState
from afsfuse.cache.reading import Reader
from afsfuse.cache.revalidation import Revalidator
from afsfuse.cache.sleeping import watch_sleep
from afsfuse.cache.statuses import StatusKeeper
from afsfuse.cache.vnodes import VnodeTable
from afsfuse.cache.writeback import Writes
from afsfuse.errors import AfsError, DataCorrupt
from afsfuse.model import FileKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path
    from uuid import UUID

    from afsfuse.auth.identity import Identity
    from afsfuse.cache.directories import Directory
    from afsfuse.cache.journal import Journal
    from afsfuse.cache.listener import KernelListener
    from afsfuse.cache.vnodes import Vnode
    from afsfuse.cell.servers import FileServer
    from afsfuse.cell.volumes import Volume
    from afsfuse.fileserver.client import FileServerClient
    from afsfuse.interfaces.common import Fid

log = logging.getLogger(__name__)

MAX_LINK = 1024  # bytes of a symlink's or mount point's body. Source: AFSPATHMAX in common.xg
_GIVE_UP_TIME = 5.0  # seconds for all servers together, at the end


class CacheManager:
    """Everything that is known of files, for all cells. See the docstring of the package."""

    def __init__(
        self,
        client: FileServerClient,
        *,
        data_bytes: int = 64 << 20,
        chunk_size: int = 32 << 10,
        directory_bytes: int = 32 << 20,
        dirty_bytes: int = 32 << 20,
        vnode_limit: int = 32768,
        channels: int = 32,
        patience: float = 0.0,
        listener: KernelListener | None = None,
        lock_mode: LockMode = LockMode.OPENAFS,
        disk: NoDisk | None = None,
        journal: Journal | None = None,
    ) -> None:
        """Bounds are in bytes, but for the number of vnodes that the kernel does not hold.
        `dirty_bytes` bounds what is written and not stored yet, beside `data_bytes`.

        `channels` is how many calls the client can have in flight to one server; `patience` the
        seconds for which one that fell silent over a change is waited for (`cache.outcomes`).
        `listener` may be assigned later, before `run`. Without `disk` data is in memory only.
        """
        self._disk = disk or NoDisk()
        self.listener: KernelListener = listener or NullListener()
        self._client = client
        self._log = BreakLog()
        self._table = VnodeTable(vnode_limit, self._held, self._dropped)
        self._promises = Promises(self._table, self._log, self._promise_lost)
        self._store = ChunkStore(data_bytes, chunk_size, self._disk, self._table.created)
        self._statuses = StatusKeeper(
            client, self._table, self._log,
            self._version_moved, self._instance_moved, self._rights_narrowed,
        )  # fmt: skip
        self.doors = Doors(self._statuses, self._table)
        self._fetcher = Fetcher(client, self._statuses, self._log, self._store, channels)
        journal = self.journal = journal or self._disk.journal
        self._reader = Reader(self._statuses, self.doors, self._fetcher, journal)
        self.writes = Writes(
            client, self._log, self._store, journal, dirty_bytes,
            data_lost=self._data_lost, version_stored=self._version_stored,
        )  # fmt: skip
        """All that is written and not stored yet."""
        self._listings = Listings(
            client, self._statuses, self.doors, self._log, self._store, directory_bytes
        )
        self._revalidator = Revalidator(self._statuses, self._listings)
        self.leaving = Leaving(client, self._table, self._save, self._promises.giving_back)
        """What is let go since nobody uses it."""
        self._table.evicting = self.leaving.evicted
        self.changer = DirectoryChanger(
            client, self._table, self._statuses, self._listings, self._log,
            self._promises.lose, self.directory, patience,
        )  # fmt: skip
        self.flusher = Flusher(self._table, self._store, self._disk, self._instance_moved)
        self._snapshots = EntrySnapshots()
        self.locks = Locks(
            client, lock_mode, look=self._look, watch=self.status, store=self._store_file
        )

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Read ahead and revalidate until cancelled."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self._disk.run)
            await nursery.start(self._reader.ahead.run)
            await nursery.start(self.locks.run)
            await nursery.start(self.writes.run)
            nursery.start_soon(self._revalidator.run, self.listener)
            nursery.start_soon(self.changer.run)
            nursery.start_soon(self.leaving.run)
            nursery.start_soon(watch_sleep, self._slept)
            task_status.started()

    # What the file system asks

    def peek(self, volume: Volume, fid: Fid) -> Vnode | None:
        """What is known of a fid, valid or not, without a call."""
        return self._table.find(volume, fid)

    async def status(self, volume: Volume, fid: Fid, who: Identity = NOBODY) -> Vnode:
        """The vnode with a status that may be relied on now; raise `AfsError`.

        What is not known is asked in the name of `who`. What is known, or was told to others, is
        returned to anybody: whether `who` may see it is for the caller to ask the `doors`.

        Callers that ask at the same time share one call. The promise of the vnode returned can
        already be broken again: use the status and rely on it for no time.
        """
        return await self._statuses.status(volume, fid, who)

    async def refetch(self, volume: Volume, fid: Fid, who: Identity = NOBODY) -> Vnode:
        """The vnode with a status that is asked for anew, whatever is known; raise `AfsError`."""
        return (await self._statuses.fetch(volume, fid, who))[0]

    async def statuses(
        self, volume: Volume, directory: Fid, fids: Sequence[Fid], who: Identity = NOBODY
    ) -> list[Vnode | AfsError]:
        """Vnodes or errors of many files of one directory, in the order of `fids`.

        For rights see `status`.
        """
        return await self._statuses.statuses(volume, directory, fids, who)

    async def directory(self, volume: Volume, fid: Fid, who: Identity = NOBODY) -> Directory:
        """The whole directory as it is now; raise `AfsError`, also if `who` may not look in."""
        return await self._listings.directory(volume, fid, self.listener, who)

    def peek_directory(self, vnode: Vnode, who: Identity) -> Directory | None:
        """The same, if that is here and `who` is known to be let in."""
        return self._listings.at_once(vnode, who)

    async def read(
        self, volume: Volume, fid: Fid, offset: int, size: int, stream: ReadState
    ) -> bytes | memoryview:
        """Bytes of one data version; fewer than `size` only at the end of the file.

        Raises `NotPermitted` if whom the stream belongs to may not read it, now.
        """
        data = await self._reader.read(volume, fid, offset, size, stream)
        self._fetcher.counters.read_bytes += len(data)
        return data

    def peek_data(
        self, vnode: Vnode, offset: int, size: int, stream: ReadState
    ) -> memoryview | None:
        """What `read` would return, if that is valid now and lies in one chunk."""
        data = self._reader.peek(vnode, offset, size, stream)
        if data is not None:
            self._fetcher.counters.read_bytes += len(data)
        return data

    async def readlink(self, volume: Volume, fid: Fid, who: Identity = NOBODY) -> bytes:
        """The body of a symlink or mount point, as it is stored, if `who` may see it."""
        vnode = await self._statuses.status(volume, fid, who)
        await self.doors.require(vnode, LOOK, who)
        link = vnode.link
        if link is not None and link[0] == vnode.data_version:
            return link[1]
        if vnode.status.length > MAX_LINK:
            raise DataCorrupt(f"symlink {fid} is said to have {vnode.status.length} bytes")
        body = bytes(await self._reader.read(volume, fid, 0, MAX_LINK, ReadState(who)))
        # The read may have met a newer version: are they of the status that is known now?
        file = vnode.data
        if file is not None and file.data_version == vnode.data_version:
            vnode.link = (file.data_version, body)
            self._drop_data(vnode)
        return body

    def open_stream(self, vnode: Vnode, who: Identity = NOBODY) -> ReadState:
        """State for one open file; give it to each `read` and to `close_stream` at the end."""
        return ReadState(who)

    def close_stream(self, stream: ReadState) -> None:
        """The file is closed."""
        self._reader.ahead.close(stream)

    def prefetch(self, vnodes: Iterable[Vnode], who: Identity = NOBODY) -> None:
        """Begin to fetch small files of one volume that `who` is about to read.

        Never waits or fails.
        """
        self._reader.ahead.prefetch(vnodes, who)

    @property
    def aside(self) -> Path:
        """Where what cannot be stored is put, for people."""
        return self._disk.aside

    def token_changed(self, who: Identity, cell: str) -> None:
        """An identity has another token for a cell, or none: what it may do is not known any more.

        Free of await.
        """
        self._log.note((who, cell))
        for vnode in self._table:
            if vnode.permits and vnode.volume.cell.name == cell:
                vnode.permits.pop(who, None)
        self.writes.token_changed(who, cell)

    # What this client has changed itself

    def rights_changed(self, volume: Volume, fid: Fid) -> None:
        """The access list of a directory is, or may be, another one by our own doing.

        To be called whatever became of the call that was to change it. Nothing that was known of
        rights holds any more, and no answer that is under way counts. Servers tell everybody of the
        change but its maker, whose promise they leave. Free of await.
        """
        self._log.note(fid)
        vnode = self._table.find(volume, fid)
        if vnode is not None:
            self._promises.lose(vnode)

    async def learn_rights(self, volume: Volume, fid: Fid, who: Identity) -> None:
        """Ask for the rights in a directory after `rights_changed`, in the name of who changed it.

        The status in the reply of StoreACL is no help: its rights are those before the change.
        Never raises `AfsError`: if nobody can say what is true now, the kernel has nothing left
        that it could give away.
        """
        try:
            await self._statuses.fetch(volume, fid, who)
        except AfsError as exc:
            log.debug("the new rights in %s are not known: %s", fid, exc)
            vnode = self._table.find(volume, fid)
            if vnode is not None:
                self._rights_narrowed(vnode)

    # What the callback service tells: all of this is free of await

    def break_callback(self, server: tuple[str, int], fids: Iterable[Fid]) -> list[Vnode]:
        """A server takes promises back; vnode 0 stands for the whole volume.

        Returns the vnodes that lost a promise. Whether `server` may say so is for the caller to
        judge; the fids alone decide here, since a server has addresses that nobody registered.
        """
        broken = list(fids)
        for fid in broken:
            self.locks.broken(fid)
        return self._promises.break_fids(broken)

    def break_server(self, server: tuple[str, int], uuid: UUID | None = None) -> list[Vnode]:
        """A server has forgotten all promises that it gave us; `uuid` is its own, if it said so."""
        return self._promises.break_server(server, uuid)

    def break_all(self) -> list[Vnode]:
        """No promise of any server holds any more."""
        return self._promises.break_all()

    def promises_lost(self, server: FileServer) -> None:
        """A server may have broken promises, or forgotten them, without our hearing of it."""
        self._promises.break_server(("", 0), server.uuid)

    def server_changed(self, volume: Volume, before: FileServer) -> None:
        """Another server is asked about a volume: `before` may have no way to break promises."""
        self._promises.server_changed(volume, before)

    def _promise_lost(self, vnode: Vnode, had: bool) -> None:
        """Nothing that was known of a vnode may be relied on, be it that it `had` a promise: have
        the truth found out.
        """
        if self.listener.interested(vnode):
            if had:
                self.listener.promise_broken(vnode)
            self._revalidator.submit(vnode)

    # What happens to vnodes: all of this is free of await, too

    def _held(self, vnode: Vnode) -> bool:
        return vnode.dirty is not None or self.listener.interested(vnode)

    def _dropped(self, vnode: Vnode) -> None:
        """A vnode has left the table: nothing may remain of it."""
        self.writes.removed(vnode)  # while it is dirty it leaves with its last name only
        self._drop_data(vnode)
        self._listings.drop(vnode)
        self._revalidator.forget(vnode)
        self.listener.vnode_dropped(vnode)

    def _save(self, vnode: Vnode) -> None:
        """What a vnode has in memory goes to the disk, unless it is of no use any more."""
        if vnode.data is not None:
            self._store.retire(vnode.data)
        if vnode.link is not None and vnode.link[0] == vnode.data_version:
            body = vnode.link[1]
            self._store.on_disk(vnode, vnode.data_version, len(body)).put(0, (body,))
        elif vnode.directory is not None and vnode.expires:
            self._listings.save(vnode)

    def _drop_data(self, vnode: Vnode) -> None:
        if vnode.data is not None:
            self._store.drop(vnode.data)
            vnode.data = None

    def _version_moved(self, vnode: Vnode) -> None:
        """A status names another data version than the one known before."""
        self._drop_data(vnode)
        self.writes.version_moved(vnode)
        if vnode.dirty is None or not vnode.dirty.flights:  # else it may be a version of ours
            self.locks.changed(vnode.volume, vnode.fid)
        if not self.listener.interested(vnode):
            return
        if vnode.status.kind is FileKind.DIRECTORY:
            self._revalidator.submit(vnode)
        else:
            self.listener.data_changed(vnode)

    def _data_lost(self, vnode: Vnode) -> None:
        """What is cached of a file's data is not what its server has, or may not be."""
        self._drop_data(vnode)
        self.locks.changed(vnode.volume, vnode.fid)
        if self.listener.interested(vnode):
            self.listener.data_changed(vnode)

    def _version_stored(self, vnode: Vnode, before: int) -> None:
        """We have made another data version ourselves, and the kernel knows what is in it."""
        self.listener.version_stored(vnode, before)

    def _rights_narrowed(self, vnode: Vnode) -> None:
        """Anybody may do less in a directory than was known."""
        if self.listener.interested(vnode):
            self.listener.rights_narrowed(vnode)

    def _instance_moved(self, vnode: Vnode, comparable: bool) -> None:
        """The vnode's volume was released anew, or replaced by one with other data."""
        self._promises.lose(vnode)
        vnode.created = 0
        if comparable:
            return
        self._drop_data(vnode)
        vnode.link = None
        if vnode.directory is not None:
            vnode.directory.data_version = -1  # of no version: fetched again and compared
        elif vnode.evicted_version is not None:
            vnode.evicted_version = -1
        if self.listener.interested(vnode) and vnode.status.kind is not FileKind.DIRECTORY:
            self.listener.data_changed(vnode)

    async def _store_file(self, volume: Volume, fid: Fid) -> None:
        """Bring to the server what was written to a file, as far as that can be. Never raises."""
        vnode = self._table.find(volume, fid)
        if vnode is not None:
            await self.writes.store(vnode)

    async def _look(self, volume: Volume, fid: Fid, anew: bool) -> bool:
        """Make sure of the status of a file, `anew` also if there is a promise; whether it could
        be compared with what was known."""
        known = self._table.find(volume, fid)
        if known is None:
            return False
        try:
            await (self.refetch if anew else self.status)(volume, fid, known.asked_by)
        except AfsError:
            return False
        return True

    def _slept(self, seconds: float) -> None:
        """The machine was asleep: the clock of all promises stood still meanwhile."""
        log.info("the machine slept for %.0f s; all files are checked", seconds)
        self._client.slept()
        self.break_all()
        self.locks.slept(seconds)

    async def give_up_all(self) -> None:
        """Tell the servers that our locks and their promises are not needed any more; best effort,
        8 s.

        This is the end of the cache: nothing is revalidated from here on.
        """
        await self.locks.give_up_all()
        self._revalidator.close()
        self.leaving.close()
        self._store.save()
        for vnode in self._table:
            self._save(vnode)
        servers = {
            vnode.server
            for vnode in self._table
            if vnode.server is not None and vnode.expires > 0.0
        }
        self._promises.end()
        with trio.move_on_after(_GIVE_UP_TIME):
            async with trio.open_nursery() as nursery:
                for server in servers:
                    nursery.start_soon(self._give_up, server)

    async def _give_up(self, server: FileServer) -> None:
        try:
            await self._client.give_up_all_callbacks(server)
        except AfsError as exc:
            log.debug("callbacks were not given back: %s", exc)

    # Figures

    def compact(self) -> None:
        """Give back the room of what has left the tables."""
        self._table.compact()
        self._listings.compact()
        self._revalidator.compact()
        self._disk.compact()

    def entries(self, index: int) -> CacheEntry | None:
        """The vnode of this number as `cmdebug` asks for it; None past the end."""
        now = trio.current_time()
        vnode = self._snapshots.at(index, self._table, now)
        return None if vnode is None else describe(vnode, self._held(vnode), now)

    def statistics(self) -> CacheStatistics:
        """A snapshot of all counters."""
        reads = self._fetcher.counters
        return CacheStatistics(
            vnodes=len(self._table),
            directories=len(self._listings),
            directory_bytes=self._listings.used,
            data_bytes=self._store.used,
            chunks=len(self._store),
            chunks_evicted=self._store.evicted,
            status_fetches=self._statuses.fetched,
            status_shared=self._statuses.shared,
            bulk_calls=self._statuses.bulk_calls,
            directory_fetches=self._listings.fetches,
            directory_disk_hits=self._listings.disk_hits,
            data_limit=self._store.limit,
            reads=reads.reads,
            read_bytes=reads.read_bytes,
            chunk_hits=reads.hits,
            disk_hits=reads.disk_hits,
            chunk_misses=reads.misses,
            chunk_waits=reads.waits,
            data_fetches=reads.fetches,
            ahead_fetches=reads.ahead_fetches,
            fetched_bytes=reads.fetched_bytes,
            read_restarts=reads.restarts,
            dirty_bytes=self.writes.used,
            dirty_limit=self.writes.limit,
            written_bytes=self.writes.counters.written_bytes,
            stores=self.writes.counters.stores,
            stored_bytes=self.writes.counters.stored_bytes,
            store_failures=self.writes.counters.failures,
            store_conflicts=self.writes.counters.conflicts,
            breaks=self._promises.breaks,
            server_breaks=self._promises.server_breaks,
            revalidated=self._revalidator.revalidated,
            revalidation_failures=self._revalidator.failed,
            revalidation_queue=len(self._revalidator),
            given_up=self.leaving.given_up,
            disk=self._disk.statistics(),
        )
