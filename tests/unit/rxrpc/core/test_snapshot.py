"""Pictures of a core: complete, frozen, and in agreement with its statistics."""

from dataclasses import FrozenInstanceError, fields, is_dataclass

import pytest

from rxrpc.core.parameters import Parameters
from rxrpc.core.snapshot import Snapshot
from rxrpc.core.states import CallState
from rxrpc.wire.packet import CHANNEL_MASK
from tests.pair.toy_security import TOY_INDEX, ToyClient, ToyServer
from tests.pair.world import CLIENT, NO_REACH_CHECK, SERVER, SERVICE, Pair, silent


def test_nothing_at_first() -> None:
    picture = Pair().client.snapshot(1000.0)
    assert (picture.peers, picture.bundles, picture.connections, picture.calls) == ((),) * 4


def test_a_call_that_waits_and_one_that_runs() -> None:
    pair = Pair(Parameters(max_connections_per_bundle=1), NO_REACH_CHECK)
    pair.on_server = silent
    pair.call(bytes(5000))
    pair.call(b"waits, because the server has answered nothing yet")
    pair.run(lambda: bool(pair.incoming))
    picture = pair.client.snapshot(pair.now)
    (bundle,) = picture.bundles
    assert (bundle.address, bundle.service_id) == (SERVER, SERVICE)
    assert (bundle.exclusive, bundle.upgrade) == (False, False)
    assert (bundle.connections, bundle.active_calls, bundle.waiting_calls) == (1, 1, 1)
    waiting, running = picture.calls
    assert (waiting.state, waiting.cid, waiting.call_number) == (CallState.WAITING, 0, 0)
    assert running.state in (CallState.SENDING, CallState.AWAITING)
    (connection,) = picture.connections
    assert running.cid & ~CHANNEL_MASK == connection.cid
    assert connection.active_calls == 1
    assert connection.idle == 0.0
    assert connection.call_numbers == (1, 0, 0, 0)
    assert picture.statistics == pair.client.statistics(pair.now)


def test_both_ends_of_a_call_that_is_over() -> None:
    pair = Pair(server=NO_REACH_CHECK)
    pair.finish(pair.call(bytes(5000)))
    pair.run_for(1.0)
    mine, other = pair.client.snapshot(pair.now), pair.server.snapshot(pair.now)
    (call,), (served,) = mine.calls, other.calls
    assert call.state is served.state is CallState.COMPLETE
    assert (call.epoch, call.cid, call.call_number) == (
        served.epoch, served.cid, served.call_number,
    )  # fmt: skip
    assert call.received_bytes == served.received_bytes == 5000
    assert call.received_packets == served.sent_packets == 4
    assert served.admitted
    assert not call.error
    (peer,) = mine.peers
    assert (peer.address, peer.reached) == (SERVER, True)
    assert (peer.packets_sent, peer.bytes_sent, peer.bytes_received) == (4, 5000, 5000)
    assert other.peers[0].address == CLIENT
    assert other.peers[0].rtt == pytest.approx(0.01)
    assert mine.connections[0].idle == pytest.approx(1.0, abs=0.2)


def test_errors_and_security() -> None:
    pair = Pair(server=NO_REACH_CHECK, securities=[ToyServer()])
    pair.finish(pair.call(b"x", security=ToyClient()))
    call = pair.call(b"y", security=ToyClient())
    call.abort(5, pair.now, "enough")
    picture = pair.client.snapshot(pair.now)
    assert picture.connections[0].security_index == TOY_INDEX
    assert picture.connections[0].security_level == 2
    assert picture.calls[0].error == "call aborted by this side with code 5"
    assert "secret" not in repr(picture)


def test_nothing_in_it_can_change() -> None:
    pair = Pair(server=NO_REACH_CHECK)
    pair.finish(pair.call(b"x"))
    picture = pair.client.snapshot(pair.now)
    with pytest.raises(FrozenInstanceError):
        picture.peers = ()  # type: ignore[misc]
    for row in (*picture.peers, *picture.bundles, *picture.connections, *picture.calls):
        assert is_dataclass(row)
        hash(row)  # all of it is immutable
    assert {field.name for field in fields(Snapshot)} == {
        "statistics", "peers", "bundles", "connections", "calls",
    }  # fmt: skip
