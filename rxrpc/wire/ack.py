"""The body of an ACK packet. Source of layout and reasons: rx.h, rx.c (rxi_SendAck)."""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass

from rxrpc.errors import ParseError

_FIXED = struct.Struct("!2H3I2B")
_WORD = struct.Struct("!I")
_TABLE_PADDING = 3  # bytes without meaning between the table and the trailer
MAX_ACKS = 255
ACK_SIZE = _FIXED.size + MAX_ACKS + _TABLE_PADDING + 4 * _WORD.size
"""Bytes of the longest ACK body that has a meaning; padded ones, probes of the MTU, are longer."""


class AckReason(enum.IntEnum):
    """Why an ACK was sent."""

    REQUESTED = 1
    DUPLICATE = 2
    OUT_OF_SEQUENCE = 3
    EXCEEDS_WINDOW = 4
    NOSPACE = 5
    PING = 6
    PING_RESPONSE = 7
    DELAY = 8
    IDLE = 9


@dataclass(frozen=True, slots=True)
class AckTrailer:
    """What the sender of an ACK can take. Values are as on the wire: no bound holds for them.

    Old peers send two words or three; a word that did not come is None.
    """

    max_mtu: int  # bytes of the largest datagram, UDP header not counted
    interface_mtu: int  # bytes that pass its interface in one piece
    window: int | None = None  # packets
    jumbo_max: int | None = None  # packets in one datagram

    def build(self) -> bytes:
        """The inverse of `parse`; a word may only be None when all behind it are."""
        words = (self.max_mtu, self.interface_mtu, self.window, self.jumbo_max)
        return b"".join(_WORD.pack(word) for word in words if word is not None)

    @classmethod
    def parse(cls, body: bytes | memoryview) -> AckTrailer | None:
        """Read the trailer; None when there is none. Bytes behind four words are padding."""
        count = min(len(body) // _WORD.size, 4)
        if count < 2:
            return None
        words = struct.unpack_from(f"!{count}I", body)
        return cls(*words)


@dataclass(frozen=True, slots=True)
class Ack:
    """The body of an ACK packet."""

    first: int  # all packets before this one have reached the receiving program
    previous: int  # the packet that was received last; some peers put a serial here
    serial: int  # of the packet that caused this ACK, 0 when none did
    reason: int  # an `AckReason`, or a number that nobody has defined yet
    acks: bytes = b""  # one byte a packet from `first` on: bit 0 set when it has arrived
    trailer: AckTrailer | None = None
    buffer_space: int = 0
    max_skew: int = 0

    @classmethod
    def parse(cls, body: bytes | memoryview) -> Ack:
        """Read a body; raise `ParseError` when it is shorter than it says."""
        if len(body) < _FIXED.size:
            raise ParseError(f"short ACK: {len(body)} of {_FIXED.size} bytes")
        space, skew, first, previous, serial, reason, count = _FIXED.unpack_from(body)
        end = _FIXED.size + count
        if len(body) < end:
            raise ParseError(f"ACK: a table of {count}, but {len(body) - _FIXED.size} bytes of it")
        trailer = AckTrailer.parse(body[end + _TABLE_PADDING :])
        acks = bytes(body[_FIXED.size : end])
        return cls(first, previous, serial, reason, acks, trailer, space, skew)

    def build(self) -> bytes:
        """The inverse of `parse`."""
        trailer = self.trailer.build() if self.trailer else b""
        return (
            _FIXED.pack(
                self.buffer_space, self.max_skew, self.first, self.previous, self.serial,
                self.reason, len(self.acks),
            )
            + self.acks + bytes(_TABLE_PADDING) + trailer
        )  # fmt: skip


def build_ack(
    first: int, previous: int, serial: int, reason: int, acks: bytes, trailer: bytes
) -> bytes:
    """What `Ack.build` makes, without the objects: ACKs are on the path of every 16th packet."""
    return (
        _FIXED.pack(0, 0, first, previous, serial, reason, len(acks))
        + acks + b"\0\0\0" + trailer
    )  # fmt: skip
