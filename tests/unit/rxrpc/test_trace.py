"""Tracers."""

from rxrpc.trace import (
    CountingTracer,
    DropReason,
    NullTracer,
    PacketDropped,
    PacketsLost,
    Tracer,
)
from rxrpc.wire.packet import Header, PacketType

ADDRESS = ("192.0.2.1", 7000)
HEADER = Header(1, 2, 3, 4, 5, PacketType.DATA, 0, 0, 0, 0, 0)
DROPPED = PacketDropped(ADDRESS, DropReason.DUPLICATE, HEADER, "seen")


def test_the_null_tracer_wants_nothing() -> None:
    tracer: Tracer = NullTracer()
    tracer.record(1.0, DROPPED)
    assert not tracer.every_packet


def test_the_counting_tracer_counts_reasons() -> None:
    tracer = CountingTracer()
    tracer.record(1.0, DROPPED)
    tracer.record(1.0, DROPPED._replace(reason=DropReason.MALFORMED))
    tracer.record(2.0, PacketsLost(2, 3, 4, "timeout"))
    assert tracer.events[PacketDropped] == 2
    assert tracer.events[PacketsLost] == 1
    assert tracer.drops == {DropReason.DUPLICATE: 1, DropReason.MALFORMED: 1}
