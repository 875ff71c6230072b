"""Counting and telling."""

import pytest

from rxrpc.core.journal import Journal
from rxrpc.trace import (
    CountingTracer,
    DropReason,
    Event,
    PacketDropped,
    PacketReceived,
    PacketSent,
    PeerUnreachable,
)
from rxrpc.wire.packet import Header, PacketType

ADDRESS = ("192.0.2.1", 7000)
HEADER = Header(1, 2, 3, 4, 5, PacketType.DATA, 0, 0, 0, 0, 0)


class KeepingTracer:
    """Keeps every event."""

    every_packet = True

    def __init__(self) -> None:
        self.events: list[Event] = []

    def record(self, now: float, event: Event) -> None:
        self.events.append(event)


def test_drops_are_counted_whatever_the_tracer_does() -> None:
    silent, tracer = Journal(), CountingTracer()
    loud = Journal(tracer)
    for journal in (silent, loud):
        journal.drop(1.0, ADDRESS, DropReason.DUPLICATE)
        journal.record(1.0, PeerUnreachable(ADDRESS, 111))
        assert journal.drops == {DropReason.DUPLICATE: 1}
        assert not journal.every_packet
    assert tracer.events == {PacketDropped: 1, PeerUnreachable: 1}


@pytest.mark.parametrize("kind", PacketType)
def test_a_tracer_sees_bodies_of_acks_and_aborts_and_of_nothing_else(kind: PacketType) -> None:
    tracer = KeepingTracer()
    journal = Journal(tracer)
    header = HEADER._replace(type=kind)
    journal.packet_received(1.0, ADDRESS, header, memoryview(b"body"))
    journal.packet_sent(1.0, ADDRESS, header, b"body")
    seen = b"body" if kind in (PacketType.ACK, PacketType.ABORT) else b""
    assert tracer.events == [
        PacketReceived(ADDRESS, header, 4, seen),
        PacketSent(ADDRESS, header, 4, seen),
    ]
