"""Many identities come to one server: their first calls go a few at a time."""

import errno
from collections.abc import Iterable

import pytest

from rxrpc.core.bundle import BundleKey
from rxrpc.core.call import Call
from rxrpc.core.client_call import ClientCall
from rxrpc.core.clocks import CallTimeouts
from rxrpc.core.parameters import Parameters
from rxrpc.core.states import CallState
from rxrpc.errors import CallAborted, CallTimeout, NetworkError, SecurityError
from rxrpc.security.base import ClientSecurity, ConnectionIdentity
from rxrpc.security.null import NULL
from tests.pair.toy_security import ToyClient, ToyConnection, ToyServer
from tests.pair.world import NO_REACH_CHECK, SERVER, SERVICE, Pair, Program, silent

LIMIT = 4


class Someone(ToyClient):
    """An identity that is equal to no other."""

    __eq__ = object.__eq__
    __hash__ = object.__hash__


class Expired(Someone):
    """One that cannot connect any more."""

    def connect(self, identity: ConnectionIdentity) -> ToyConnection:
        raise SecurityError(5, "expired")


def crowd(pair: Pair, number: int = 20, timeouts: CallTimeouts | None = None) -> list[ClientCall]:
    """A call each of so many identities."""
    return [
        pair.call(b"%d" % each, security=Someone(), timeouts=timeouts) for each in range(number)
    ]


def make_pair(**changes: float) -> Pair:
    client = Parameters().changed(**changes)
    return Pair(client, NO_REACH_CHECK, securities=[NULL, ToyServer()])


def under_way(calls: Iterable[Call]) -> int:
    return sum(not call.over and call.state is not CallState.WAITING for call in calls)


def is_clear(pair: Pair) -> bool:
    """Nobody has a turn, or waits for one."""
    (peer,) = pair.client._peers.values()
    return (peer.introductions.under_way, peer.introductions.waiting) == (0, 0)


def test_identities_come_a_few_at_a_time_and_in_their_order() -> None:
    pair = make_pair()
    most = 0

    def watch(program: Program) -> None:
        nonlocal most
        program.step()
        most = max(most, under_way(calls))
        if program.call.receiving.complete and not program.answered:
            program.answered = True
            program.call.write(program.received)
            program.call.finish()

    pair.on_server = watch
    calls = crowd(pair, 50)
    assert under_way(calls) == LIMIT
    pair.run(lambda: all(call.over for call in calls))
    assert most == LIMIT
    assert not any(call.error for call in calls)
    cids = [call.connection.cid for call in calls if call.connection]
    assert cids == sorted(cids, key=lambda cid: (cid - cids[0]) & 0xFFFFFFFF)
    assert is_clear(pair)


def test_who_is_known_waits_for_nobody() -> None:
    pair = make_pair()
    known = Someone()
    pair.finish(pair.call(b"first", security=known))
    pair.on_server = silent
    calls = crowd(pair)
    again = pair.call(b"second", security=known)
    assert under_way(calls) == LIMIT
    assert under_way([again]) == 1


def test_a_slow_server_holds_newcomers_up_for_a_second_only() -> None:
    pair = make_pair()
    pair.on_server = silent
    calls = crowd(pair, 10)
    pair.run_for(0.9)
    assert under_way(calls) == LIMIT
    pair.run_for(0.2)
    assert under_way(calls) == 2 * LIMIT
    pair.run_for(1.0)
    assert under_way(calls) == 10
    pair.run_for(1.1)
    assert is_clear(pair)


def test_a_refused_call_makes_room_at_once() -> None:
    """Its server has looked at it, so more calls may follow on its connection."""
    pair = make_pair()
    pair.on_server = lambda program: program.call.abort(13, pair.now)
    calls = crowd(pair, 40)
    start = pair.now
    pair.run(lambda: all(call.over for call in calls))
    assert all(isinstance(call.error, CallAborted) for call in calls)
    assert pair.now - start < 0.9
    assert is_clear(pair)
    pair.on_server = silent
    assert calls[0].connection is not None
    bundle = calls[0]._bundle
    more = [bundle.start_call(CallTimeouts(), pair.now) for _ in range(4)]
    assert under_way(more) == 4


def test_a_call_that_is_given_up_makes_room() -> None:
    pair = make_pair()
    pair.on_server = silent
    calls = crowd(pair, 10)
    calls[-1].abort(1, pair.now)  # it waits
    for call in calls[:LIMIT]:
        call.abort(1, pair.now)
    assert under_way(calls) == LIMIT
    pair.run_for(0.1)
    for call in calls[LIMIT : 2 * LIMIT]:
        call.abort(1, pair.now)
    assert under_way(calls) == 1
    calls[8].abort(1, pair.now)
    assert is_clear(pair)


def test_a_server_that_is_not_there_lets_all_fail_in_their_time() -> None:
    """Most while they wait; who got a turn late has its own time from then on."""
    pair = make_pair(dead_time=5.0)
    pair.mangle = lambda datagram: ()
    calls = crowd(pair, 100)
    pair.run_for(5.1)
    assert sum(isinstance(call.error, CallTimeout) for call in calls) > 80
    pair.run_for(5.0)
    assert all(isinstance(call.error, CallTimeout) for call in calls)
    assert is_clear(pair)


def test_a_refusal_by_the_network_makes_room() -> None:
    pair = make_pair()
    pair.mangle = lambda datagram: ()
    calls = crowd(pair, 10)
    for _ in range(3):
        pair.collect()
        pair.client.network_error(SERVER, errno.ECONNREFUSED, pair.now)
    assert all(isinstance(call.error, NetworkError) for call in calls)
    assert is_clear(pair)


def test_an_identity_that_has_expired_meanwhile_takes_no_turn() -> None:
    pair = make_pair()
    pair.on_server = silent
    calls = crowd(pair, LIMIT)
    late = [pair.call(b"late", security=who) for who in (Expired(), Someone(), Expired())]
    assert not any(call.over for call in late)
    calls[0].abort(1, pair.now)
    assert under_way(late) == 1
    calls[1].abort(1, pair.now)
    assert [isinstance(call.error, CallAborted) for call in late] == [True, False, True]
    assert under_way([*calls, *late]) == LIMIT - 1


def test_a_bundle_with_many_calls_does_not_go_before_others() -> None:
    """After each turn it is at the end of the queue."""
    pair = make_pair(max_introductions_per_peer=1, introduction_time=100.0)
    pair.on_server = silent
    greedy, modest = Someone(), Someone()
    many = [pair.call(b"%d" % each, security=greedy) for each in range(3)]
    one = pair.call(b"one", security=modest)
    assert (under_way(many), under_way([one])) == (1, 0)
    many[0].abort(1, pair.now)
    assert (under_way(many), under_way([one])) == (0, 1)
    one.abort(1, pair.now)
    assert under_way(many) == 1


def test_calls_that_ask_for_an_upgrade_hold_their_turn_for_a_second() -> None:
    pair = make_pair()
    pair.on_server = silent
    keys = [BundleKey(SERVER, SERVICE, who, upgrade=True) for who in identities(LIMIT)]
    calls = [pair.client.bundle(key).start_call(CallTimeouts(), pair.now) for key in keys]
    plain = pair.call(b"plain")
    assert (under_way(calls), under_way([plain])) == (LIMIT, 0)
    pair.run_for(1.1)
    assert under_way([plain]) == 1


def identities(number: int) -> list[ClientSecurity]:
    return [Someone() for _ in range(number)]


@pytest.mark.parametrize("remote", [True, False])
def test_the_end_of_a_connection_makes_room(*, remote: bool) -> None:
    pair = make_pair()
    pair.on_server = silent
    calls = crowd(pair, 2 * LIMIT)
    pair.run(lambda: len(pair.incoming) == LIMIT)
    for call in pair.incoming if remote else calls[:LIMIT]:
        assert call.connection is not None
        call.connection.abort(7, pair.now)
    pair.run(lambda: len(pair.incoming) == 2 * LIMIT)
    assert all(call.over for call in calls[:LIMIT])
    assert under_way(calls) == LIMIT


def test_closing_ends_everything() -> None:
    pair = make_pair()
    calls = crowd(pair)
    pair.collect()
    pair.client.close(pair.now)
    assert all(call.over for call in calls)
    assert is_clear(pair)
