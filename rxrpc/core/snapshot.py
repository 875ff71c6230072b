"""A frozen picture of everything that an endpoint has: peers, bundles, connections, calls.

Nothing in it changes afterwards or points back into the endpoint, and it holds no payload and
nothing secret, so it may be kept, logged or shown.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rxrpc.core.outcomes import describe
from rxrpc.wire.packet import CHANNELS
from rxrpc.wire.serial import add

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rxrpc.core.bundle import Bundle
    from rxrpc.core.call import Call
    from rxrpc.core.connection import Connection
    from rxrpc.core.peer import Peer
    from rxrpc.core.states import CallState
    from rxrpc.core.statistics import Statistics
    from rxrpc.wire.packet import Address


@dataclass(frozen=True, slots=True)
class PeerSnapshot:
    """An address with which packets are exchanged. Counters are of calls that are over."""

    address: Address
    rtt: float | None  # smoothed, seconds; None while not measured
    rtt_variation: float  # seconds
    mtu: int  # bytes of the largest datagram that goes there
    silent: float  # seconds since it was heard; infinite when never
    reached: bool  # whether it has lately proven that the address is its own
    connections: int
    server_calls: int  # calls of the peer that run or wait
    packets_sent: int  # DATA, repetitions with them
    packets_resent: int
    bytes_sent: int  # payload
    bytes_received: int  # payload


@dataclass(frozen=True, slots=True)
class BundleSnapshot:
    """The way to one service of a peer with one identity."""

    address: Address
    service_id: int
    security_index: int
    exclusive: bool  # each call has a connection of its own
    upgrade: bool  # asks, or has asked, for a better service in this one's place
    connections: int
    active_calls: int
    waiting_calls: int  # for a channel


@dataclass(frozen=True, slots=True)
class ConnectionSnapshot:
    """A connection with its four channels."""

    address: Address
    is_client: bool
    epoch: int
    cid: int
    service_id: int
    security_index: int
    security_level: int
    established: bool  # server: whether the client has proven who it is, or need not
    serial: int  # of the packet that was sent last
    call_numbers: tuple[int, ...]  # of the latest call on each channel
    active_calls: int
    idle: float  # seconds without a call; 0 while there is one


@dataclass(frozen=True, slots=True)
class CallSnapshot:
    """A call. One that waits for a channel has no cid and no number yet: both are 0."""

    address: Address
    is_client: bool
    service_id: int
    epoch: int
    cid: int  # with the channel in the low bits
    call_number: int
    state: CallState
    silent: float  # seconds since the peer was heard in this call
    error: str  # what ended it; empty when nothing did
    admitted: bool = False  # server: whether the service has been shown the call
    received_packets: int = 0  # that came in order
    received_bytes: int = 0  # payload
    unread_bytes: int = 0
    sent_packets: int = 0  # delivered for good
    queued_packets: int = 0  # sent or not, but not delivered
    in_flight: int = 0
    resent_packets: int = 0
    send_window: int = 0  # packets that the peer takes
    congestion_window: int = 0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All of it at one moment."""

    statistics: Statistics
    peers: tuple[PeerSnapshot, ...]
    bundles: tuple[BundleSnapshot, ...]
    connections: tuple[ConnectionSnapshot, ...]
    calls: tuple[CallSnapshot, ...]  # those that wait, then those that have a channel


def take_snapshot(
    statistics: Statistics,
    peers: Iterable[Peer],
    bundles: Iterable[Bundle],
    connections: Iterable[Connection],
    now: float,
) -> Snapshot:
    """The picture of what is given."""
    bundles, connections = list(bundles), list(connections)
    waiting = (_waiting_call(bundle, call, now) for bundle in bundles for call in bundle.waiting)
    bound = (
        _bound_call(connection, call, now)
        for connection in connections
        for call in connection.calls
        if call is not None
    )
    return Snapshot(
        statistics,
        tuple(_peer(peer, now) for peer in peers),
        tuple(_bundle(bundle) for bundle in bundles),
        tuple(_connection(connection, now) for connection in connections),
        (*waiting, *bound),
    )


def _peer(peer: Peer, now: float) -> PeerSnapshot:
    return PeerSnapshot(
        peer.address,
        peer.rtt.smoothed,
        peer.rtt.variation,
        peer.mtu,
        now - peer.heard,
        peer.is_reached(now),
        peer.connections,
        peer.server_calls,
        peer.packets_sent,
        peer.packets_resent,
        peer.bytes_sent,
        peer.bytes_received,
    )


def _bundle(bundle: Bundle) -> BundleSnapshot:
    return BundleSnapshot(
        bundle.peer.address,
        bundle.service_id,
        int(bundle.security.index),
        bundle.key.exclusive,
        bundle.key.upgrade,
        len(bundle.connections),
        sum(connection.active for connection in bundle.connections),
        len(bundle.waiting),
    )


def _connection(connection: Connection, now: float) -> ConnectionSnapshot:
    security = connection.security
    return ConnectionSnapshot(
        connection.peer.address,
        connection.is_client,
        connection.epoch,
        connection.cid,
        connection.service_id,
        int(connection.security_index),
        int(security.level),
        security.established,
        connection.serial,
        tuple(connection.numbers[:CHANNELS]),
        connection.active,
        0.0 if connection.active else now - connection.idle_since,
    )


def _waiting_call(bundle: Bundle, call: Call, now: float) -> CallSnapshot:
    return CallSnapshot(
        address=bundle.peer.address,
        is_client=True,
        service_id=bundle.service_id,
        epoch=0,
        cid=0,
        call_number=0,
        state=call.state,
        silent=now - call.heard,
        error=describe(call.error) if call.error else "",
    )


def _bound_call(connection: Connection, call: Call, now: float) -> CallSnapshot:
    receiving, sending = call.receiving, call.sending
    return CallSnapshot(
        address=call.address,
        is_client=call.is_client,
        service_id=connection.service_id,
        epoch=connection.epoch,
        cid=connection.cid | call.channel,
        call_number=call.number,
        state=call.state,
        silent=now - call.heard,
        error=describe(call.error) if call.error else "",
        admitted=call.admitted,
        received_packets=add(receiving.next, -1),
        received_bytes=receiving.bytes,
        unread_bytes=receiving.unread_bytes,
        sent_packets=add(sending.first, -1),
        queued_packets=sending.queued,
        in_flight=sending.in_flight,
        resent_packets=sending.resends,
        send_window=sending.window,
        congestion_window=sending.congestion.window,
    )
