"""Counting and telling."""

from rxrpc.core.journal import Journal
from rxrpc.trace import CountingTracer, DropReason, PacketDropped, PeerUnreachable

ADDRESS = ("192.0.2.1", 7000)


def test_drops_are_counted_whatever_the_tracer_does() -> None:
    silent, tracer = Journal(), CountingTracer()
    loud = Journal(tracer)
    for journal in (silent, loud):
        journal.drop(1.0, ADDRESS, DropReason.DUPLICATE)
        journal.record(1.0, PeerUnreachable(ADDRESS, 111))
        assert journal.drops == {DropReason.DUPLICATE: 1}
        assert not journal.every_packet
    assert tracer.events == {PacketDropped: 1, PeerUnreachable: 1}
