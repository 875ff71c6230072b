"""What is in a file: pieces of bytes with holes between them, cheap to copy."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

PIECE_BYTES = 1 << 16


class FileData:
    """The bytes of one file. Copies share their pieces until one of them is written."""

    __slots__ = ("changed", "length", "pieces")

    def __init__(self, data: bytes = b"") -> None:
        self.length = 0
        self.pieces: dict[int, bytes] = {}
        """By number; bytes that no piece has are zeros."""
        self.changed: set[int] = set()
        """Pieces that differ from what was last kept on disk."""
        self.write(0, data)

    def copy(self) -> FileData:
        """Another one with the same contents, all of which counts as changed."""
        twin = FileData()
        twin.length = self.length
        twin.pieces = self.pieces.copy()
        twin.changed = set(self.pieces)
        return twin

    def read(self, position: int, size: int) -> bytes:
        """The bytes from `position` on; fewer than `size` at the end."""
        end = min(position + size, self.length)
        if position >= end:
            return b""
        parts = []
        for number, begin, stop in _cut(position, end):
            part = self.pieces.get(number, b"")[begin:stop]
            parts.append(part.ljust(stop - begin, b"\0"))
        return b"".join(parts)

    def write(self, position: int, data: bytes | memoryview) -> None:
        """Put bytes there; a gap before them reads as zeros."""
        view = memoryview(data)
        for number, begin, stop in _cut(position, position + len(view)):
            old = self.pieces.get(number, b"")
            part = bytes(view[: stop - begin])
            view = view[stop - begin :]
            if begin or stop < len(old):
                part = old[:begin].ljust(begin, b"\0") + part + old[stop:]
            self.pieces[number] = part
            self.changed.add(number)
            self.length = max(self.length, number * PIECE_BYTES + stop)

    def resize(self, length: int) -> None:
        """Cut it off, or let it end with zeros."""
        if length < self.length:
            last, inside = divmod(length, PIECE_BYTES)
            for number in [n for n in self.pieces if n >= last]:
                self.changed.add(number)
                if number > last or not inside:
                    del self.pieces[number]
                else:
                    self.pieces[number] = self.pieces[number][:inside]
        self.length = length


def _cut(begin: int, end: int) -> Iterator[tuple[int, int, int]]:
    """The pieces that a range touches: number, and where in it the range begins and stops."""
    while begin < end:
        number, inside = divmod(begin, PIECE_BYTES)
        stop = min(PIECE_BYTES, inside + end - begin)
        yield number, inside, stop
        begin += stop - inside
