"""What is said again in a call, because it was lost, or what it asked for was."""

from collections.abc import Callable

import pytest

from rxrpc.core.states import CallState
from rxrpc.wire.ack import Ack, AckReason
from rxrpc.wire.packet import PacketType
from tests.pair.world import CLIENT, NO_REACH_CHECK, SERVER, Flying, Pair, drop_nth, silent

REQUEST = bytes(range(256)) * 200


def acks(pair: Pair, source: object = CLIENT) -> list[Ack]:
    """All ACKs that one end has ever sent."""
    return [
        Ack.parse(datagram.body)
        for datagram in pair.log
        if datagram.header.type is PacketType.ACK and datagram.source == source
    ]


def is_data(source: object, *seqs: int) -> Callable[[Flying], bool]:
    return lambda datagram: (
        datagram.source == source
        and datagram.header.type is PacketType.DATA
        and (datagram.header.seq in seqs or not seqs)
    )


def test_where_nothing_is_lost_nothing_is_said_twice() -> None:
    pair = Pair(server=NO_REACH_CHECK)
    for _ in range(3):
        assert pair.finish(pair.call(REQUEST)) == REQUEST
    for source in (CLIENT, SERVER):
        said = [(ack.first, ack.acks, ack.serial) for ack in acks(pair, source)]
        assert len(said) == len(set(said))


def test_a_packet_that_is_lost_twice_is_asked_for_again_before_the_timeout_of_its_sender() -> None:
    pair = Pair(server=NO_REACH_CHECK)
    pair.finish(pair.call(b"measures the round trip"))
    pair.mangle = drop_nth(1, 2, where=is_data(SERVER, 5))
    before = pair.now
    assert pair.finish(pair.call(REQUEST)) == REQUEST
    assert pair.now - before < 0.25


def test_a_hole_is_not_told_of_for_ever() -> None:
    pair = Pair(server=NO_REACH_CHECK)
    pair.finish(pair.call(b"measures the round trip"))
    pair.mangle = lambda datagram: () if is_data(SERVER, 1)(datagram) else (datagram,)
    call = pair.call(REQUEST)
    pair.run(lambda: call.connection is not None and bool(call.receiving._held))
    pair.mangle = lambda datagram: () if is_data(SERVER)(datagram) else (datagram,)
    before = len(acks(pair))
    pair.run_for(10.0)
    reminders = [ack for ack in acks(pair)[before:] if ack.reason == AckReason.DELAY]
    assert 5 < len(reminders) <= 20


@pytest.mark.parametrize(("lossy", "pings"), [(True, 4), (False, 0)])
def test_a_reply_that_does_not_begin_is_asked_for_sooner_where_packets_are_lost(
    lossy: bool, pings: int
) -> None:
    pair = Pair(server=NO_REACH_CHECK)
    pair.finish(pair.call(b"measures the round trip"))
    pair.on_server = silent
    call = pair.call(REQUEST)
    pair.run(lambda: call.state is CallState.AWAITING)
    assert call.connection is not None
    call.connection.peer.losses.count(100, 10 if lossy else 0, pair.now)
    call.context.timers.update(call)
    pair.run_for(6.0)
    assert sum(ack.reason == AckReason.PING for ack in acks(pair)) == pings
