"""What is said again in a call, because it was lost, or what it asked for was."""

from collections.abc import Callable, Iterable

import pytest

from rxrpc.core.client_call import ClientCall
from rxrpc.core.states import CallState
from rxrpc.wire.ack import Ack, AckReason
from rxrpc.wire.packet import PacketType
from tests.pair.world import (
    CLIENT,
    NO_REACH_CHECK,
    SERVER,
    Flying,
    Pair,
    Program,
    drop_nth,
    silent,
)

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


PAYLOAD = 1416  # of a packet


def unread(pair: Pair, packets: int) -> tuple[ClientCall, Program]:
    """A call with a reply of which nothing is read, until the window is shut for long."""

    def answer(program: Program) -> None:
        call = program.call
        program.step()
        if call.receiving.complete and not call.sending.finished and not call.over:
            call.write(bytes(packets * PAYLOAD))
            call.finish()

    pair.on_server = answer
    call = pair.call(b"much")
    program = pair.programs.pop(call)
    pair.run_for(2.0)
    assert 200 < len(call.receiving.unread) < packets
    return call, program


def test_a_window_that_opens_again_is_told_of_although_an_ack_is_lost() -> None:
    pair = Pair(server=NO_REACH_CHECK)
    pair.finish(pair.call(b"measures the round trip"))
    call, program = unread(pair, 600)
    pair.mangle = drop_nth(1, where=lambda datagram: datagram.source == CLIENT)
    pair.programs[call] = program
    before = pair.now
    pair.run(lambda: call.over)
    assert pair.now - before < 0.5


def test_a_window_that_opens_by_small_steps_is_told_of() -> None:
    pair = Pair(server=NO_REACH_CHECK)
    call, _ = unread(pair, 600)
    since = len(acks(pair))

    def read(packets: int) -> Iterable[int]:
        for _ in range(packets):
            call.receiving.read_into([memoryview(bytearray(PAYLOAD))])
            call.receiving.stop_reading()
            if call.receiving.urgent is not None:
                call.mark()
            pair.collect()
            yield len(acks(pair)) - since

    told = list(read(240))
    assert told[-1] > 4
    assert told[-1] <= 240 / call.context.parameters.ack_every
