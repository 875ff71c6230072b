"""Cutting what a program writes into packets."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_WAITING_PACKETS = 1412  # bytes; only for the bound on what is written before there is a channel


class Packetizer:
    """The end of what was written, as long as it fills no packet.

    Every packet but the last is full. Which one is the last is known when the program says that
    it has finished, so one packet always stays behind until then.
    """

    __slots__ = ("_finished", "_tail", "size")

    def __init__(self) -> None:
        self.size = 0  # bytes that fit in a packet; 0: not known yet
        self._tail = bytearray()
        self._finished = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """More was written."""
        self._tail += data

    def finish(self) -> None:
        """That was all."""
        self._finished = True

    def waits_for_more(self, packets: int) -> bool:
        """Whether less than that many packets' worth is here."""
        return len(self._tail) < packets * _WAITING_PACKETS

    def cut(self) -> Iterator[tuple[bytes, bool]]:
        """The packets that are whole now, each with whether it is the last."""
        tail, size = self._tail, self.size
        if not size or (len(tail) <= size and not self._finished):
            return
        if self._finished and len(tail) <= size:  # most requests are short
            packet = bytes(tail)
            tail.clear()
            yield packet, True
            return
        start = 0
        with memoryview(tail) as view:
            while len(tail) - start > size:
                yield bytes(view[start : start + size]), False
                start += size
            if self._finished:
                yield bytes(view[start:]), True
                start = len(tail)
        del tail[:start]

    def clear(self) -> None:
        """Nothing of it is wanted any more."""
        self._tail.clear()
