"""Every state of a call meets every packet type, and only what the tables list happens."""

from collections.abc import Callable
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rxrpc.core.call import Call
from rxrpc.core.states import ACCEPTS, OVER, TRANSITIONS, CallState
from rxrpc.trace import DropReason
from rxrpc.wire.ack import Ack, AckReason
from rxrpc.wire.control import Abort
from rxrpc.wire.packet import HEADER, Header, PacketType
from tests.pair.world import CLIENT, NO_REACH_CHECK, SERVER, SERVICE, Pair, silent

BODIES = {
    PacketType.DATA: b"data",
    PacketType.ACK: Ack(1, 0, 0, AckReason.PING).build(),
    PacketType.ABORT: Abort(99).build(),
}


def client_in(state: CallState) -> tuple[Pair, Call]:
    """A client call in a state."""
    pair = Pair(server=NO_REACH_CHECK)
    pair.finish(pair.call(b"warm"))
    pair.on_server = silent
    call = pair.call(bytes(4000), finish=state is not CallState.SENDING)
    match state:
        case CallState.SENDING:
            pair.collect()
        case CallState.AWAITING:
            pair.run(lambda: call.state is CallState.AWAITING)
        case CallState.RECEIVING:
            pair.run(lambda: len(pair.incoming) == 2)
            pair.incoming[1].write(bytes(3000))
            pair.run(lambda: call.state is CallState.RECEIVING)
        case CallState.COMPLETE:
            pair.run(lambda: len(pair.incoming) == 2)
            pair.incoming[1].finish()
            pair.run(lambda: call.over)
        case CallState.FAILED:
            pair.run(lambda: len(pair.incoming) == 2)
            call.abort(5, pair.now)
            pair.collect()
    assert call.state is state
    pair.wire.clear()
    return pair, call


def server_in(state: CallState, *, early: bool = False) -> tuple[Pair, Call]:
    """A server call in a state; ``early``: it replies although the request has not ended."""
    pair = Pair(server=NO_REACH_CHECK)
    pair.on_server = silent
    pair.call(bytes(4000), finish=not (early or state is CallState.REQUEST))
    pair.run(lambda: bool(pair.incoming))
    call = pair.incoming[0]
    match state:
        case CallState.SERVING:
            pair.run(lambda: call.state is CallState.SERVING)
        case CallState.REPLYING:
            call.write(bytes(3000))
        case CallState.CONFIRMING:
            call.write(bytes(3000))
            call.finish()
            pair.collect()
        case CallState.COMPLETE:
            call.finish()
            pair.run(lambda: call.over)
        case CallState.FAILED:
            call.abort(5, pair.now)
            pair.collect()
    assert call.state is state
    pair.wire.clear()
    return pair, call


CLIENT_STATES = [
    CallState.SENDING,
    CallState.AWAITING,
    CallState.RECEIVING,
    CallState.COMPLETE,
    CallState.FAILED,
]
SERVER_STATES = [
    CallState.REQUEST,
    CallState.SERVING,
    CallState.REPLYING,
    CallState.CONFIRMING,
    CallState.COMPLETE,
    CallState.FAILED,
]


def send(
    pair: Pair, call: Call, kind: PacketType, *, seq: int = 1, flags: int = 0, body: bytes = b""
) -> None:
    """A packet of the peer for this call."""
    connection = call.connection
    assert connection is not None
    flags |= 0 if call.is_client else 1
    header = HEADER.pack(
        connection.epoch, connection.cid | call.channel, call.number, seq, 4711, kind, flags,
        0, 0, 0, SERVICE,
    )  # fmt: skip
    if call.is_client:
        pair.client.receive_datagram(header + body, SERVER, pair.now)
    else:
        pair.server.receive_datagram(header + body, CLIENT, pair.now)


def check(pair: Pair, call: Call, act: Callable[[], None], kind: PacketType) -> None:
    """One packet may move the call along one arrow at most, or not at all."""
    before = call.state
    trace = pair.client_trace if call.is_client else pair.server_trace
    drops = trace.drops[DropReason.WRONG_STATE]
    act()
    pair.collect()
    if kind in (PacketType.VERSION, PacketType.DEBUG, PacketType.PARAMS):
        assert call.state is before, "these never reach a call"
    elif kind not in ACCEPTS[before]:
        assert call.state is before
        assert trace.drops[DropReason.WRONG_STATE] == drops + 1
    else:
        allowed = {before} | TRANSITIONS[before]
        for state in TRANSITIONS[before]:
            allowed |= TRANSITIONS[state]  # a reply of one packet: RECEIVING, then COMPLETE
        assert call.state in allowed


@pytest.mark.parametrize("kind", PacketType)
@pytest.mark.parametrize("state", CLIENT_STATES)
def test_client_calls(state: CallState, kind: PacketType) -> None:
    pair, call = client_in(state)
    check(pair, call, lambda: send(pair, call, kind, body=BODIES.get(kind, b"")), kind)


@pytest.mark.parametrize("kind", PacketType)
@pytest.mark.parametrize("state", SERVER_STATES)
def test_server_calls(state: CallState, kind: PacketType) -> None:
    pair, call = server_in(state)
    check(pair, call, lambda: send(pair, call, kind, body=BODIES.get(kind, b"")), kind)


@pytest.mark.parametrize("kind", PacketType)
@pytest.mark.parametrize("seq", [2, 3, 4, 5, 300])
@pytest.mark.parametrize(
    "state", [CallState.REPLYING, CallState.CONFIRMING, CallState.COMPLETE, CallState.FAILED]
)
def test_server_calls_that_did_not_wait_for_their_request(
    state: CallState, kind: PacketType, seq: int
) -> None:
    pair, call = server_in(state, early=True)
    check(pair, call, lambda: send(pair, call, kind, seq=seq, body=BODIES.get(kind, b"")), kind)
    assert pair.server.context.buffered <= 1, "nothing is kept but what is out of order"
    pair.run_for(200.0)
    assert pair.server.context.buffered == 0


@settings(max_examples=150)
@given(
    role=st.sampled_from(["client", "server", "early server"]),
    state=st.sampled_from([*CLIENT_STATES, *SERVER_STATES]),
    story=st.lists(
        st.tuples(
            st.sampled_from(PacketType),
            st.integers(0, 6) | st.integers(0, 0xFFFFFFFF),
            st.integers(0, 255),
            st.binary(max_size=40),
        ),
        max_size=12,
    ),
)
def test_any_story(
    role: str, state: CallState, story: list[tuple[PacketType, int, int, bytes]]
) -> None:
    """Whatever packets say, the call moves along arrows, and the core does not raise."""
    if state not in (CLIENT_STATES if role == "client" else SERVER_STATES):
        return
    if role == "client":
        pair, call = client_in(state)
    else:
        early = role == "early server" and state is not CallState.SERVING
        pair, call = server_in(state, early=early)
    for kind, seq, flags, body in story:
        flags &= ~1
        check(
            pair,
            call,
            lambda kind=kind, seq=seq, flags=flags, body=body: send(  # type: ignore[misc]
                pair, call, kind, seq=seq, flags=flags, body=body
            ),
            kind,
        )
    pair.run_for(200.0)
    assert call.state in OVER
    pair.run_for(1000.0)
    for core in (pair.client, pair.server):
        statistics = core.statistics(pair.now)
        assert statistics.active_calls == statistics.server_calls == statistics.buffered == 0
        assert not core.context.routes


@pytest.mark.parametrize("kind", PacketType)
def test_a_call_without_a_channel_listens_to_nothing(kind: PacketType) -> None:
    """No packet can name it; should one be given to it all the same, it has no effect."""
    pair = Pair()
    pair.on_server = silent
    calls = [pair.call(b"first") for _ in range(2)]  # the second waits for the first's answer
    pair.collect()
    call = calls[1]
    assert call.state is CallState.WAITING
    header = Header(1, 4, 1, 1, 1, kind, 0, 0, 0, 0, SERVICE)
    call.receive(header, BODIES.get(kind, b""), pair.now)
    assert call.state is CallState.WAITING
    assert pair.client_trace.drops[DropReason.WRONG_STATE] == 1


@pytest.mark.parametrize("state", [*CLIENT_STATES, *SERVER_STATES])
def test_types_that_there_are_not(state: CallState) -> None:
    pair, call = (client_in if state in CLIENT_STATES[:3] else server_in)(state)
    trace = pair.client_trace if call.is_client else pair.server_trace
    numbers = sorted(set(range(256)) - set(map(int, PacketType)))
    for number in numbers:
        send(pair, call, cast("PacketType", number), body=bytes(40))
    assert call.state is state
    assert trace.drops[DropReason.MALFORMED] == len(numbers)


def test_no_state_is_left_out() -> None:
    """A new state of a call has to be put where these tests make it."""
    assert set(CLIENT_STATES) | set(SERVER_STATES) | {CallState.WAITING} == set(CallState)
    ours = {CallState.WAITING}  # where calls of each role can get from here on
    for _ in CallState:
        ours |= {after for state in ours for after in TRANSITIONS[state]}
    assert ours == set(CallState)


def test_the_tables_are_complete() -> None:
    assert set(ACCEPTS) == set(TRANSITIONS) == set(CallState)
    for state in OVER:
        assert not TRANSITIONS[state]
