"""File data in memory: chunks of one data version of a file, bounded over all files."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

import trio

from afsfuse.auth.identity import NOBODY
from afsfuse.cache.disk import NO_FILE, NoDisk, VolumeInstance
from afsfuse.model import VolumeType

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from afsfuse.auth.identity import Identity
    from afsfuse.cache.disk import NoFile
    from afsfuse.cache.journal import Buffer
    from afsfuse.cache.vnodes import Vnode
    from afsfuse.cell.volumes import Volume
    from afsfuse.errors import AfsError


class Chunk:
    """Some bytes of a file: all that the file has between two multiples of the chunk size.

    The buffer is never written to once the chunk is in the store, so readers may keep views of it
    as long as they like, also after the chunk has been evicted.
    """

    __slots__ = ("buffer", "file", "index")

    def __init__(self, file: FileData, index: int, buffer: Buffer) -> None:
        """The chunk `index` of a file's version."""
        self.file = file
        self.index = index
        self.buffer = buffer


class Run:
    """One fetch under way: consecutive chunks of one version of a file, read by one call.

    When `done` is set, `chunks` holds the fetched chunks by index if the server confirmed the
    version; else `failure` says why not; neither means that nobody knows (the version moved, or
    the task that ran the fetch was cancelled) and whoever needs the bytes starts again.
    """

    __slots__ = ("chunks", "count", "done", "failure", "file", "first", "who")

    def __init__(self, file: FileData, first: int, count: int, who: Identity = NOBODY) -> None:
        """A run that has not begun, to be fetched in the name of `who`."""
        self.who = who
        self.file = file
        self.first = first
        self.count = count
        self.done = trio.Event()
        self.chunks: dict[int, Chunk] = {}
        self.failure: AfsError | None = None


class FileData:
    """What is cached, and being fetched, of one data version of one file."""

    __slots__ = ("chunks", "data_version", "disk", "length", "runs", "vnode")

    def __init__(
        self, vnode: Vnode, data_version: int, length: int, disk: NoFile = NO_FILE
    ) -> None:
        """No chunks in memory yet; `length` is the file's size in this version, and `disk` what
        the disk has of that.
        """
        self.disk = disk
        self.vnode = vnode
        self.data_version = data_version
        self.length = length
        self.chunks: dict[int, Chunk] = {}
        self.runs: dict[int, Run] = {}  # each chunk index that is being fetched

    def known(self, index: int) -> bool:
        """Whether a chunk is there, in memory or on disk, or on its way."""
        return index in self.chunks or index in self.runs or self.disk.has(index)

    def in_memory(self, first: int, last: int) -> bool:
        """Whether all chunks from `first` to `last` are in memory."""
        chunks = self.chunks
        return all(index in chunks for index in range(first, last + 1))


class ChunkStore:
    """All chunks of all files, least recently used first, and the bound on their bytes.

    `used` also counts the buffers of fetches under way, which are reserved beforehand. When only
    those are left the bound can be passed: by as much as readers ask for at the same moment,
    since read-ahead has a bound of its own that is a small part of this one.
    """

    def __init__(
        self,
        limit: int,
        chunk_size: int,
        disk: NoDisk | None = None,
        created: Callable[[Volume], int] = lambda volume: 0,
    ) -> None:
        """Keep at most `limit` bytes, in chunks of `chunk_size` bytes, a power of two.

        What leaves goes to `disk`, which has to know when a volume was `created`.
        """
        if chunk_size & (chunk_size - 1) or not 4096 <= chunk_size <= 1 << 20:
            raise ValueError(f"chunk size {chunk_size} is no power of two from 4 KiB to 1 MiB")
        self.limit = limit
        self.chunk_size = chunk_size
        self.shift = chunk_size.bit_length() - 1
        self.used = 0
        self.evicted = 0  # chunks, since the start
        self._order: OrderedDict[Chunk, None] = OrderedDict()
        self._disk = disk or NoDisk()
        self._created = created

    def __len__(self) -> int:
        """Number of chunks."""
        return len(self._order)

    def open(self, vnode: Vnode) -> FileData:
        """The data of the version in a vnode's status, as far as it is there."""
        file = vnode.data
        if file is None:
            status = vnode.status
            file = self.data_of(vnode, status.data_version, status.length)
            vnode.data = file
        return file

    def data_of(self, vnode: Vnode, version: int, length: int) -> FileData:
        """No chunks in memory yet of a version of a vnode; the disk may have some."""
        return FileData(vnode, version, length, self.on_disk(vnode, version, length))

    def on_disk(self, vnode: Vnode, version: int, length: int) -> NoFile:
        """What the disk has of a version of a vnode: also of directories, of which nothing is in
        this store.
        """
        volume = vnode.volume
        read_only = volume.type is not VolumeType.RW
        instance = VolumeInstance(volume.cell.name, volume.id, self._created(volume), read_only)
        fid = vnode.fid
        return self._disk.file(instance, fid.vnode, fid.unique, version, vnode.status.mtime, length)

    def reserve(self, size: int) -> None:
        """Make room for `size` bytes that are about to be fetched."""
        self.used += size
        while self.used > self.limit and self._order:
            chunk, _ = self._order.popitem(last=False)
            del chunk.file.chunks[chunk.index]
            self.used -= len(chunk.buffer)
            self.evicted += 1
            # It is there already unless the disk had no time for it.
            chunk.file.disk.put(chunk.index, (chunk.buffer,))

    def release(self, size: int) -> None:
        """Give back what was reserved and has not become a chunk."""
        self.used -= size

    def add(self, chunk: Chunk) -> None:
        """Enter a chunk whose bytes have been reserved and whose place is free."""
        chunk.file.chunks[chunk.index] = chunk
        self._order[chunk] = None

    def touch(self, chunk: Chunk) -> None:
        """Note that a chunk was read. One that has left meanwhile stays out."""
        if chunk in self._order:
            self._order.move_to_end(chunk)

    def drop(self, file: FileData) -> None:
        """Forget all chunks of a file's version."""
        for chunk in file.chunks.values():
            del self._order[chunk]
            self.used -= len(chunk.buffer)
        file.chunks.clear()

    def retire(self, file: FileData) -> None:
        """Nobody uses a file for now: what is in memory goes to the disk, as if evicted."""
        for chunk in file.chunks.values():
            file.disk.put(chunk.index, (chunk.buffer,))
        self.drop(file)

    def save(self) -> None:
        """Have everything written to the disk that is not there."""
        for chunk in self._order:
            chunk.file.disk.put(chunk.index, (chunk.buffer,))

    def cut(self, file: FileData, length: int) -> None:
        """The file has become shorter: drop what it has no more."""
        if length >= file.length:
            return
        last, inside = divmod(length, self.chunk_size)
        for index in [index for index in file.chunks if index >= last]:
            kept = file.chunks[index].buffer[:inside] if index == last and inside else None
            self._replace(file, index, kept)
        file.length = length

    def advance(
        self,
        file: FileData,
        version: int,
        length: int,
        pieces: Iterable[tuple[int, memoryview]],
        span: tuple[int, int] = (0, 0),
    ) -> None:
        """These bytes have made the next data version of a file.

        They must not change any more. What else is new lies in `span`, and is not known: of that
        there are no chunks. `length` is the file's, at least as long as before (see `cut`). All
        other chunks that are there become chunks of the new version.

        Nothing leaves before all chunks are of that version: what is evicted goes to its disk.
        """
        size = self.chunk_size
        before = file.length
        pieces = list(pieces)
        changed = [(start, start + len(view)) for start, view in pieces]
        gaps = _gaps(span, changed)
        file.disk = file.disk.moved(version, before, length, [*changed, *gaps])
        if file.disk is NO_FILE:  # so it is for a file that was empty
            file.disk = self.on_disk(file.vnode, version, length)
        file.data_version = version
        file.length = length
        if length > before and before % size and before >> self.shift in file.chunks:
            self._patch(file, before >> self.shift, before, memoryview(b""))
        for start, view in pieces:
            end = start + len(view)
            for index in range(start >> self.shift, (end - 1 >> self.shift) + 1):
                first, last = index * size, min((index + 1) * size, length)
                if start <= first and last <= end:
                    self._replace(file, index, view[first - start : last - start])
                elif index in file.chunks or first >= before:
                    begin = max(start, first)
                    self._patch(file, index, begin, view[begin - start : min(end, last) - start])
        for start, end in gaps:
            for index in range(start >> self.shift, (end - 1 >> self.shift) + 1):
                self._replace(file, index, None)
        self.reserve(0)

    def _patch(self, file: FileData, index: int, offset: int, view: memoryview) -> None:
        """Put bytes into a chunk as long as the file reaches; zeros where nothing is."""
        first = index << self.shift
        known = file.chunks.get(index)
        buffer = bytearray(min(self.chunk_size, file.length - first))
        if known is not None:
            buffer[: len(known.buffer)] = known.buffer
        buffer[offset - first : offset - first + len(view)] = view
        self._replace(file, index, buffer)

    def _replace(self, file: FileData, index: int, buffer: Buffer | None) -> None:
        """Another chunk in the place of one, or of none; None: no chunk. Makes no room for it."""
        known = file.chunks.pop(index, None)
        if known is not None:
            del self._order[known]
            self.used -= len(known.buffer)
        if buffer is not None:
            self.used += len(buffer)
            self.add(Chunk(file, index, buffer))

    def buffers(self, file: FileData, first: int, count: int) -> list[bytearray]:
        """Empty buffers for consecutive chunks, the last one as long as the file reaches."""
        size = self.chunk_size
        end = min((first + count) << self.shift, file.length)
        return [
            bytearray(min(size, end - start)) for start in range(first << self.shift, end, size)
        ]


def _gaps(span: tuple[int, int], pieces: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """What of a span none of these ranges has, which are in order."""
    start, end = span
    found = []
    for first, last in pieces:
        if start < min(first, end):
            found.append((start, min(first, end)))
        start = max(start, last)
    if start < end:
        found.append((start, end))
    return found


def join(chunks: Sequence[Chunk], start: int, size: int) -> bytes | memoryview:
    """`size` bytes from `start`, an offset in the first of these consecutive chunks.

    Bytes of a single chunk are not copied.
    """
    if len(chunks) == 1:
        return memoryview(chunks[0].buffer)[start : start + size]
    last = len(chunks) - 1
    inside = size + start - sum(len(chunk.buffer) for chunk in chunks[:last])
    parts: list[Buffer] = [chunk.buffer for chunk in chunks]
    if start:
        parts[0] = memoryview(parts[0])[start:]
    if inside < len(parts[last]):
        parts[last] = memoryview(parts[last])[:inside]
    return b"".join(parts)
