"""Fetching runs of chunks, and making sure of the data version of what came."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from afsfuse.cache.chunks import Chunk, Run
from afsfuse.cache.readahead import Pace
from afsfuse.errors import AfsError, DataCorrupt
from afsfuse.fileserver.rotation import locate

if TYPE_CHECKING:
    from afsfuse.cache.callbacks import BreakLog
    from afsfuse.cache.chunks import ChunkStore, FileData
    from afsfuse.cache.statuses import StatusKeeper
    from afsfuse.cell.servers import FileServer
    from afsfuse.cell.volumes import Volume
    from afsfuse.fileserver.client import FileServerClient
    from afsfuse.fileserver.replies import DataReply
    from afsfuse.interfaces.common import Fid


@dataclass
class ReadCounters:
    """What reads did, since the start."""

    reads: int = 0
    hits: int = 0  # chunks that were there
    misses: int = 0  # chunks that a reader had to fetch itself
    waits: int = 0  # chunks for which a reader waited for a fetch under way
    fetched_bytes: int = 0
    fetches: int = 0
    ahead_fetches: int = 0  # of those, for read-ahead and prefetch
    restarts: int = 0  # a new data version in the middle of a read


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
            pace = self._paces[server] = Pace(self._channels)
        return pace

    def plan(self, file: FileData, first: int, last: int) -> Run:
        """Register a fetch of the chunks from `first` on which nobody has or fetches yet.

        The chunk `first` itself must be one of those. Whoever plans a run must `fetch` it.
        """
        end = first + 1
        while end <= last and not file.known(end):
            end += 1
        run = Run(file, first, end - first)
        for index in range(first, end):
            file.runs[index] = run
        return run

    async def fetch(self, run: Run) -> None:
        """Fetch a planned run in this task. Outcomes, errors included, are in the run."""
        file = run.file
        vnode = file.vnode
        store = self.store
        buffers = store.buffers(file, run.first, run.count)
        size = sum(map(len, buffers))
        store.reserve(size)
        self.counters.fetches += 1
        ticket = self._log.begin()
        began = trio.current_time()
        kept = 0
        try:
            reply = await self._client.fetch_data(
                vnode.volume,
                vnode.fid,
                run.first << store.shift,
                [memoryview(buffer) for buffer in buffers],
            )
            pace = self.pace(reply.server)
            pace.measured(reply.server.rtt, reply.length, trio.current_time() - began)
            kept = self._confirm(run, buffers, reply, ticket)
        except AfsError as exc:
            locate(exc, vnode.volume, vnode.server)
            run.failure = exc
            self._statuses.failed(vnode.volume, vnode.fid, exc)
        finally:
            self._log.end()
            store.release(size - kept)
            for index in range(run.first, run.first + run.count):
                if file.runs.get(index) is run:
                    del file.runs[index]
            run.done.set()

    def _confirm(self, run: Run, buffers: list[bytearray], reply: DataReply, ticket: int) -> int:
        """Make chunks of what came if it is of the run's version. Return the bytes now stored."""
        file = run.file
        vnode = self._statuses.apply(file.vnode.volume, file.vnode.fid, reply, ticket)
        self.counters.fetched_bytes += reply.length
        status = reply.status
        if status.data_version != file.data_version or status.length != file.length:
            return 0
        if reply.length != sum(map(len, buffers)):
            raise DataCorrupt(
                f"a server sent {reply.length} bytes of {file.vnode.fid} where it has more"
            )
        kept = 0
        for index, buffer in enumerate(buffers, run.first):
            chunk = run.chunks[index] = Chunk(file, index, buffer)
            if vnode.data is file and index not in file.chunks:
                self.store.add(chunk)
                kept += len(buffer)
        return kept

    async def read_in_one_call(
        self, volume: Volume, fid: Fid, offset: int, size: int
    ) -> memoryview:
        """Read past the cache: one call, so one version, however fast the file changes."""
        buffer = bytearray(size)
        self.store.reserve(size)
        self.counters.fetches += 1
        ticket = self._log.begin()
        try:
            reply = await self._client.fetch_data(volume, fid, offset, [memoryview(buffer)])
            self._statuses.apply(volume, fid, reply, ticket)
        finally:
            self._log.end()
            self.store.release(size)
        self.counters.fetched_bytes += reply.length
        if reply.length != min(size, max(0, reply.status.length - offset)):
            raise DataCorrupt(f"a server sent {reply.length} bytes of {fid} where it has more")
        return memoryview(buffer)[: reply.length]
