"""Cutting what a program writes into packets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rxrpc.errors import LocalError, MessageSizeError

if TYPE_CHECKING:
    from collections.abc import Iterator

_WAITING_PACKETS = 1412  # bytes; only for the bound on what is written before there is a channel


class Packetizer:
    """The end of what was written, as long as it fills no packet.

    Every packet but the last is full. Which one is the last is known when the program says that
    it has finished, so one packet always stays behind until then.
    """

    __slots__ = ("_missing", "_tail", "finished", "size", "written")

    def __init__(self) -> None:
        self.written = 0  # bytes, in all
        self._missing: int | None = None  # bytes to be written still, when that was announced
        self.size = 0  # bytes that fit in a packet; 0: not known yet
        self._tail = bytearray()
        self.finished = False

    def expect(self, length: int) -> None:
        """So many bytes will be written from now on, no more and no less; then it is finished."""
        if self.finished:
            raise LocalError("everything was sent already")
        self._missing = length
        self.finished = not length

    def check(self, size: int) -> None:
        """Raise what `write` would raise for so many bytes."""
        if self._missing is not None and size > self._missing:
            raise MessageSizeError(f"{size} bytes where {self._missing} were announced")
        if self.finished and size:
            raise LocalError("nothing can be sent behind the end")

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """More was written. Raises `MessageSizeError` when it is more than was announced."""
        size = len(data)
        self.check(size)
        if self._missing is not None:
            self._missing -= size
            self.finished = not self._missing
        self.written += size
        self._tail += data

    def finish(self) -> None:
        """That was all. Raises `MessageSizeError` when it is less than was announced."""
        if self._missing:
            raise MessageSizeError(f"{self._missing} bytes are missing of what was announced")
        self.finished = True

    def waits_for_more(self, packets: int) -> bool:
        """Whether less than that many packets' worth is here."""
        return len(self._tail) < packets * _WAITING_PACKETS

    def cut(self) -> Iterator[tuple[bytes, bool]]:
        """The packets that are whole now, each with whether it is the last."""
        tail, size = self._tail, self.size
        if not size or (len(tail) <= size and not self.finished):
            return
        if self.finished and len(tail) <= size:  # most requests are short
            packet = bytes(tail)
            tail.clear()
            yield packet, True
            return
        start = 0
        with memoryview(tail) as view:
            while len(tail) - start > size:
                yield bytes(view[start : start + size]), False
                start += size
            if self.finished:
                yield bytes(view[start:]), True
                start = len(tail)
        del tail[:start]

    def clear(self) -> None:
        """Nothing of it is wanted any more."""
        self._tail.clear()
