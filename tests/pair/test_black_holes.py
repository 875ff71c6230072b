"""Ways on which large datagrams vanish without a word, and peers that answer with nonsense."""

from __future__ import annotations

from math import inf

import pytest

from rxrpc.core.clocks import CallTimeouts
from rxrpc.core.parameters import Parameters
from rxrpc.errors import CallTimeout
from rxrpc.trace import DropReason
from rxrpc.wire.ack import AckReason, build_ack
from rxrpc.wire.packet import Header, PacketFlag, PacketType
from tests.pair.world import CLIENT, NO_REACH_CHECK, SERVER, Flying, Pair, silent

SAFE = Parameters().safe_mtu
STALL = CallTimeouts(stall=6.0)
BOUND = 10.0  # seconds in which such a way is to be found out


def swallow_large(pair: Pair, source: tuple[str, int]) -> None:
    """Nothing over the safe size gets through from one side."""
    pair.mangle = lambda d: () if d.source == source and len(d.data) > SAFE else (d,)


def sizes(pair: Pair, source: tuple[str, int], since: int) -> list[int]:
    return [len(d.data) for d in pair.log[since:] if d.source == source]


def fail_too_large(pair: Pair, request: bytes) -> None:
    """A call finds out about the way."""
    start = pair.now
    with pytest.raises(CallTimeout, match="too large"):
        pair.finish(pair.call(request, timeouts=STALL))
    assert pair.now - start < BOUND


def test_requests_that_a_way_swallows_are_made_again_in_smaller_packets() -> None:
    pair = Pair(server=NO_REACH_CHECK)
    pair.finish(pair.call(b"small"))
    swallow_large(pair, CLIENT)
    fail_too_large(pair, bytes(20_000))
    since = len(pair.log)
    assert pair.finish(pair.call(bytes(20_000), timeouts=STALL), limit=2.0) == bytes(20_000)
    assert max(sizes(pair, CLIENT, since)) == SAFE
    pair.run_for(pair.client.parameters.narrow_time)
    pair.mangle = lambda d: (d,)
    since = len(pair.log)
    pair.finish(pair.call(bytes(20_000)))
    assert max(sizes(pair, CLIENT, since)) == 1444, "it was not tried again"


def test_the_way_changes_in_the_middle_of_a_request() -> None:
    pair = Pair(server=NO_REACH_CHECK)
    call = pair.call(bytes(100_000), finish=False, timeouts=STALL)
    pair.run_for(1.0)
    swallow_large(pair, CLIENT)
    start = pair.now
    call.write(bytes(100_000))
    with pytest.raises(CallTimeout, match="too large"):
        pair.finish(call)
    assert pair.now - start < BOUND


def test_replies_that_a_way_swallows_are_asked_for_in_smaller_packets() -> None:
    pair = Pair(server=NO_REACH_CHECK)
    pair.finish(pair.call(b"small"))
    swallow_large(pair, SERVER)
    start = pair.now
    calls = [pair.call(bytes(20_000), timeouts=STALL) for _ in range(2)]
    pair.run(lambda: all(call.over for call in calls))
    assert [str(call.error) for call in calls] == ["call timed out: too large"] * 2
    assert pair.now - start < BOUND
    since = len(pair.log)
    assert pair.finish(pair.call(bytes(20_000), timeouts=STALL), limit=2.0) == bytes(20_000)
    assert max(sizes(pair, SERVER, since)) <= SAFE


def test_a_server_that_is_silent_or_slow_is_no_such_way() -> None:
    pair = Pair(server=NO_REACH_CHECK)
    pair.finish(pair.call(b"small"))
    pair.mangle = lambda d: ()
    call = pair.call(bytes(20_000), timeouts=STALL)
    with pytest.raises(CallTimeout, match="dead peer"):
        pair.finish(call)
    pair.mangle = lambda d: (d,)
    pair.on_server = silent
    slow = pair.call(b"a change, which must not be made twice", timeouts=CallTimeouts(stall=inf))
    pair.run_for(60.0)
    assert not slow.over


def test_acks_that_make_no_sense_do_not_keep_a_dead_call_alive() -> None:
    """Source of the defect: OpenAFS, "Avoid lastReceiveTime update for invalid ACKs" (2019)."""
    pair = Pair(server=NO_REACH_CHECK)
    pair.on_server = silent
    call = pair.call(b"question")
    pair.run_for(1.0)
    pair.mangle = lambda d: ()  # the server is gone; what comes is from somebody else
    connection = call.connection
    assert connection is not None
    start = pair.now
    serial = 1000
    while not call.over:
        serial += 1
        for first, table in ((99, b""), (0, b""), (2, b"\1" * 200), (3, b"\1")):
            body = build_ack(first, 1, serial, AckReason.PING_RESPONSE, table, b"")
            header = Header(
                connection.epoch, connection.cid | call.channel, call.number, 0, serial,
                PacketType.ACK, PacketFlag.NONE, 0, 0, 0, connection.service_id,
            )  # fmt: skip
            pair.deliver(Flying(header.build() + body, SERVER, CLIENT))
        pair.run_for(1.0)
        assert pair.now - start < 25.0
    assert str(call.error) == "call timed out: dead peer"
    assert pair.client_trace.drops[DropReason.BAD_ACK] >= 4 * 18
