"""Channels for calls: old connections first, new ones one by one."""

import pytest

from rxrpc.core.bundle import BundleKey
from rxrpc.core.clocks import CallTimeouts
from rxrpc.core.parameters import Parameters
from rxrpc.core.services import ServiceEntry
from rxrpc.core.states import CallState
from rxrpc.errors import CallAborted, CallBusy, SecurityLevelError
from rxrpc.security.base import SecurityLevel
from rxrpc.security.null import NULL
from rxrpc.trace import ConnectionOpened, DropReason
from rxrpc.wire.packet import PacketType
from tests.pair.toy_security import ToyClient, ToyServer
from tests.pair.world import (
    NO_REACH_CHECK,
    SERVER,
    SERVICE,
    Flying,
    Pair,
    Program,
    echo,
    silent,
)

BETTER = SERVICE + 1


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
                if waiting.call.receiving.complete and not waiting.call.sending.finished:
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


def test_waiting_calls_outlive_the_connection_that_they_wait_for() -> None:
    """They were given channels of the connection that was just being closed, and never ended."""
    pair = Pair(Parameters(max_connections_per_bundle=1))
    pair.on_server = silent
    calls = [pair.call(b"%d" % number) for number in range(3)]
    pair.run(lambda: len(pair.incoming) == 1)
    assert calls[0].connection is not None
    calls[0].connection.abort(7, pair.now)
    pair.on_server = echo
    pair.run(lambda: all(call.over for call in calls))
    assert [call.error is None for call in calls] == [False, True, True]
    assert connections_opened(pair) == 2


def test_an_exclusive_connection_carries_one_call_and_is_discarded() -> None:
    pair = Pair(Parameters(max_introductions_per_peer=100), NO_REACH_CHECK)
    shared = pair.call(b"shared")
    pair.finish(shared)
    calls = [pair.call(b"%d" % number, exclusive=True) for number in range(10)]
    bundle = pair.bundle(exclusive=True)
    assert (len(bundle.connections), len(bundle.waiting)) == (8, 2)
    for number, call in enumerate(calls):
        assert pair.finish(call) == b"%d" % number
    cids = {call.connection.cid for call in [shared, *calls] if call.connection}
    assert len(cids) == 11
    assert not bundle.connections
    pair.run_for(1.0)
    assert all(call.state is CallState.COMPLETE for call in pair.incoming), "ACKs were repeated"
    assert pair.client.statistics(pair.now).client_connections == 11, "to answer repetitions"
    pair.run_for(20.0)
    assert pair.client.statistics(pair.now).client_connections == 1
    assert not [d for d in pair.log if d.header.type is PacketType.ABORT]


def test_an_exclusive_connection_is_there_while_its_server_may_miss_the_ack() -> None:
    pair = Pair(server=NO_REACH_CHECK)
    call = pair.call(b"question", exclusive=True)
    acks = 0

    def lose_the_first_acks(datagram: Flying) -> list[Flying]:
        nonlocal acks
        acks += datagram.header.type is PacketType.ACK
        return [] if datagram.header.type is PacketType.ACK and acks < 4 else [datagram]

    pair.mangle = lose_the_first_acks
    pair.finish(call)
    pair.run_for(15.0)
    assert pair.incoming[0].state is CallState.COMPLETE
    assert pair.client_trace.drops[DropReason.UNKNOWN_CONNECTION] == 0


def upgradable(*, offered: bool = True) -> Pair:
    """A server with two services, the second better than the first."""
    pair = Pair(server=NO_REACH_CHECK)
    pair.server.services.add(ServiceEntry(BETTER, {NULL.index: NULL}))
    if offered:
        pair.server.services.offer_upgrade(SERVICE, BETTER)
    return pair


@pytest.mark.parametrize("offered", [True, False])
def test_others_wait_until_the_server_has_said_which_service_it_is(*, offered: bool) -> None:
    pair = upgradable(offered=offered)
    calls = [pair.call(bytes(5000), upgrade=True) for _ in range(6)]
    bundle = pair.bundle(upgrade=True)
    pair.collect()
    data = [d.header for d in pair.wire if d.header.type is PacketType.DATA]
    assert {header.cid for header in data} == {data[0].cid}
    assert [header.user_status for header in data] == [1, 0, 0, 0]
    pair.on_server = silent
    pair.run_for(10.0)
    assert len(pair.incoming) == 1
    assert len(bundle.waiting) == 5, "however long it takes"
    pair.incoming[0].write(b"the answer")
    pair.incoming[0].finish()
    pair.run(lambda: len(pair.incoming) == 6)
    served = BETTER if offered else SERVICE
    assert bundle.service_id == served
    assert [call.service_id for call in pair.incoming] == [served] * 6
    for call in pair.incoming[1:]:
        call.finish()
    pair.run(lambda: all(call.over for call in calls))
    assert not any(call.error for call in calls)
    later = [d.header.user_status for d in pair.log if d.header.call_number > 1]
    assert set(later) == {0}
    wrong = (DropReason.WRONG_SERVICE, DropReason.UNKNOWN_SERVICE)
    assert not any(pair.client_trace.drops[each] + pair.server_trace.drops[each] for each in wrong)


def test_a_call_that_fails_says_nothing_of_the_service_and_the_next_one_asks() -> None:
    pair = upgradable()
    pair.mangle = lambda datagram: ()
    first = pair.call(b"lost", upgrade=True, timeouts=CallTimeouts(dead=2.0))
    second = pair.call(b"found", upgrade=True)
    pair.run(lambda: first.over)
    pair.mangle = lambda datagram: (datagram,)
    assert pair.finish(second) == b"found"
    assert pair.bundle(upgrade=True).service_id == BETTER
    plain = pair.call(b"as it was")
    pair.finish(plain)
    assert pair.incoming[-1].service_id == SERVICE, "who did not ask is left in peace"


def test_an_abort_says_nothing_of_the_service() -> None:
    pair = upgradable()
    pair.on_server = lambda program: program.call.abort(5, pair.now)
    with pytest.raises(CallAborted):
        pair.finish(pair.call(b"refused", upgrade=True))
    assert pair.bundle(upgrade=True).seeks_upgrade


def test_a_service_that_changes_later_is_not_believed() -> None:
    pair = upgradable()
    pair.finish(pair.call(b"first", upgrade=True))
    reply = next(d for d in reversed(pair.log) if d.source == SERVER)
    header = reply.header._replace(service_id=BETTER + 1)
    pair.client.receive_datagram(header.build() + reply.body, SERVER, pair.now)
    assert pair.client_trace.drops[DropReason.WRONG_SERVICE] == 1
    assert pair.bundle(upgrade=True).service_id == BETTER


def test_too_little_protection_is_refused_before_anything_is_sent() -> None:
    pair = Pair(Parameters(min_security_level=SecurityLevel.AUTH), securities=[NULL, ToyServer()])
    with pytest.raises(SecurityLevelError, match="demanded is AUTH"):
        pair.call(b"plain")
    with pytest.raises(SecurityLevelError):
        pair.client.check_level(NULL, SecurityLevel.CLEAR)
    pair.client.check_level(ToyClient(), SecurityLevel.CRYPT)
    with pytest.raises(SecurityLevelError, match="demanded is CRYPT"):
        pair.client.check_level(ToyClient(level=SecurityLevel.AUTH), SecurityLevel.CRYPT)
    pair.collect()
    assert not pair.log
    assert not pair.client.statistics(pair.now).peers
    assert pair.finish(pair.call(b"secret", security=ToyClient())) == b"secret"


def test_destinations_do_not_pile_up() -> None:
    pair = Pair(Parameters(nat_time=10.0, peer_idle_time=10.0, dead_time=1.0))
    pair.mangle = lambda datagram: ()
    for number in range(300):
        key = BundleKey((f"198.51.100.{number % 250}", 7000 + number), SERVICE, NULL)
        call = pair.client.bundle(key).start_call(CallTimeouts(), pair.now)
        call.finish()
        pair.run(lambda call=call: call.over)  # type: ignore[misc]
    pair.run_for(200.0)
    assert not pair.client._bundles
    assert not pair.client._connections
    assert len(pair.client._peers) <= 300
    for number in range(200):
        pair.client.bundle(BundleKey(("203.0.113.1", number), SERVICE, NULL)).start_call(
            CallTimeouts(), pair.now
        ).abort(1, pair.now)
    assert len(pair.client._peers) <= 200, "two old ones have gone for each new one"


def test_a_handle_outlives_what_it_stands_for() -> None:
    pair = Pair(Parameters(nat_time=1.0, peer_idle_time=1.0, client_idle_time=5.0))
    handle = pair.bundle()
    for _ in range(2):
        call = handle.start_call(CallTimeouts(), pair.now)
        call.write(b"x")
        call.finish()
        pair.run(lambda call=call: call.over)  # type: ignore[misc]
        assert pair.client._bundles == {handle.key: handle}
        pair.run_for(10.0)
        assert not pair.client._bundles
        assert handle.peer.bundles == 0
    other = pair.bundle()
    busy = handle.start_call(CallTimeouts(), pair.now)
    assert other.start_call(CallTimeouts(), pair.now)
    assert busy.connection is handle.connections[0]
    assert not other.connections
    assert len(handle.waiting) == 1, "two handles to one service share its connections"
