"""Bodies of the small packets: ABORT, VERSION, and the packet that keeps a NAT entry alive.

BUSY has no body; those of CHALLENGE and RESPONSE belong to the security classes.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from rxrpc.errors import ParseError
from rxrpc.wire.packet import Header, PacketFlag, PacketType

_CODE = struct.Struct("!i")
VERSION_SIZE = 65
"""Bytes of a VERSION answer, filled up with NUL. Source: rx_packet.c (rxi_ReceiveVersionPacket)."""

_KEEPALIVE_EPOCH = 999  # Source: rx.c (rxi_NatKeepAliveEvent)


@dataclass(frozen=True, slots=True)
class Abort:
    """Why the other side ended a call, or with call number 0 the whole connection."""

    code: int  # signed

    @classmethod
    def parse(cls, body: bytes | memoryview) -> Abort:
        """Read the code; bytes behind it are ignored, as everyone does."""
        if len(body) < _CODE.size:
            raise ParseError(f"short ABORT: {len(body)} of {_CODE.size} bytes")
        return cls(_CODE.unpack_from(body)[0])

    def build(self) -> bytes:
        """The inverse of `parse`; codes that do not fit are cut to 32 bits."""
        return _CODE.pack((self.code + 0x8000_0000) % 0x1_0000_0000 - 0x8000_0000)


@dataclass(frozen=True, slots=True)
class Version:
    """The answer to a VERSION packet: a text of at most 64 bytes."""

    text: bytes

    @classmethod
    def parse(cls, body: bytes | memoryview) -> Version:
        """Read the text up to the first NUL, at most 64 bytes of it."""
        return cls(bytes(body[: VERSION_SIZE - 1]).partition(b"\0")[0])

    def build(self) -> bytes:
        """The inverse of `parse`."""
        return self.text[: VERSION_SIZE - 1].ljust(VERSION_SIZE, b"\0")


def version_question() -> tuple[Header, bytes]:
    """A VERSION packet that asks for an answer, and is as long as that: a sign of life that needs
    no connection. Source: rx_packet.c (rxi_ReceiveVersionPacket).
    """
    flags = PacketFlag.CLIENT_INITIATED | PacketFlag.LAST_PACKET
    header = Header(_KEEPALIVE_EPOCH, 0, 0, 0, 0, PacketType.VERSION, flags, 0, 0, 0, 0)
    return header, bytes(VERSION_SIZE)


def keepalive_datagram() -> bytes:
    """A VERSION packet that asks for no answer: it only passes the NATs on the way."""
    header = Header(
        _KEEPALIVE_EPOCH, 0, 0, 0, 0, PacketType.VERSION, PacketFlag.LAST_PACKET, 0, 0, 0, 0
    )
    return header.build() + b"\0"
