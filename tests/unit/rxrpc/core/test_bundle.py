"""Channels for calls: old connections first, new ones one by one."""

import pytest

from rxrpc.core.parameters import Parameters
from rxrpc.core.states import CallState
from rxrpc.errors import (
    CallBusy,
)
from rxrpc.trace import ConnectionOpened
from tests.pair.world import (
    Pair,
    Program,
    silent,
)


def connections_opened(pair: Pair) -> int:
    return pair.client_trace.events[ConnectionOpened]


def test_the_first_call_of_a_connection_goes_alone() -> None:
    pair = Pair()
    pair.on_server = silent
    calls = [pair.call(b"%d" % number) for number in range(40)]
    pair.collect()
    assert {d.header.cid for d in pair.wire} == {pair.wire[0].header.cid}
    assert sum(call.state is not CallState.WAITING for call in calls) == 1


def test_connections_grow_with_the_calls_up_to_a_bound() -> None:
    pair = Pair()
    calls = [pair.call(b"%d" % number) for number in range(100)]
    slow: list[Program] = []

    def answer_the_first_eight(program: Program) -> None:
        program.step()
        if program not in slow:
            slow.append(program)
        if slow.index(program) < 8 or len(slow) > 31:
            for waiting in slow:
                waiting.step()
                if waiting.call.receiving.complete and not waiting.call.over:
                    waiting.call.write(waiting.received)
                    waiting.call.finish()

    pair.on_server = answer_the_first_eight
    pair.run(lambda: all(call.over for call in calls))
    for number, call in enumerate(calls):
        pair.programs[call].step()
        assert pair.received(call) == b"%d" % number
    assert connections_opened(pair) == 8
    cids = {call.connection.cid for call in calls if call.connection}
    assert len(cids) == 8
    assert all(cid & 3 == 0 for cid in cids)


def test_waiting_calls_get_channels_in_their_order() -> None:
    pair = Pair(Parameters(max_connections_per_bundle=1))
    calls = [pair.call(b"%d" % number) for number in range(12)]
    pair.run(lambda: all(call.over for call in calls))
    started = [bytes(pair.programs[call].received) for call in pair.incoming]
    assert sorted(started, key=int) == [b"%d" % number for number in range(12)]
    assert started[0] == b"0"
    assert {int(started[i]) for i in range(1, 5)} == {1, 2, 3, 4}
    assert {call.channel for call in calls} == {0, 1, 2, 3}


def test_too_many_waiting_calls_are_refused_at_once() -> None:
    pair = Pair(Parameters(max_waiting_calls=3))
    for _ in range(4):
        pair.call()
    with pytest.raises(CallBusy):
        pair.call()


def test_a_slow_first_call_holds_others_up_for_a_second_only() -> None:
    pair = Pair()
    pair.on_server = silent
    calls = [pair.call(b"%d" % number) for number in range(8)]
    pair.run_for(0.9)
    assert len(pair.incoming) == 1
    pair.run_for(0.2)
    assert len(pair.incoming) == 5, "three on the first connection, one on a new one"
    pair.run_for(1.0)
    assert len(pair.incoming) == 8
    assert {call.connection for call in calls} == set(pair.bundle().connections)


def test_a_waiting_call_lives_while_the_peer_does() -> None:
    pair = Pair(Parameters(max_connections_per_bundle=1))
    pair.on_server = silent
    for _ in range(4):
        pair.call(b"slow")
    waiting = pair.call(b"patient")
    pair.run_for(100.0)
    assert waiting.state is CallState.WAITING
