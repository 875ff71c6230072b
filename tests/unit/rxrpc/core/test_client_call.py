"""The client's end of a call: waiting, BUSY, confirming."""

import pytest

from rxrpc.core.client_call import ClientCall
from rxrpc.core.clocks import CallTimeouts
from rxrpc.core.parameters import Parameters
from rxrpc.core.states import CallState
from rxrpc.core.timers import NEVER
from rxrpc.errors import (
    CallBusy,
    CallTimeout,
    PhaseError,
)
from rxrpc.trace import DropReason
from rxrpc.wire.ack import Ack
from rxrpc.wire.packet import HEADER, PacketType
from tests.pair.world import (
    NO_REACH_CHECK,
    SERVER,
    SERVICE,
    Pair,
    Program,
    silent,
)


def test_a_waiting_call_can_be_aborted_and_times_out() -> None:
    pair = Pair(Parameters(max_connections_per_bundle=1, introduction_time=100.0))
    pair.on_server = silent
    first = pair.call(b"first")
    waiting = pair.call(b"second")
    hard = pair.call(b"third", timeouts=CallTimeouts(hard=5.0))
    pair.mangle = lambda datagram: ()
    assert waiting.state is CallState.WAITING
    waiting.abort(-6, pair.now)
    assert waiting.over
    assert waiting not in pair.bundle().waiting
    connect = pair.call(b"fourth", timeouts=CallTimeouts(dead=3.0))
    pair.run_for(6.0)
    assert isinstance(connect.error, CallTimeout)
    assert connect.error.what == "connect"
    assert isinstance(hard.error, CallTimeout)
    assert hard.error.what == "hard"
    assert not first.over


def test_a_failed_call_answers_late_packets_with_its_abort_once_a_batch() -> None:
    pair = Pair(server=NO_REACH_CHECK)
    pair.on_server = silent
    call = pair.call(b"one")
    pair.run(lambda: len(pair.incoming) == 1)
    call.abort(-6, pair.now)
    pair.collect()
    connection = call.connection
    assert connection is not None
    pair.wire.clear()
    cid = connection.cid | call.channel
    data = HEADER.pack(connection.epoch, cid, call.number, 1, 5, 1, 0, 0, 0, 0, SERVICE)
    ping = HEADER.pack(connection.epoch, cid, call.number, 0, 6, 2, 2, 0, 0, 0, SERVICE)
    pair.client.receive_datagram(data + b"x", SERVER, pair.now)
    pair.client.receive_datagram(ping + Ack(1, 0, 0, 6).build(), SERVER, pair.now)
    pair.collect()
    assert [d.header.type for d in pair.wire] == [PacketType.ABORT]
    busy = HEADER.pack(connection.epoch, cid, call.number, 0, 7, 3, 0, 0, 0, 0, SERVICE)
    pair.client.receive_datagram(busy, SERVER, pair.now)
    assert pair.client_trace.drops[DropReason.WRONG_STATE] == 1


def test_busy_means_again_later() -> None:
    pair = Pair(server=Parameters(max_server_calls=2, check_reach=False))
    pair.on_server = silent
    other = Pair(seed=99)
    for _ in range(2):
        other.call(b"fill")
        other.collect()
        for datagram in other.wire:
            pair.server.receive_datagram(datagram.data, ("198.51.100.7", 7001), pair.now)
        other = Pair(seed=100)
    pair.collect()
    assert pair.server.admission.calls == 2
    call = pair.call(b"question")
    pair.run_for(1.0)
    assert not call.over
    assert len([d for d in pair.log if d.header.type is PacketType.BUSY]) > 3
    for filler in list(pair.incoming):
        filler.abort(1, pair.now)

    def answer(program: Program) -> None:
        if not program.call.sending.finished:
            program.call.write(b"at last")
            program.call.finish()

    pair.on_server = answer
    assert pair.finish(call) == b"at last"


def test_nothing_but_busy_ends_the_call() -> None:
    pair = Pair(server=Parameters(max_server_calls=0))
    start = pair.now
    with pytest.raises(CallBusy):
        pair.finish(pair.call(b"question"))
    assert pair.now - start == pytest.approx(15.0, abs=1.1)


def test_busy_after_an_ack_is_ignored() -> None:
    pair = Pair(server=NO_REACH_CHECK)
    pair.on_server = silent
    call = pair.call(bytes(60_000), finish=False)
    pair.run(lambda: not call.sending.untouched)
    connection = call.connection
    assert connection is not None
    before = call.sending.next_timer()
    cid = connection.cid | call.channel
    busy = HEADER.pack(connection.epoch, cid, call.number, 0, 7, 3, 0, 0, 0, 0, SERVICE)
    pair.client.receive_datagram(busy, SERVER, pair.now)
    assert call.sending.next_timer() == before
    assert not call.over


def test_busy_may_end_a_call_at_once() -> None:
    pair = Pair(server=Parameters(max_server_calls=0))
    start = pair.now
    with pytest.raises(CallBusy):
        pair.finish(pair.call(b"question", timeouts=CallTimeouts(busy=0.0)))
    assert pair.now - start < 0.1


def test_a_short_dead_time_does_not_end_a_slow_call() -> None:
    pair = Pair(server=NO_REACH_CHECK)
    pair.on_server = silent
    call = pair.call(b"slow", timeouts=CallTimeouts(dead=1.0))
    pair.run_for(20.0)
    assert not call.over
    pair.mangle = lambda datagram: ()
    cut = pair.now
    with pytest.raises(CallTimeout, match="dead peer"):
        pair.finish(call)
    assert pair.now - cut <= 1.0


def test_timeouts_change_during_a_call() -> None:
    pair = Pair(server=NO_REACH_CHECK)
    pair.on_server = silent
    call = pair.call(b"slow", timeouts=CallTimeouts(hard=5.0))
    pair.run_for(4.0)
    call.set_timeouts(CallTimeouts(hard=3.0), pair.now)
    pair.run_for(2.0)
    assert not call.over
    with pytest.raises(CallTimeout, match="hard"):
        pair.finish(call)
    assert pair.now == pytest.approx(1007.0, abs=0.01)


def test_a_reply_ends_the_request() -> None:
    pair = Pair(server=NO_REACH_CHECK)

    def answer(program: Program) -> None:
        if not program.call.sending.finished:
            program.call.write(b"enough")
            program.call.finish()

    pair.on_server = answer
    call = pair.call(bytes(5000), finish=False)
    assert not call.confirmed
    assert pair.finish(call) == b"enough"
    assert call.confirmed
    with pytest.raises(PhaseError):
        call.write(b"more")
    call.finish()
    before = len(pair.log)
    pair.run_for(100.0)
    assert not [d for d in pair.log[before:] if d.header.type is PacketType.DATA]


def is_told_busy(pair: Pair, call: ClientCall) -> None:
    """A server says that it has no room for the call."""
    connection = call.connection
    assert connection is not None
    cid = connection.cid | call.channel
    busy = HEADER.pack(connection.epoch, cid, call.number, 0, 7, 3, 0, 0, 0, 0, SERVICE)
    pair.client.receive_datagram(busy, SERVER, pair.now)
    pair.client.datagrams_to_send(pair.now)


def test_each_packet_of_a_request_may_be_told_busy_and_that_counts_once() -> None:
    pair = Pair()
    call = pair.call(bytes(10_000))
    pair.collect()
    for _ in range(8):
        is_told_busy(pair, call)
    assert call.sending.next_timer() == pair.now + Parameters().busy_delay


def test_a_server_may_say_busy_without_end() -> None:
    pair = Pair()
    call = pair.call(b"question", timeouts=CallTimeouts(busy=NEVER, idle=NEVER))
    pair.mangle = lambda datagram: ()
    for _ in range(1200):
        pair.collect()
        is_told_busy(pair, call)
        pair.now = pair.client.deadline()
    assert not call.over


def test_a_call_may_be_asked_after_without_end() -> None:
    pair = Pair(server=NO_REACH_CHECK)
    pair.on_server = silent
    call = pair.call(b"hours of work", timeouts=CallTimeouts(idle=NEVER))
    pair.run(lambda: call.state is CallState.AWAITING)
    assert call.connection is not None
    for _ in range(2400):
        call.connection.peer.losses.count(100, 10, pair.now)
        pair.run_for(4.1)
    assert not call.over
