"""What the disk has of one version of a file: asked, read and written by the event loop."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from afsfuse.cache.disk.parts import PART_SHIFT, PART_SIZE, Damaged, Part

if TYPE_CHECKING:
    from collections.abc import Sequence

    from afsfuse.cache.disk.index import FileKey
    from afsfuse.cache.disk.parts import Descriptor
    from afsfuse.cache.disk.store import DiskCache
    from afsfuse.cache.journal import Buffer

    Piece = tuple[Part, Descriptor, int, int]


class NoFile:
    """A file of which nothing is, or ever will be, on the disk."""

    __slots__ = ()

    def has(self, index: int) -> bool:
        """Whether a chunk is there, as far as is known without reading it."""
        return False

    def holds(self, first: int, last: int) -> bool:
        """Whether all chunks from `first` to `last` are there."""
        return False

    def peek(self, offset: int, end: int) -> memoryview | None:
        """Bytes from `offset` to `end`, if all are there and no disk need be waited for."""
        return None

    async def read(self, offset: int, end: int) -> memoryview | None:
        """The same, waiting if need be; None if not all are there, or not sound."""
        return None

    def put(self, first: int, buffers: Sequence[Buffer]) -> None:
        """Have chunks written, some time; whether it happens is not told.

        The buffers must not change any more.
        """

    def moved(
        self, version: int, before: int, length: int, changed: Sequence[tuple[int, int]]
    ) -> NoFile:
        """The next version of the file, which differs from this one in these ranges, and from
        `before`, its length or to what it was cut, on; it has `length` bytes. Free of await.
        """
        return NO_FILE

    def drop(self) -> None:
        """Nothing that is there counts any more. Free of await."""


NO_FILE = NoFile()


class DiskFile(NoFile):
    """One version of a file, and the parts that the disk has of it."""

    __slots__ = ("__weakref__", "cache", "key", "parts", "pending", "stale")

    def __init__(self, cache: DiskCache, key: FileKey) -> None:
        self.cache = cache
        self.key = key
        self.parts: dict[int, Part] = {}
        self.pending: set[int] = set()  # chunks that are on their way to the disk
        self.stale = False  # its parts belong to the next version now

    def _part(self, place: int) -> Part | None:
        """A part with its state known."""
        part = None if self.stale else self.parts.get(place)
        if part is None or (part.state is None and not self.cache.load(part)):
            return None
        return part

    def has(self, index: int) -> bool:
        """See `NoFile`."""
        shift = PART_SHIFT - self.cache.shift
        part = self._part(index >> shift)
        if part is None:
            return False
        assert part.state is not None
        return part.state[index & ((1 << shift) - 1)] != 0

    def holds(self, first: int, last: int) -> bool:
        """See `NoFile`."""
        shift = PART_SHIFT - self.cache.shift
        for place in range(first >> shift, (last >> shift) + 1):
            part = self._part(place)
            if part is None:
                return False
            assert part.state is not None
            base = place << shift
            if part.state.find(0, max(first - base, 0), last - base + 1) >= 0:
                return False
        return True

    def peek(self, offset: int, end: int) -> memoryview | None:
        """See `NoFile`."""
        flags = self.cache.nowait
        if flags is None or not self._covers(offset, end):
            return None
        pieces = self._pieces(offset, end)
        if pieces is None:
            return None
        try:
            return _join(pieces, flags)
        except BlockingIOError:
            _doubt(pieces)
            return None
        except (Damaged, OSError) as exc:
            self.cache.failed(pieces, exc)
            return None

    async def read(self, offset: int, end: int) -> memoryview | None:
        """See `NoFile`."""
        data = self.peek(offset, end)
        if data is not None or not self._covers(offset, end):
            return data
        pieces = self._pieces(offset, end)
        if pieces is None:
            return None
        if self.cache.nowait is None:
            _doubt(pieces)  # nobody can tell where it comes from
        try:
            # What is abandoned here has a buffer and descriptors of its own.
            return await trio.to_thread.run_sync(
                _join, pieces, 0, abandon_on_cancel=True, limiter=self.cache.limiter
            )
        except (Damaged, OSError) as exc:
            self.cache.failed(pieces, exc)
            return None

    def drop(self) -> None:
        """See `NoFile`."""
        for part in self.parts.values():
            if not part.dead:
                self.cache.drop(part)

    def _covers(self, offset: int, end: int) -> bool:
        shift = self.cache.shift
        return self.holds(offset >> shift, (end - 1) >> shift)

    def _pieces(self, offset: int, end: int) -> list[Piece] | None:
        """Which bytes of which parts, that are all there, make up a range."""
        pieces = []
        for place in range(offset >> PART_SHIFT, ((end - 1) >> PART_SHIFT) + 1):
            part = self.parts.get(place)  # it may have been evicted by now
            descriptor = None if part is None else self.cache.descriptor(part)
            if part is None or descriptor is None:
                return None
            self.cache.touch(part)
            base = place << PART_SHIFT
            pieces.append((part, descriptor, max(offset - base, 0), min(end - base, PART_SIZE)))
        return pieces

    def put(self, first: int, buffers: Sequence[Buffer]) -> None:
        """See `NoFile`."""
        pending = self.pending
        size = 0
        wanted: dict[int, Buffer] = {}
        for index, buffer in enumerate(buffers, first):
            if index not in pending and not self.has(index):
                wanted[index] = buffer
                size += len(buffer)
        if wanted and not self.stale and self.cache.writer.accepts(size):
            pending.update(wanted)
            self.cache.writer.put(self, wanted, size)

    def moved(
        self, version: int, before: int, length: int, changed: Sequence[tuple[int, int]]
    ) -> NoFile:
        """See `NoFile`. Only whole parts in which nothing has changed go on: bytes of a part are
        never written over, so who reads one reads what it was when he began.
        """
        end = min(self.key.length, before, length) >> PART_SHIFT
        touched = {
            place
            for first, last in changed
            for place in range(first >> PART_SHIFT, ((last - 1) >> PART_SHIFT) + 1)
        }
        following = DiskFile(self.cache, self.key._replace(version=version, length=length))
        for place, part in self.parts.copy().items():
            if place < end and place not in touched and part.number and self._part(place) is part:
                following.parts[place] = part.twin(following)
        self.stale = True
        self.cache.replace(self, following)
        return following


def _doubt(pieces: Sequence[Piece]) -> None:
    for part, *_ in pieces:
        part.doubt()


def _join(pieces: Sequence[Piece], flags: int) -> memoryview:
    """Read pieces. Bytes of a single one are not copied again."""
    if len(pieces) == 1:
        part, descriptor, start, stop = pieces[0]
        return part.read(descriptor, start, stop, flags)
    read = [part.read(descriptor, start, stop, flags) for part, descriptor, start, stop in pieces]
    return memoryview(b"".join(read))
