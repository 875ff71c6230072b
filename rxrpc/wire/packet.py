"""The 28 bytes in front of every Rx packet. Source of numbers: rx_packet.h."""

from __future__ import annotations

import enum
import struct
from typing import NamedTuple, Self

from rxrpc.errors import ParseError

Address = tuple[str, int]
"""Host (dotted quad) and UDP port of a peer."""

HEADER = struct.Struct("!5I4B2H")
HEADER_SIZE = HEADER.size
ROUTE_SIZE = 12
"""Epoch, connection id and call number: the first bytes of a packet say to which call it goes."""

CHANNEL_MASK = 3
CHANNELS = 4
"""Calls that one connection carries at a time; the channel is in the low bits of the cid."""

MAX_DATAGRAM = 65535


class PacketType(enum.IntEnum):
    """What a packet is for."""

    DATA = 1
    ACK = 2
    BUSY = 3
    ABORT = 4
    ACKALL = 5
    CHALLENGE = 6
    RESPONSE = 7
    DEBUG = 8
    PARAMS = 9
    VERSION = 13


class PacketFlag(enum.IntFlag, boundary=enum.KEEP):
    """Flags of the header; bits without a name survive."""

    NONE = 0x00
    CLIENT_INITIATED = 0x01  # sent by the client of the connection, whoever that is
    REQUEST_ACK = 0x02
    LAST_PACKET = 0x04
    MORE_PACKETS = 0x08
    JUMBO = 0x20  # on DATA: another packet follows in this datagram
    SLOW_START_OK = 0x20  # on ACK: the same bit, another meaning


UPGRADE = 1
"""User status in the first packet of a connection: its service may become another that the server
has in its place. Source: linux, net/rxrpc/protocol.h (RXRPC_USERSTATUS_SERVICE_UPGRADE)."""

_TYPES = {int(kind): kind for kind in PacketType}

# Plain numbers for the hot paths: arithmetic on enum members costs several times as much.
DATA = int(PacketType.DATA)
ACK = int(PacketType.ACK)
CLIENT_INITIATED = int(PacketFlag.CLIENT_INITIATED)
REQUEST_ACK = int(PacketFlag.REQUEST_ACK)
LAST_PACKET = int(PacketFlag.LAST_PACKET)
MORE_PACKETS = int(PacketFlag.MORE_PACKETS)
JUMBO = int(PacketFlag.JUMBO)
SLOW_START_OK = int(PacketFlag.SLOW_START_OK)


class Header(NamedTuple):
    """The header of a packet, in wire order. A tuple, because one is made for every packet."""

    epoch: int
    cid: int
    call_number: int  # 0: the packet belongs to the connection, not to a call
    seq: int
    serial: int  # fresh for each transmission, so a resend has a new serial
    type: PacketType
    flags: int  # `PacketFlag` bits, and those that have no name
    user_status: int
    security_index: int
    checksum: int
    service_id: int

    @classmethod
    def parse(cls, datagram: bytes) -> tuple[Self, memoryview]:
        """Split a datagram into header and payload; raise `ParseError` on anything else."""
        if len(datagram) < HEADER_SIZE:
            raise ParseError(f"short header: {len(datagram)} of {HEADER_SIZE} bytes")
        epoch, cid, call, seq, serial, number, *rest = HEADER.unpack_from(datagram)
        kind = _TYPES.get(number)
        if kind is None:
            raise ParseError(f"unknown packet type {number}")
        header = tuple.__new__(cls, (epoch, cid, call, seq, serial, kind, *rest))
        return header, memoryview(datagram)[HEADER_SIZE:]

    def build(self) -> bytes:
        """The exact inverse of `parse`."""
        return HEADER.pack(*self)

    @property
    def from_client(self) -> bool:
        """Whether the client of the connection sent it."""
        return bool(self.flags & CLIENT_INITIATED)

    @property
    def channel(self) -> int:
        """Which of the connection's calls it is about."""
        return self.cid & CHANNEL_MASK

    def __str__(self) -> str:
        """One line for a log, without payload."""
        return (
            f"{self.type.name} cid={self.cid:08x} call={self.call_number} seq={self.seq} "
            f"serial={self.serial} flags={self.flags:#04x}"
        )
