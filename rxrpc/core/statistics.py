"""A frozen picture of an endpoint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rxrpc.trace import DropReason
    from rxrpc.wire.packet import Address, PacketType


@dataclass(frozen=True, slots=True)
class PeerStatistics:
    """What is known of an address."""

    address: Address
    rtt: float | None  # smoothed, seconds; None while not measured
    mtu: int  # bytes of the largest datagram that goes there
    silent: float  # seconds since it was heard; infinite when never
    connections: int


@dataclass(frozen=True, slots=True)
class Statistics:
    """Counters since the start, and what exists now."""

    received: Mapping[PacketType, int]
    sent: Mapping[PacketType, int]
    drops: Mapping[DropReason, int]
    resent: int  # DATA packets, in calls that are over
    client_connections: int
    server_connections: int
    active_calls: int
    waiting_calls: int  # of ours, for a channel
    server_calls: int  # of strangers, running or waiting
    buffered: int  # packets that wait to be read, or for one before them
    peers: tuple[PeerStatistics, ...]
