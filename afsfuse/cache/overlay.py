"""Reading a file that has changes which are not stored yet: they lie over what the server has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

    from afsfuse.cache.dirty import DirtyFile
    from afsfuse.cache.fetching import Fetcher
    from afsfuse.cache.journal import Buffer, Journal
    from afsfuse.cache.readahead import ReadState
    from afsfuse.cache.vnodes import Vnode

_RESTARTS = 4  # new data versions met in one read before what is under it is read in one call


class Base(Protocol):
    """Reads what the server has."""

    async def base(
        self, vnode: Vnode, offset: int, end: int, stream: ReadState
    ) -> list[tuple[int, Buffer]] | None: ...


class Overlay:
    """Reads dirty files. Whether the reader may is judged before."""

    def __init__(self, base: Base, fetcher: Fetcher, journal: Journal) -> None:
        self._base = base
        self._fetcher = fetcher
        self._journal = journal

    async def read(
        self, vnode: Vnode, dirty: DirtyFile, offset: int, size: int, stream: ReadState
    ) -> bytes | memoryview:
        """Up to `size` bytes; fewer only at the end. Raises `AfsError`.

        What was written before this begins is seen, and what is written meanwhile may be: the
        extents of the beginning are laid over what comes from the server, be they stored or not by
        then, and those of the end over both.
        """
        end = min(offset + size, dirty.length)
        if offset >= end:
            return b""
        pieces = dirty.snapshot(offset, end, self._journal)
        if len(pieces) == 1 and pieces[0][0] == offset and len(pieces[0][1]) == end - offset:
            return pieces[0][1]
        data = bytearray(end - offset)
        missing = _hull(pieces, offset, min(end, dirty.base_end))
        if missing is not None:
            _lay(data, offset, missing[1], await self._under(vnode, *missing, stream))
        _lay(data, offset, end, pieces)
        if missing is not None and vnode.dirty is not None:
            _lay(data, offset, end, vnode.dirty.snapshot(offset, end, self._journal))
        return memoryview(data)

    def peek(self, dirty: DirtyFile, offset: int, size: int) -> memoryview | None:
        """What `read` gives, if that was written in one piece which is in memory; else None."""
        end = min(offset + size, dirty.length)
        extents = dirty.extents.between(offset, end) if offset < end else []
        if len(extents) != 1 or extents[0].data is None:
            return None
        first = extents[0]
        if first.start > offset or first.end < end:
            return None
        return dirty.snapshot(offset, end, self._journal)[0][1]

    async def _under(
        self, vnode: Vnode, start: int, end: int, stream: ReadState
    ) -> list[tuple[int, Buffer]]:
        """What the server has between two offsets."""
        for _ in range(_RESTARTS):
            if end > vnode.status.length:
                break
            found = await self._base.base(vnode, start, end, stream)
            if found is not None:
                return found
        one = await self._fetcher.read_in_one_call(
            vnode.volume, vnode.fid, start, end - start, stream.who
        )
        return [(start, one)]


def _hull(pieces: list[tuple[int, memoryview]], start: int, end: int) -> tuple[int, int] | None:
    """The least range that has all bytes between two offsets which no piece has; None: there are
    none.
    """
    for begin, view in pieces:
        if begin > start:
            break
        start = begin + len(view)
    for begin, view in reversed(pieces):
        if begin + len(view) < end:
            break
        end = min(end, begin)
    return (start, end) if start < end else None


def _lay(data: bytearray, offset: int, end: int, pieces: Iterable[tuple[int, Buffer]]) -> None:
    """Put pieces into the bytes of a file between two offsets, as far as they lie there."""
    for start, buffer in pieces:
        first, last = max(start, offset), min(start + len(buffer), end)
        if first < last:
            view = memoryview(buffer)[first - start : last - start]
            data[first - offset : last - offset] = view
