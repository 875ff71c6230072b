"""Bytes that writers handed over and no server has yet: sorted pieces of a file.

What comes from a writer is kept as it comes, without a copy. Small writes that follow each other
are gathered, so that a program which writes line by line does not make a piece of each line.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from afsfuse.auth.identity import Identity
    from afsfuse.cache.journal import Buffer, Journal

GATHERED = 1 << 20
"""Bytes of the longest piece that is made of small writes."""
SMALL = 64 << 10
"""A write of fewer bytes is gathered with its neighbours."""


class Extent:
    """Some bytes in a row, to be stored in one name.

    `data` is None while the bytes are in the journal only, under `token`, from `skip` on. While a
    `flight` carries an extent to the server its bytes do not change.
    """

    __slots__ = ("data", "end", "flight", "sequence", "skip", "start", "token", "who")

    def __init__(
        self,
        start: int,
        data: Buffer | None,
        size: int,
        who: Identity,
        sequence: int,
        token: int | None,
    ) -> None:
        """`sequence`: the oldest of the writes in it that no server has, or that it stands for."""
        self.start = start
        self.end = start + size
        self.data = data
        self.who = who
        self.sequence = sequence
        self.token = token
        self.skip = 0
        self.flight: object = None

    def view(self, journal: Journal) -> memoryview:
        """The bytes; raises `JournalLost`."""
        if self.data is None:
            assert self.token is not None
            return memoryview(journal.read(self.token, self.skip, self.end - self.start))
        return memoryview(self.data)

    def gathers(self, who: Identity) -> bool:
        """Whether more bytes of `who` may be put into this very buffer."""
        return self.flight is None and isinstance(self.data, bytearray) and self.who == who

    def part(self, start: int, end: int) -> Extent:
        """What of it lies between two offsets. A small part does not keep the whole in memory."""
        data = self.data
        if data is not None:
            view = memoryview(data)[start - self.start : end - self.start]
            whole = view.obj
            assert isinstance(whole, bytes | bytearray)
            data = view if 2 * len(view) > len(whole) else bytes(view)
        part = Extent(start, data, end - start, self.who, self.sequence, self.token)
        part.skip = self.skip + start - self.start
        part.flight = self.flight
        return part


def oldest(gone: list[Extent], who: Identity, sequence: int) -> int:
    """What a change by an identity stands for that has taken the place of extents: the oldest
    write in them, or itself. What is on its way to the server is settled by that.
    """
    waiting = (one.sequence for one in gone if one.flight is None and one.who == who)
    return min(waiting, default=sequence)


class Extents:
    """The extents of one file, by offset; no two overlap."""

    __slots__ = ("_all", "_starts", "memory", "size")

    def __init__(self) -> None:
        self._all: list[Extent] = []
        self._starts: list[int] = []
        self.size = 0
        """Bytes of all extents."""
        self.memory = 0
        """... and of those whose bytes are in memory."""

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Extent]:
        return iter(self._all)

    @property
    def end(self) -> int:
        """Where the last extent ends."""
        return self._all[-1].end if self._all else 0

    def between(self, start: int, end: int) -> list[Extent]:
        """The extents that have bytes between two offsets."""
        first, last = self._range(start, end)
        return self._all[first:last]

    def write(
        self, start: int, data: bytes, who: Identity, sequence: int, token: int | None
    ) -> None:
        """Lay bytes over what is there. They must not change any more.

        Who waits for what they lie over waits for them in its place.
        """
        end = start + len(data)
        place = bisect_right(self._starts, start) - 1
        if place >= 0 and len(data) < SMALL:
            before = self._all[place]
            if end <= before.end and before.gathers(who):
                assert isinstance(before.data, bytearray)
                before.data[start - before.start : end - before.start] = data
                before.token = None
                return
            if before.end == start and self._append(place, data, who):
                return
        sequence = oldest(self._clear(start, end), who, sequence)
        self._insert(Extent(start, data, len(data), who, sequence, token))

    def _append(self, place: int, data: bytes, who: Identity) -> bool:
        """Put a small write behind the extent at its end, if that is one of few bytes, too."""
        extent = self._all[place]
        end = extent.end + len(data)
        if (
            end - extent.start > GATHERED
            or extent.flight is not None
            or extent.who != who
            or extent.data is None
            or (place + 1 < len(self._all) and self._starts[place + 1] < end)
        ):
            return False
        if isinstance(extent.data, bytearray):
            extent.data += data
        elif len(extent.data) < SMALL:
            extent.data = bytearray(extent.data) + data
        else:
            return False
        extent.end = end
        extent.token = None  # of the journal it has several records now
        self.size += len(data)
        self.memory += len(data)
        return True

    def cut(self, length: int) -> list[Extent]:
        """Drop all bytes beyond a length; returns the extents that had any."""
        return self._clear(length, self.end) if self.end > length else []

    def drop(self, extent: Extent) -> None:
        """Take one out."""
        place = bisect_right(self._starts, extent.start) - 1
        assert self._all[place] is extent
        del self._all[place], self._starts[place]
        self._count(extent, -1)

    def forget_bytes(self, extent: Extent) -> int:
        """The journal has the bytes: drop them from memory. Returns how many."""
        assert extent.token is not None
        if extent.data is None:
            return 0
        extent.data = None
        self.memory -= extent.end - extent.start
        return extent.end - extent.start

    def after(self, offset: int) -> Iterator[Extent]:
        """All extents once, beginning with the first that does not begin before an offset."""
        place = bisect_right(self._starts, offset - 1)
        for index in range(place, place + len(self._all)):
            yield self._all[index % len(self._all)]

    def run_from(self, extent: Extent, limit: int) -> list[Extent]:
        """An extent and those that follow it without a gap, in the same name and on no flight."""
        place = bisect_right(self._starts, extent.start) - 1
        run = [extent]
        for index in range(place + 1, len(self._all)):
            following = self._all[index]
            if (
                following.start != run[-1].end
                or following.who != extent.who
                or following.flight is not None
                or following.end - extent.start > limit
            ):
                break
            run.append(following)
        return run

    def _range(self, start: int, end: int) -> tuple[int, int]:
        """The places of the extents that have bytes between two offsets."""
        first = bisect_right(self._starts, start)
        if first and self._all[first - 1].end > start:
            first -= 1
        return first, bisect_right(self._starts, end - 1)

    def _clear(self, start: int, end: int) -> list[Extent]:
        """Make a hole; returns the extents that had something there."""
        first, last = self._range(start, end)
        if first >= last:
            return []
        gone = self._all[first:last]
        left: list[Extent] = []
        if gone[0].start < start:
            left.append(gone[0].part(gone[0].start, start))
        if gone[-1].end > end:
            left.append(gone[-1].part(end, gone[-1].end))
        self._all[first:last] = left
        self._starts[first:last] = [extent.start for extent in left]
        for extent in gone:
            self._count(extent, -1)
        for extent in left:
            self._count(extent, 1)
        return gone

    def _insert(self, extent: Extent) -> None:
        place = bisect_right(self._starts, extent.start)
        self._all.insert(place, extent)
        self._starts.insert(place, extent.start)
        self._count(extent, 1)

    def _count(self, extent: Extent, sign: int) -> None:
        size = sign * (extent.end - extent.start)
        self.size += size
        if extent.data is not None:
            self.memory += size
