"""Bodies of DEBUG packets: what `rxdebug` asks an endpoint, and what it is told.

A question is two words, `DebugRequest`; the answer has the layout of one C structure of OpenAFS,
all numbers in network order. What an endpoint of this stack has no figure for is zero, as are all
spare bytes. Source of layouts and numbers: rx.h (rx_debugIn, rx_debugStats, rx_debugConn,
rx_debugPeer, rx_statistics, rx_securityObjectStats), rx_packet.c (rxi_ReceiveDebugPacket).
"""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from rxrpc.errors import ParseError

if TYPE_CHECKING:
    from rxrpc.wire.packet import Address

_REQUEST = struct.Struct("!2i")
_BASIC = struct.Struct("!3I4B4I24x")
_CONNECTION = struct.Struct("!4s2I4IIH3B3x4B4B4B4B 2B10x6I40x 2I36x")
_PEER = struct.Struct("!4s2HIH10x2I8x2I12x8H2Q40x")
_STATISTICS = struct.Struct("!6I20x 13I4I 13I8I 6I6I 3I8xI16x")

_MICRO = 1_000_000

COUNTED_TYPES = 13
"""Packet types for which there is a counter: 1 to 13. Source: rx.h (RX_N_PACKET_TYPES)."""

VERSION = ord("S")
"""The newest set of answers that OpenAFS knows; every question below belongs to it."""

END_HOST = "255.255.255.255"
END_CID = 0xFFFF_FFFF


class DebugQuestion(enum.IntEnum):
    """What can be asked."""

    BASIC = 1
    INTERESTING_CONNECTION = 2  # the n-th of those that have something to do
    CONNECTION = 3  # the n-th of all
    STATISTICS = 4
    PEER = 5  # the n-th of all


BAD_QUESTION = -8
"""In the place of the question: the answerer does not know it; the index repeats what it was."""


class CallStage(enum.IntEnum):
    """What `rxdebug` calls the state of a call."""

    NONE = 0
    PRECALL = 1  # server: packets have come, nobody works on it yet
    ACTIVE = 2
    DALLY = 3  # over, but remembered


class CallMode(enum.IntEnum):
    """Which way a call's payload goes."""

    NONE = 0
    SENDING = 1
    RECEIVING = 2
    ERROR = 3
    EOF = 4


class CallFlag(enum.IntFlag):
    """Flags of a call that fit into the byte which an answer has for them."""

    READER_WAIT = 1
    WAIT_WINDOW_SEND = 4
    WAIT_PROC = 16
    RECEIVE_DONE = 32


class CallQueue(enum.IntFlag):
    """Where packets of a call wait."""

    IN = 1
    OUT = 2


class ConnectionFlag(enum.IntFlag):
    """Flags of a connection."""

    MAKECALL_WAITING = 1
    PACKET_CHECKSUM = 4
    ATTACH_WAIT = 64  # a ping of the reach check is not answered yet


class SecurityKind(enum.IntEnum):
    """Numbers that stand for security classes here; they are not the index in the header."""

    UNKNOWN = 0
    NULL = 1
    RXKAD = 3
    RXGK = 4


@dataclass(frozen=True, slots=True)
class DebugRequest:
    """A question."""

    question: int  # a `DebugQuestion`, or a number that nobody has defined yet
    index: int = 0  # which connection, or peer; signed

    @classmethod
    def parse(cls, body: bytes | memoryview) -> Self:
        """Read it; bytes behind it are padding."""
        return cls(*_unpack(_REQUEST, body, "request"))

    def build(self, size: int = 0) -> bytes:
        """The inverse of `parse`, padded with zeros to ``size``.

        An answerer that never sends more than it got to strangers wants room for its answer.
        """
        return _REQUEST.pack(self.question, self.index).ljust(size, b"\0")


@dataclass(frozen=True, slots=True)
class BasicAnswer:
    """The answer to `DebugQuestion.BASIC`."""

    free_packets: int
    reclaims: int
    calls: int  # executed, as a server
    waiting_for_packets: int
    used_files: int
    version: int
    waiting: int  # calls that nobody works on yet
    idle: int  # calls that could be worked on at once
    waited: int
    packets: int

    @classmethod
    def parse(cls, body: bytes | memoryview) -> Self:
        """Read an answer."""
        v = _unpack(_BASIC, body, "answer")
        return cls(*v[:6], *v[7:])

    def build(self) -> bytes:
        """The inverse of `parse`."""
        return _BASIC.pack(
            self.free_packets, self.reclaims, self.calls, self.waiting_for_packets,
            self.used_files, self.version, 0, self.waiting, self.idle, self.waited, self.packets,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class SecurityAnswer:
    """What is told of a connection's security: never a key, a ticket or a name."""

    kind: int = SecurityKind.UNKNOWN
    level: int = 0
    flags: int = 0  # 1: nothing set up yet; 2: the client has proven who it is; 4: expired
    expires: int = 0  # seconds since 1970; 0: never, or not known
    packets_received: int = 0
    packets_sent: int = 0
    bytes_received: int = 0
    bytes_sent: int = 0


Four = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class ConnectionAnswer:
    """A connection with its four channels."""

    address: Address
    cid: int
    serial: int
    call_numbers: Four
    error: int
    flags: int
    is_server: int
    security_index: int
    stages: Four
    modes: Four
    call_flags: Four
    queues: Four
    security: SecurityAnswer
    epoch: int
    mtu: int

    @classmethod
    def parse(cls, body: bytes | memoryview) -> Self:
        """Read an answer."""
        v = _unpack(_CONNECTION, body, "answer")
        return cls(
            (_host(v[0]), v[8]), v[1], v[2], v[3:7], v[7], v[9], v[10], v[11],
            v[12:16], v[16:20], v[20:24], v[24:28], SecurityAnswer(*v[28:36]), v[36], v[37],
        )  # fmt: skip

    def build(self) -> bytes:
        """The inverse of `parse`."""
        host, port = self.address
        s = self.security
        return _CONNECTION.pack(
            _octets(host), self.cid, self.serial, *self.call_numbers, self.error, port, self.flags,
            self.is_server, self.security_index, *self.stages, *self.modes, *self.call_flags,
            *self.queues, s.kind, s.level, s.flags, s.expires, s.packets_received, s.packets_sent,
            s.bytes_received, s.bytes_sent, self.epoch, self.mtu,
        )  # fmt: skip

    @property
    def is_end(self) -> bool:
        """Whether this stands for "no more"."""
        return self.cid == END_CID


_NOTHING: Four = (0, 0, 0, 0)
CONNECTION_END = ConnectionAnswer(
    ("0.0.0.0", 0), END_CID, 0, _NOTHING, 0, 0, 0, 0, _NOTHING, _NOTHING, _NOTHING, _NOTHING,
    SecurityAnswer(), 0, 0,
)  # fmt: skip
"""There are no connections from the asked one on."""


@dataclass(frozen=True, slots=True)
class PeerAnswer:
    """An address with which packets are exchanged."""

    address: Address
    interface_mtu: int = 0
    idle_when: int = 0
    references: int = 0
    rtt_8ths: int = 0  # milliseconds, times eight
    rtt_deviation_4ths: int = 0  # milliseconds, times four
    packets_sent: int = 0
    packets_resent: int = 0
    nat_mtu: int = 0
    max_mtu: int = 0
    max_datagram_packets: int = 0
    interface_datagram_packets: int = 0
    mtu: int = 0
    window: int = 0
    datagram_packets: int = 0
    congestion_seq: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0

    @classmethod
    def parse(cls, body: bytes | memoryview) -> Self:
        """Read an answer."""
        host, port, *rest = _unpack(_PEER, body, "answer")
        return cls((_host(host), port), *rest)

    def build(self) -> bytes:
        """The inverse of `parse`."""
        host, port = self.address
        return _PEER.pack(
            _octets(host), port, self.interface_mtu, self.idle_when, self.references,
            self.rtt_8ths, self.rtt_deviation_4ths, self.packets_sent, self.packets_resent,
            self.nat_mtu, self.max_mtu, self.max_datagram_packets, self.interface_datagram_packets,
            self.mtu, self.window, self.datagram_packets, self.congestion_seq,
            self.bytes_sent, self.bytes_received,
        )  # fmt: skip

    @property
    def is_end(self) -> bool:
        """Whether this stands for "no more"."""
        return self.address[0] == END_HOST


PEER_END = PeerAnswer((END_HOST, 0))
"""There are no peers from the asked one on."""


@dataclass(frozen=True, slots=True)
class StatisticsAnswer:
    """Counters of the whole endpoint. Round trips are microseconds."""

    packet_requests: int = 0
    receive_failures: int = 0
    send_failures: int = 0
    special_failures: int = 0
    greedy: int = 0  # whether the socket got large buffers
    malformed: int = 0  # datagrams that are no packets
    read: tuple[int, ...] = (0,) * COUNTED_TYPES  # packets, by type from 1 on
    data_read: int = 0  # without repetitions
    acks_read: int = 0
    duplicates_read: int = 0
    spurious_read: int = 0
    sent: tuple[int, ...] = (0,) * COUNTED_TYPES  # packets, by type from 1 on
    acks_sent: int = 0
    pings_sent: int = 0
    aborts_sent: int = 0
    busies_sent: int = 0
    data_sent: int = 0  # without repetitions
    data_resent: int = 0
    data_pushed: int = 0
    acked_ignored: int = 0
    total_rtt: int = 0
    least_rtt: int = 0
    greatest_rtt: int = 0
    rtt_samples: int = 0
    server_connections: int = 0
    client_connections: int = 0
    peers: int = 0
    calls: int = 0
    free_calls: int = 0
    network_failures: int = 0
    fatal_errors: int = 0
    late: int = 0  # packets of calls that are over
    busies: int = 0

    @classmethod
    def parse(cls, body: bytes | memoryview) -> Self:
        """Read an answer."""
        v = _unpack(_STATISTICS, body, "answer")
        rtts = tuple(v[at] * _MICRO + v[at + 1] for at in (44, 46, 48))
        values = (*v[:6], v[6:19], *v[19:23], v[23:36], *v[36:44], *rtts, *v[50:])
        return cls(*values)

    def build(self) -> bytes:
        """The inverse of `parse`."""
        rtts = (self.total_rtt, self.least_rtt, self.greatest_rtt)
        return _STATISTICS.pack(
            self.packet_requests, self.receive_failures, self.send_failures,
            self.special_failures, self.greedy, self.malformed, *self.read, self.data_read,
            self.acks_read, self.duplicates_read, self.spurious_read, *self.sent, self.acks_sent,
            self.pings_sent, self.aborts_sent, self.busies_sent, self.data_sent, self.data_resent,
            self.data_pushed, self.acked_ignored, *(n for rtt in rtts for n in divmod(rtt, _MICRO)),
            self.rtt_samples, self.server_connections, self.client_connections, self.peers,
            self.calls, self.free_calls, self.network_failures, self.fatal_errors, self.late,
            self.busies,
        )  # fmt: skip


LARGEST_ANSWER = _STATISTICS.size
"""Bytes of the longest answer; a question that is padded to as much never gets more than it is."""


def _unpack(layout: struct.Struct, body: bytes | memoryview, what: str) -> tuple[Any, ...]:
    if len(body) < layout.size:
        raise ParseError(f"short DEBUG {what}: {len(body)} of {layout.size} bytes")
    return layout.unpack_from(body)


def _octets(host: str) -> bytes:
    return bytes(map(int, host.split(".")))


def _host(octets: bytes) -> str:
    return ".".join(map(str, octets))
