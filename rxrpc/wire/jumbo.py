"""Jumbo datagrams: several DATA packets behind one header. Source of numbers: rx_packet.h.

All packets but the last carry exactly 1412 bytes, and behind each of these stands a header of four
bytes for the next: its flags, a byte without meaning, its checksum. Sequence and serial numbers
count up from those of the first. This side never offers to take jumbo datagrams, so what comes is
rare; it is read without any leniency, because a wrong split puts wrong bytes into a file.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from rxrpc.errors import ParseError
from rxrpc.wire.packet import JUMBO, LAST_PACKET

PART_SIZE = 1412
_NEXT = struct.Struct("!BBH")


@dataclass(frozen=True, slots=True)
class Part:
    """One packet of a jumbo datagram."""

    flags: int
    checksum: int
    payload: bytes


def split(flags: int, checksum: int, payload: bytes | memoryview) -> list[Part]:
    """The packets of a DATA datagram whose header has these flags and this checksum.

    A datagram without the jumbo flag is one packet of any size. Raises `ParseError`.
    """
    parts: list[Part] = []
    rest = memoryview(payload)
    while flags & JUMBO:
        if flags & LAST_PACKET:
            raise ParseError("jumbo datagram: a packet follows the last one")
        if len(rest) < PART_SIZE + _NEXT.size:
            raise ParseError(f"jumbo datagram: {len(rest)} bytes where {PART_SIZE} must stand")
        parts.append(Part(flags, checksum, bytes(rest[:PART_SIZE])))
        flags, _spare, checksum = _NEXT.unpack_from(rest, PART_SIZE)
        rest = rest[PART_SIZE + _NEXT.size :]
    if parts and len(rest) > PART_SIZE:
        raise ParseError(f"jumbo datagram: {len(rest)} bytes in the last packet")
    parts.append(Part(flags, checksum, bytes(rest)))
    return parts


def join(parts: list[Part]) -> tuple[int, int, bytes]:
    """Flags and checksum for the header, and the payload: the inverse of `split`."""
    payload = [parts[0].payload]
    for part in parts[1:]:
        payload += (_NEXT.pack(part.flags, 0, part.checksum), part.payload)
    return parts[0].flags, parts[0].checksum, b"".join(payload)
