"""Reading: from chunks that are there, from fetches under way, or by fetching.

All bytes of one read are of one data version. A fetched chunk counts only when the status at the
end of its call names the version that it was fetched for; else everything starts again with the
new version, and if the file changes faster than that, one call for exactly the wanted range ends
the chase: the server holds the vnode while it sends, so one call never mixes versions.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import trio

from afsfuse.cache.background import ReadAhead
from afsfuse.cache.chunks import Chunk, join
from afsfuse.cache.doors import READ, needed_to_see
from afsfuse.cache.overlay import Overlay
from afsfuse.cache.readahead import FIRST_READ
from afsfuse.errors import AfsError
from afsfuse.model import FileKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from afsfuse.cache.chunks import FileData, Run
    from afsfuse.cache.doors import Doors
    from afsfuse.cache.fetching import Fetcher
    from afsfuse.cache.journal import Buffer, Journal
    from afsfuse.cache.readahead import ReadState
    from afsfuse.cache.statuses import StatusKeeper
    from afsfuse.cache.vnodes import Vnode
    from afsfuse.cell.volumes import Volume
    from afsfuse.interfaces.common import Fid

_RESTARTS = 4  # new data versions met in one read before it is done in one call


class Reader:
    """Reads files of all volumes through one chunk store."""

    def __init__(
        self, statuses: StatusKeeper, doors: Doors, fetcher: Fetcher, journal: Journal
    ) -> None:
        """Without `ahead.run` there is no read-ahead; reads work all the same."""
        self.ahead = ReadAhead(fetcher)
        self._statuses = statuses
        self._doors = doors
        self._fetcher = fetcher
        self._store = fetcher.store
        self._counters = fetcher.counters
        self._overlay = Overlay(self, fetcher, journal)

    async def read(
        self, volume: Volume, fid: Fid, offset: int, size: int, stream: ReadState
    ) -> bytes | memoryview:
        """Up to `size` bytes from `offset`; fewer only at the end of the file."""
        self._counters.reads += 1
        shift = self._store.shift
        for _ in range(_RESTARTS):
            vnode = await self._statuses.status(volume, fid, stream.who)
            if vnode.status.kind is FileKind.DIRECTORY:
                raise AfsError("is a directory", errno=errno.EISDIR, cell=volume.cell.name)
            needed = needed_to_see(vnode.status.kind)
            if not self._doors.lets_in(vnode, needed, stream.who):
                await self._doors.require(vnode, needed, stream.who)
                # The vnode may have left the table meanwhile: what is fetched must be found again.
                vnode = await self._statuses.status(volume, fid, stream.who)
            if vnode.dirty is not None:
                return await self._overlay.read(vnode, vnode.dirty, offset, size, stream)
            end = min(offset + size, vnode.status.length)
            if offset >= end:
                return b""
            file = self._store.open(vnode)
            length = file.length
            first, last = offset >> shift, (end - 1) >> shift
            self.ahead.note(stream, file, offset, end)
            if file.disk.holds(first, last) and not file.in_memory(first, last):
                data = await file.disk.read(offset, end)
                if data is not None:
                    self._counters.disk_hits += last - first + 1
                    return data
            chunks = await self._collect(file, first, last, stream)
            # Chunks of another length are not joined: the file was written to meanwhile.
            if chunks is not None and file.length == length:
                return join(chunks, offset - (first << shift), end - offset)
            self._counters.restarts += 1
        return await self._fetcher.read_in_one_call(volume, fid, offset, size, stream.who)

    async def base(
        self, vnode: Vnode, offset: int, end: int, stream: ReadState
    ) -> list[tuple[int, Buffer]] | None:
        """Bytes that are on the server between two offsets, by offset; None after a new version.

        The range must lie within the file.
        """
        file = self._store.open(vnode)
        shift = self._store.shift
        chunks = await self._collect(file, offset >> shift, (end - 1) >> shift, stream)
        if chunks is None:
            return None
        return [(chunk.index << shift, chunk.buffer) for chunk in chunks]

    def peek(self, vnode: Vnode, offset: int, size: int, stream: ReadState) -> memoryview | None:
        """What `read` would return, if that lies in one chunk in memory, or on the disk in what
        the kernel has in memory of that; else None.
        """
        file = vnode.data
        now = trio.current_time()
        if (file is None and vnode.dirty is None) or not vnode.valid(now):
            return None
        door = vnode.door
        if (door is None or door.read_until <= now) and not self._doors.lets_in(
            vnode, READ, stream.who
        ):
            return None
        if vnode.dirty is not None:
            return self._overlay.peek(vnode.dirty, offset, size)
        if file is None:
            return None
        end = min(offset + size, file.length)
        shift = self._store.shift
        index = offset >> shift
        if offset >= end:
            return None
        counters = self._counters
        chunk = file.chunks.get(index)
        if chunk is None or (end - 1) >> shift != index:
            data = None if chunk is not None else file.disk.peek(offset, end)
            if data is not None:
                counters.reads += 1
                counters.disk_hits += ((end - 1) >> shift) - index + 1
                vnode.used = True
                self.ahead.note(stream, file, offset, end)
            return data
        counters.reads += 1
        counters.hits += 1
        vnode.used = True
        self._store.touch(chunk)
        self.ahead.note(stream, file, offset, end)
        start = index << shift
        return memoryview(chunk.buffer)[offset - start : end - start]

    async def _collect(
        self, file: FileData, first: int, last: int, stream: ReadState
    ) -> Sequence[Chunk] | None:
        """The chunks from `first` to `last`; None if the file has moved to another version.

        Chunks that were found stay with this reader, whatever is evicted while it waits for others.
        """
        found = []
        counters = self._counters
        for index in range(first, last + 1):
            chunk = file.chunks.get(index)
            if chunk is not None:
                counters.hits += 1
            elif file.disk.has(index) and (chunk := await self._from_disk(file, index)) is not None:
                counters.disk_hits += 1
            mine: Run | None = None
            while chunk is None:
                run = file.runs.get(index)
                if run is None:
                    counters.misses += 1
                    wanted = self._wanted(file, index, last, stream)
                    run = mine = self._fetcher.plan(file, index, wanted, stream.who)
                    await self._fetcher.fetch(run)
                else:
                    counters.waits += 1
                    await run.done.wait()
                chunk = run.chunks.get(index)
                if chunk is None:
                    # What another one was refused is no answer to this one.
                    if run.failure is not None and (run is mine or self._same(run, stream)):
                        failure = self._statuses.as_told_to(
                            run.failure.again(), stream.who, run.file.vnode.volume
                        )
                        raise failure from run.failure
                    # A run of our own that brought nothing met another version. That is so, too,
                    # if the vnode has left the table, whose data nobody moves any more.
                    if run is mine or file.vnode.data is not file:
                        return None
            self._store.touch(chunk)
            found.append(chunk)
        return found

    async def _from_disk(self, file: FileData, index: int) -> Chunk | None:
        """A chunk that the disk is said to have. It is this reader's alone."""
        start = index << self._store.shift
        data = await file.disk.read(start, min(start + self._store.chunk_size, file.length))
        return None if data is None else Chunk(file, index, bytearray(data))

    def _same(self, run: Run, stream: ReadState) -> bool:
        """Whether a run is in the name in which this reader would fetch itself."""
        return run.who == self._statuses.speaker(stream.who, run.file.vnode.volume)

    def _wanted(self, file: FileData, index: int, last: int, stream: ReadState) -> int:
        """Up to which chunk a reader that misses chunk `index` should fetch.

        Nothing beyond what it asked for, but for the first read at the start of a file, which
        fetches a small file whole.
        """
        if index == 0 and stream.run == 1:
            last = max(last, (FIRST_READ - 1) >> self._store.shift)
        return min(last, (file.length - 1) >> self._store.shift)
