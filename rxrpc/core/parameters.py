"""Every timeout, window and bound of the stack, in one place."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from rxrpc.errors import LocalError
from rxrpc.security.base import SecurityLevel
from rxrpc.wire.ack import MAX_ACKS
from rxrpc.wire.control import VERSION_SIZE
from rxrpc.wire.packet import HEADER_SIZE, MAX_DATAGRAM

if TYPE_CHECKING:
    from collections.abc import Mapping

Value = float | bool | bytes | SecurityLevel | None
"""What a parameter may be; each has one of these types, which its field names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """How the stack behaves. Times are seconds, windows are packets, unless said otherwise.

    Values that cannot work, alone or together, raise `LocalError`. A running endpoint takes others
    by `Endpoint.configure`.
    """

    # Windows

    receive_window: int = 255
    """Packets that a peer may send ahead of what was delivered; 255 is what an ACK can describe."""

    read_ahead: int = 64
    """Packets of a call that count as delivered although the program has not read them yet."""

    max_buffered_packets: int = 16384
    """Packets, over all calls of the endpoint, that may wait to be read or for one before them."""

    initial_send_window: int = 16
    """Packets that we send before the peer has told its window. Source: rx_globals.h."""

    max_send_window: int = 255
    """The most packets in flight in one call, whatever window the peer offers."""

    send_buffer: int = 256
    """Packets of a call that may wait to be sent before its writer must wait."""

    # Packet sizes, in bytes of UDP payload

    send_mtu: int = 1444
    """The largest datagram that we send, until a peer or the network asks for less."""

    min_mtu: int = 508
    """What a peer or the network may reduce `send_mtu` to; less is taken for an attack."""

    safe_mtu: int = 1200
    """The largest datagram, both ways, where larger ones vanish without a word. With its headers
    it passes wherever IPv6 does (1280 bytes)."""

    narrow_time: float = 600.0
    """How long that is kept to at a peer before larger ones are tried again."""

    receive_mtu: int = 1444
    """The largest datagram that we ask for (the MTU words of our ACKs)."""

    jumbo_max: int = 1
    """Packets in one datagram that we ask for. 1: no jumbo datagrams."""

    # When to acknowledge

    ack_every: int = 16
    """Packets received for which an ACK is sent at once, when a call runs at full speed."""

    quiet_ack_delay: float = 0.002
    """After a pause this long two or more packets are acknowledged: the peer may be waiting."""

    soft_ack_delay: float = 0.1
    """The latest ACK for a packet. OpenAFS counts on 0.2 s at most. Source: rx.c."""

    idle_ack_delay: float = 0.1
    """The latest ACK for the end of a reply, unless the next call says the same before."""

    ack_repeats: int = 3
    """How often an ACK is repeated when nothing comes after it: it may have been lost."""

    min_repeat_delay: float = 0.005
    """The least time before that; else two round trips, and twice as much each time."""

    lossy_ack_repeats: int = 20
    """How often where packets were lost lately, so that the peer's timeouts may be in vain."""

    lossy_repeat_delay: float = 0.001
    """The least time before that there; else two round trips, and twice as much each time."""

    lossy_repeat_limit: float = 0.05
    """The longest time before that there, unless two round trips take longer."""

    min_report_delay: float = 0.001
    """The least time before a hole that less than three packets have jumped is told of again; else
    a quarter of a round trip, or more where packets come out of order."""

    # Round trips and loss

    initial_rto: float = 1.0
    """Retransmission timeout while no round trip has been measured (RFC 6298)."""

    min_rto: float = 0.25
    """The least retransmission timeout: peers hold ACKs back for up to 0.1 s."""

    max_rto: float = 60.0
    """The greatest retransmission timeout, after many doublings."""

    rtt_refresh: float = 10.0
    """A round trip measured longer ago than this is measured anew by the next call."""

    nack_threshold: int = 3
    """ACKs for later packets after which a packet counts as lost, until reordering was seen."""

    min_probe_delay: float = 0.01
    """The least time before the end of a flight is sent again as a probe (RFC 8985)."""

    lossy_probe_delay: float = 0.001
    """The same where packets were lost lately."""

    busy_delay: float = 0.01
    """First pause after a BUSY before the call is sent again; doubles with each."""

    max_busy_delay: float = 1.0
    """The longest pause after a BUSY."""

    busy_time: float = 15.0
    """A call that gets nothing but BUSY for this long ends with `CallBusy`."""

    # Congestion

    initial_congestion_window: int = 10
    """Packets in flight in a new call (RFC 6928)."""

    min_congestion_window: int = 2
    """Packets in flight that remain after loss."""

    # How long to wait

    dead_time: float = 20.0
    """A call whose peer sends no packet for this long ends with `CallTimeout("dead peer")`."""

    ping_interval: float = 4.0
    """A call that has heard nothing for this long asks with a ping, and again each time after."""

    lossy_ping_delay: float = 0.25
    """The same for a reply that does not begin, where packets were lost lately; it doubles."""

    idle_time: float | None = 180.0
    """A call that makes no progress for this long ends, however alive its peer is."""

    hard_time: float | None = None
    """The longest life of a call, whatever it does."""

    error_grace: float = 0.1
    """An ICMP error is not believed within this time of a packet from that very peer."""

    linger_time: float = 2.0
    """How long a call is remembered after its end, to answer late duplicates."""

    # Connections and peers

    max_connections_per_bundle: int = 8
    """Connections of one client to one service of a peer; each carries four calls."""

    introduction_time: float = 1.0
    """A new connection carries one call until that is answered, but no longer than this."""

    max_introductions_per_peer: int = 4
    """New connections to one peer whose first call is under way; others wait for their turn."""

    max_waiting_calls: int = 4096
    """Calls that may wait for a channel to one service of a peer."""

    client_idle_time: float = 120.0
    """A client connection without a call for this long is forgotten."""

    server_idle_time: float = 700.0
    """A server connection without a call for this long is forgotten. Source: rx_globals.h."""

    max_server_connections: int = 4096
    """Connections that strangers may have to us; the longest idle one makes room for the next."""

    max_server_calls: int = 256
    """Calls of strangers that may run or wait at a time; more are told BUSY."""

    max_server_calls_per_peer: int = 64
    """Calls of one stranger that may run or wait at a time; more are told BUSY."""

    max_unproven_calls: int = 64
    """Calls that wait for their client to answer a ping or a challenge; the oldest makes room."""

    max_peers: int = 8192
    """Addresses that are remembered; idle ones make room."""

    peer_idle_time: float = 600.0
    """An address without connections is forgotten after this."""

    check_reach: bool = True
    """Whether a stranger's call is held until the stranger has answered a ping."""

    reach_time: float = 60.0
    """How long an answer to a ping is proof of an address. Source: rx.c (RX_CHECKREACH_TTL)."""

    reach_interval: float = 2.0
    """Between two pings of the reach check. Source: rx.c (RX_CHECKREACH_TIMEOUT)."""

    challenge_interval: float = 2.0
    """Between two CHALLENGEs to one client. Source: rx.h."""

    max_challenges: int = 50
    """CHALLENGEs without a RESPONSE after which a connection is given up. Source: rx.h."""

    answers_per_second: int = 100
    """Packets a second that answer strangers without a connection (VERSION, ABORT, BUSY)."""

    debug: bool = True
    """Whether DEBUG packets, the questions of OpenAFS's `rxdebug`, are answered."""

    debug_answers_per_second: int = 100
    """Answers a second to DEBUG packets of other hosts."""

    debug_stranger_bytes: int = 2048
    """Bytes a second of DEBUG answers that are longer than their questions, to all strangers."""

    nat_interval: float = 20.0
    """A peer to which nothing was sent for this long gets a packet that keeps NATs open."""

    nat_time: float = 4 * 3600.0
    """How long after the last call to a peer NATs are kept open: as long as promises last."""

    # Security

    min_security_level: SecurityLevel = SecurityLevel.CLEAR
    """Calls of ours with less protection than this are refused before anything is sent."""

    # Replies and sockets

    max_reply: int = 1 << 20
    """Bytes of a reply, or of a request to us, outside of streams."""

    socket_buffer: int = 8 << 20
    """Bytes that the kernel may hold for our socket, each way; an ordinary user may get less."""

    batch: int = 16
    """Datagrams received before the stack looks what to answer."""

    max_batches: int = 8
    """Batches after which other tasks get their turn, however much more has come."""

    timer_granularity: float = 0.001
    """Timers do not run more often than this."""

    version: bytes = b"afsfuse"
    """The answer to a VERSION packet, at most 64 bytes."""

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        for field in dataclasses.fields(self):
            problem = _problem(field.name, str(field.type), getattr(self, field.name))
            if problem:
                raise LocalError(f"{field.name} = {getattr(self, field.name)!r}: {problem}")
        for smaller, larger in _ORDER:
            if getattr(self, smaller) > getattr(self, larger):
                raise LocalError(f"{smaller} is more than {larger}")
        if len(self.version) >= VERSION_SIZE:
            raise LocalError(f"version: at most {VERSION_SIZE - 1} bytes")

    def changed(self, **changes: Value) -> Parameters:
        """Others, with these values in place of ours. Raises `LocalError` as the class does."""
        unknown = changes.keys() - {field.name for field in dataclasses.fields(self)}
        if unknown:
            raise LocalError(f"no such parameter: {', '.join(sorted(unknown))}")
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]  # checked above


_TYPES: Final[Mapping[str, tuple[type, ...]]] = MappingProxyType(
    {
        "int": (int,),
        "float": (int, float),
        "float | None": (int, float, type(None)),
        "bool": (bool,),
        "bytes": (bytes,),
        "SecurityLevel": (SecurityLevel,),
    }
)

_LEAST: Final[Mapping[str, int]] = MappingProxyType(
    {
        "max_connections_per_bundle": 1,
        "max_introductions_per_peer": 1,
        "max_server_connections": 1,
        "max_unproven_calls": 1,
        "max_peers": 1,
        "max_buffered_packets": 1,
        "receive_window": 1,
        "initial_send_window": 1,
        "max_send_window": 1,
        "send_buffer": 1,
        "ack_every": 1,
        "jumbo_max": 1,
        "nack_threshold": 1,
        "initial_congestion_window": 1,
        "min_congestion_window": 1,
        "batch": 1,
        "max_batches": 1,
        "min_mtu": HEADER_SIZE + 1,
        "receive_mtu": HEADER_SIZE + 1,
        "safe_mtu": HEADER_SIZE + 1,
    }
)
"""Where 0 would mean that nothing works; for everything else it means "none" or "at once"."""

_MOST: Final[Mapping[str, int]] = MappingProxyType(
    {
        "receive_window": MAX_ACKS,
        "max_send_window": MAX_ACKS,
        "jumbo_max": MAX_ACKS,
        "send_mtu": MAX_DATAGRAM,
        "receive_mtu": MAX_DATAGRAM,
    }
)

_POSITIVE: Final = frozenset(
    {
        "initial_rto",
        "min_rto",
        "max_rto",
        "min_repeat_delay",
        "busy_delay",
        "max_busy_delay",
        "dead_time",
        "idle_time",
        "hard_time",
        "ping_interval",
        "reach_interval",
        "challenge_interval",
        "nat_interval",
        "timer_granularity",
    }
)
"""Times at which 0 would repeat something without end, or end everything at its beginning."""

_ORDER: Final = (
    ("read_ahead", "receive_window"),
    ("min_mtu", "send_mtu"),
    ("min_rto", "max_rto"),
    ("busy_delay", "max_busy_delay"),
)
"""Pairs of which the second is never less."""


def _problem(name: str, kind: str, value: Value) -> str | None:
    """What is wrong with the value of a parameter by itself."""
    if not isinstance(value, _TYPES[kind]) or (isinstance(value, bool) and kind != "bool"):
        return f"must be {kind}"
    if not isinstance(value, int | float):
        return None
    if not value >= _LEAST.get(name, 0):  # a value that is no number fails this, too
        return f"must be {_LEAST.get(name, 0)} or more"
    if name in _POSITIVE and value == 0:
        return "must be more than 0"
    if value > _MOST.get(name, value):
        return f"must be {_MOST[name]} or less"
    return None
