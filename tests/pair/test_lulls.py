"""Replies that are given up, where packets are lost and their sender would wait for its timeout."""

from collections.abc import Callable

import pytest

from rxrpc.core.client_call import ClientCall
from rxrpc.core.clocks import CallTimeouts
from rxrpc.core.states import CallState
from rxrpc.errors import CallTimeout
from rxrpc.wire.packet import PacketType
from tests.pair.world import NO_REACH_CHECK, SERVER, Flying, Pair, silent

LULL = CallTimeouts(lull=0.03)
REQUEST = bytes(20_000)
TIMEOUT = 0.25  # a sender's least


def is_lost(*seqs: int) -> Callable[[Flying], tuple[Flying, ...]]:
    """What loses these packets of the reply, and all that is sent again."""

    def mangle(datagram: Flying) -> tuple[Flying, ...]:
        header = datagram.header
        data = header.type is PacketType.DATA and datagram.source == SERVER
        return () if data and header.seq in seqs else (datagram,)

    return mangle


def pair(*, lossy: bool = True) -> Pair:
    """Both ends, and a round trip that is known."""
    one = Pair(server=NO_REACH_CHECK)
    call = one.call(b"measures the round trip")
    one.finish(call)
    one.run_for(1.0)
    assert call.connection is not None
    call.connection.peer.losses.count(100, 10 if lossy else 0, one.now)
    return one


def after(one: Pair, call: ClientCall) -> float:
    """The time until a call is over."""
    began = one.now
    one.run(lambda: call.over)
    return one.now - began


@pytest.mark.parametrize("lost", [(1,), (15,), (5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)])
def test_a_reply_that_comes_no_further_is_given_up(lost: tuple[int, ...]) -> None:
    one = pair()
    one.mangle = is_lost(*lost)
    call = one.call(REQUEST, timeouts=LULL)
    assert after(one, call) < TIMEOUT
    assert isinstance(call.error, CallTimeout)
    assert call.error.what == CallTimeout.LULL
    assert call.receiving.bytes == (lost[0] - 1) * 1416
    one.mangle = is_lost()
    assert one.finish(one.call(REQUEST, timeouts=LULL)) == REQUEST, "its channel serves the next"


def test_the_server_is_told_and_its_channel_free() -> None:
    one = pair()
    one.mangle = is_lost(1)
    after(one, one.call(REQUEST, timeouts=LULL))
    one.run_for(0.1)
    assert one.incoming[-1].state is CallState.FAILED


@pytest.mark.parametrize(
    ("lossy", "timeouts"), [(False, LULL), (True, CallTimeouts())], ids=["clean", "not asked for"]
)
def test_else_it_is_waited_for(lossy: bool, timeouts: CallTimeouts) -> None:
    one = pair(lossy=lossy)
    one.on_server = silent
    call = one.call(REQUEST, timeouts=timeouts)
    one.run_for(1.0)
    assert not call.over


def test_a_program_that_is_slow_itself_loses_no_call() -> None:
    one = pair()
    call = one.call(REQUEST, timeouts=LULL)
    program = one.programs.pop(call)
    one.run_for(1.0)
    assert call.error is None
    assert call.receiving.complete
    one.programs[call] = program


def test_where_the_server_answers_nobody_few_are_given_up() -> None:
    one = pair()
    one.on_server = silent
    calls = [one.call(b"question", timeouts=LULL) for _ in range(4)]
    one.run(lambda: all(call.state is CallState.AWAITING for call in calls))
    one.run_for(0.15)
    assert sum(call.over for call in calls) == 1
    one.run_for(0.25)
    assert sum(call.over for call in calls) == 2


def test_the_first_call_of_a_connection_is_not_given_up() -> None:
    one = pair()
    one.on_server = silent
    (connection,) = one.bundle().connections
    connection.answered = False
    call = one.call(REQUEST, timeouts=LULL)
    assert call.connection is connection
    one.run_for(0.9)
    assert not call.over
