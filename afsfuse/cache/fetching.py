"""Fetching runs of chunks, and making sure of the data version of what came."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from afsfuse.cache.chunks import Chunk, Run
from afsfuse.cache.readahead import Pace
from afsfuse.errors import AfsError, DataCorrupt
from afsfuse.fileserver.failures import locate
from afsfuse.fileserver.transfers import SmallFile

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from afsfuse.auth.identity import Identity
    from afsfuse.cache.callbacks import BreakLog
    from afsfuse.cache.chunks import ChunkStore, FileData
    from afsfuse.cache.statuses import StatusKeeper
    from afsfuse.cell.servers import FileServer
    from afsfuse.cell.volumes import Volume
    from afsfuse.fileserver.client import FileServerClient
    from afsfuse.fileserver.replies import DataReply
    from afsfuse.fileserver.transfers import Outcome
    from afsfuse.interfaces.common import Fid

_PACES_MAX = 256  # servers whose pace is remembered; a new one begins where it began


@dataclass
class ReadCounters:
    """What reads did, since the start."""

    reads: int = 0
    hits: int = 0  # chunks that were there
    disk_hits: int = 0  # chunks that were on the disk
    misses: int = 0  # chunks that a reader had to fetch itself
    waits: int = 0  # chunks for which a reader waited for a fetch under way
    read_bytes: int = 0  # what readers were given
    fetched_bytes: int = 0
    fetches: int = 0
    ahead_fetches: int = 0  # of those, for read-ahead and prefetch
    restarts: int = 0  # a new data version in the middle of a read


class _Transfer:
    """A run while its bytes are under way."""

    __slots__ = ("buffers", "kept", "length", "run", "size", "ticket")

    def __init__(self, run: Run, buffers: list[bytearray], ticket: int) -> None:
        self.run = run
        self.buffers = buffers
        self.length = run.file.length
        """The file's, for which the buffers are right."""
        self.size = sum(map(len, buffers))
        """Bytes reserved in the store."""
        self.kept = 0
        """... and of these, what has become chunks."""
        self.ticket = ticket

    def small_file(self) -> SmallFile:
        """The whole file, to be fetched with others."""
        views = [memoryview(buffer) for buffer in self.buffers]
        return SmallFile(self.run.file.vnode.fid, self.size, views)


class Fetcher:
    """Brings file data into the chunk store."""

    def __init__(
        self,
        client: FileServerClient,
        statuses: StatusKeeper,
        log: BreakLog,
        store: ChunkStore,
        channels: int,
    ) -> None:
        """One for all files; `channels` calls can be in flight to each server."""
        self._channels = channels
        self.store = store
        self.counters = ReadCounters()
        self._client = client
        self._statuses = statuses
        self._log = log
        self._paces: dict[FileServer | None, Pace] = {}

    def pace(self, server: FileServer | None) -> Pace:
        """What calls to a server have taken; one pace for all that are not known yet."""
        pace = self._paces.get(server)
        if pace is None:
            if len(self._paces) >= _PACES_MAX:
                self._paces.clear()
            pace = self._paces[server] = Pace(self._channels)
        return pace

    def notice_losses(self, server: FileServer | None) -> bool:
        """Look whether a server's packets are lost, before any call to it has ended."""
        return server is not None and self.pace(server).lost(self._client.loss(server))

    def plan(self, file: FileData, first: int, last: int, who: Identity) -> Run:
        """Register a fetch of the chunks from `first` on which nobody has or fetches yet.

        The chunk `first` itself must be one of those. Whoever plans a run must `fetch` it.
        """
        end = first + 1
        while end <= last and not file.known(end):
            end += 1
        run = Run(file, first, end - first, self._statuses.speaker(who, file.vnode.volume))
        for index in range(first, end):
            file.runs[index] = run
        return run

    async def fetch(self, run: Run) -> None:
        """Fetch a planned run in this task. Outcomes, errors included, are in the run."""
        vnode = run.file.vnode
        transfer = self._begin(run)
        began = trio.current_time()
        try:
            reply = await self._client.fetch_data(
                vnode.volume,
                vnode.fid,
                run.first << self.store.shift,
                [memoryview(buffer) for buffer in transfer.buffers],
                run.who,
                versioned=True,  # `_confirm` takes no other than the run's
            )
            server = reply.server
            elapsed = trio.current_time() - began
            loss = self._client.loss(server)
            self.pace(server).measured(server.rtt, reply.length, elapsed, loss)
            self._confirm(transfer, reply)
        except AfsError as exc:
            self._failed(run, exc)
        finally:
            self._end(transfer)

    async def fetch_small(self, runs: Sequence[Run], ended: Callable[[Run], None]) -> None:
        """Fetch planned runs, each a whole small file of one volume, at once in this task.

        All are in the name of the same identity.

        `ended` is called with each as soon as it is done, in whatever way.
        """
        transfers = [self._begin(run) for run in runs]
        left = set(transfers)

        def settle(place: int, outcome: Outcome) -> None:
            transfer = transfers[place]
            try:
                if isinstance(outcome, AfsError):
                    self._failed(transfer.run, outcome)
                else:
                    self._confirm(transfer, outcome)
            except AfsError as exc:
                self._failed(transfer.run, exc)
            finally:
                left.discard(transfer)
                self._end(transfer)
                ended(transfer.run)

        try:
            await self._client.fetch_small_files(
                runs[0].file.vnode.volume,
                [transfer.small_file() for transfer in transfers],
                settle,
                runs[0].who,
            )
        except AfsError as exc:
            for transfer in left:
                self._failed(transfer.run, exc.again())
        finally:
            for transfer in left:
                self._end(transfer)
                ended(transfer.run)

    def _begin(self, run: Run) -> _Transfer:
        buffers = self.store.buffers(run.file, run.first, run.count)
        transfer = _Transfer(run, buffers, self._log.begin())
        self.store.reserve(transfer.size)
        self.counters.fetches += 1
        return transfer

    def _failed(self, run: Run, error: AfsError) -> None:
        vnode = run.file.vnode
        locate(error, vnode.volume, vnode.server)
        if isinstance(error, DataCorrupt):
            vnode.void()  # a status that led here is not to be kept as long as was promised
        run.failure = error
        self._statuses.failed(vnode.volume, vnode.fid, error)

    def _end(self, transfer: _Transfer) -> None:
        """Whatever became of it: nobody waits for it any more."""
        run = transfer.run
        self._log.end()
        self.store.release(transfer.size - transfer.kept)
        runs = run.file.runs
        for index in range(run.first, run.first + run.count):
            if runs.get(index) is run:
                del runs[index]
        run.done.set()

    def _confirm(self, transfer: _Transfer, reply: DataReply) -> None:
        """Make chunks of what came if it is of the run's version."""
        run = transfer.run
        file = run.file
        vnode = self._statuses.apply(
            file.vnode.volume, file.vnode.fid, reply, transfer.ticket, run.who
        )
        self.counters.fetched_bytes += reply.length
        status = reply.status
        if status.data_version != file.data_version or status.length != file.length:
            return
        if vnode.data is not file:
            return  # of a volume that was restored, say: the same version is other data there
        if transfer.length != file.length:
            return  # we have stored something meanwhile, and the file has become longer or shorter
        if reply.length != transfer.size:
            raise DataCorrupt(
                f"a server sent {reply.length} bytes of {file.vnode.fid} where it has more"
            )
        for index, buffer in enumerate(transfer.buffers, run.first):
            chunk = run.chunks[index] = Chunk(file, index, buffer)
            if index not in file.chunks:
                self.store.add(chunk)
                transfer.kept += len(buffer)
        file.disk.put(run.first, transfer.buffers)

    async def read_in_one_call(
        self, volume: Volume, fid: Fid, offset: int, size: int, who: Identity
    ) -> memoryview:
        """Read past the cache: one call, so one version, however fast the file changes."""
        who = self._statuses.speaker(who, volume)
        buffer = bytearray(size)
        self.store.reserve(size)
        self.counters.fetches += 1
        ticket = self._log.begin()
        try:
            reply = await self._client.fetch_data(volume, fid, offset, [memoryview(buffer)], who)
            self._statuses.apply(volume, fid, reply, ticket, who)
        finally:
            self._log.end()
            self.store.release(size)
        self.counters.fetched_bytes += reply.length
        if reply.length != min(size, max(0, reply.status.length - offset)):
            raise DataCorrupt(f"a server sent {reply.length} bytes of {fid} where it has more")
        return memoryview(buffer)[: reply.length]
