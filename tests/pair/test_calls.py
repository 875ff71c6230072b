"""Calls between two cores: what arrives, in how many packets, after which losses."""

import pytest

from rxrpc.core.states import CallState
from rxrpc.errors import CallAborted, CallTimeout
from rxrpc.trace import DropReason
from rxrpc.wire.ack import Ack, AckReason
from rxrpc.wire.packet import Header, PacketFlag, PacketType
from tests.pair.world import NO_REACH_CHECK, SERVER, SERVICE, Flying, Pair, drop_nth, silent


def acks(pair: Pair) -> list[Ack]:
    return [Ack.parse(d.body) for d in pair.log if d.header.type is PacketType.ACK]


def test_a_small_call_takes_two_packets() -> None:
    pair = Pair(server=NO_REACH_CHECK)
    call = pair.call(b"question")
    assert pair.finish(call) == b"question"
    # The reply asks for an ACK because the server has never measured a round trip.
    assert [d.header.type for d in pair.log] == [PacketType.DATA, PacketType.DATA, PacketType.ACK]


def test_the_reply_is_acknowledged_late_or_by_the_next_call() -> None:
    pair = Pair(server=NO_REACH_CHECK)
    first = pair.call(b"one")
    pair.finish(first)
    second = pair.call(b"two")
    pair.finish(second)
    assert second.connection is first.connection
    assert (first.number, second.number) == (1, 2)
    before = len(pair.log)
    pair.run_for(1.0)
    (late,) = [d for d in pair.log[before:] if d.header.type is PacketType.ACK]
    assert late.source != SERVER
    assert Ack.parse(late.body).reason == AckReason.DELAY
    assert all(call.state is CallState.COMPLETE for call in pair.incoming)


@pytest.mark.parametrize("size", [0, 1, 1416, 1417, 2832, 100_000])
def test_sizes_around_packet_borders(size: int) -> None:
    pair = Pair(server=NO_REACH_CHECK)
    request = bytes(i * 7 & 0xFF for i in range(size)) or b"x"
    assert pair.finish(pair.call(request)) == request


def test_reach_check_holds_the_call_until_the_ping_is_answered() -> None:
    pair = Pair()
    call = pair.call(b"question")
    pair.collect()
    pair.flush()
    pair.collect()
    (ping,) = [d for d in pair.wire if d.header.type is PacketType.ACK
               and Ack.parse(d.body).reason == AckReason.PING]  # fmt: skip
    assert not pair.incoming
    assert ping.header.flags & 2
    assert pair.finish(call) == b"question"
    second = pair.call(b"again")
    pair.finish(second)
    pings = [ack for ack in acks(pair) if ack.reason == AckReason.PING]
    assert len(pings) == 1, "reached once is enough for a minute"


def test_reach_check_asks_again_when_the_ping_is_lost() -> None:
    pair = Pair()
    pair.mangle = drop_nth(
        1, 2, where=lambda d: d.source == SERVER and d.header.type is PacketType.ACK
    )
    call = pair.call(b"question")
    assert pair.finish(call) == b"question"


@pytest.mark.parametrize("lost", range(1, 12))
def test_any_one_packet_may_be_lost(lost: int) -> None:
    pair = Pair()
    pair.mangle = drop_nth(lost)
    request = bytes(10_000)
    assert pair.finish(pair.call(request)) == request


@pytest.mark.parametrize("doubled", range(1, 12))
def test_any_one_packet_may_come_twice(doubled: int) -> None:
    pair = Pair()
    count = 0

    def mangle(datagram: Flying) -> list[Flying]:
        nonlocal count
        count += 1
        return [datagram] * (2 if count == doubled else 1)

    pair.mangle = mangle
    request = bytes(10_000)
    assert pair.finish(pair.call(request)) == request
    assert len(pair.incoming) == 1


def test_packets_in_reverse_order_are_put_in_order() -> None:
    pair = Pair(server=NO_REACH_CHECK)
    call = pair.call(bytes(range(256)) * 40)
    pair.collect()
    pair.wire.reverse()
    *first, last = pair.wire
    pair.wire = first
    pair.flush()
    pair.collect()
    (ack,) = acks(pair)
    assert (ack.reason, ack.first) == (AckReason.OUT_OF_SEQUENCE, 1)
    assert ack.acks == b"\0" + bytes([1] * 7)
    pair.wire.append(last)
    assert pair.finish(call) == bytes(range(256)) * 40


def test_a_lost_packet_is_sent_again_after_three_later_ones_without_a_timeout() -> None:
    pair = Pair(server=NO_REACH_CHECK)
    pair.finish(pair.call(b"to measure the round trip"))
    pair.mangle = drop_nth(2, where=lambda d: d.header.type is PacketType.DATA)
    start = pair.now
    call = pair.call(bytes(9 * 1416))
    pair.finish(call)
    assert pair.now - start < 0.1, "a timeout takes a quarter of a second at least"
    assert call.sending.timeouts == 0
    assert pair.client_trace.drops[DropReason.BAD_ACK] == 0


def test_the_lost_end_of_a_flight_is_probed() -> None:
    pair = Pair(server=NO_REACH_CHECK)
    pair.finish(pair.call(b"to measure the round trip"))
    pair.mangle = drop_nth(5, where=lambda d: d.header.type is PacketType.DATA)
    start = pair.now
    pair.finish(pair.call(bytes(5 * 1416)))
    assert pair.now - start < 0.25


@pytest.mark.parametrize("size", [10, 2000, 9000])
def test_a_reply_that_nothing_follows_is_not_probed_before_its_late_ack(size: int) -> None:
    pair = Pair()
    pair.finish(pair.call(bytes(size)))
    pair.run_for(1.0)
    assert pair.incoming[0].sending.resends == 0
    assert pair.client_trace.drops[DropReason.DUPLICATE] == 0


def test_an_abort_of_the_client_reaches_the_server_and_repeats_on_demand() -> None:
    pair = Pair(server=NO_REACH_CHECK)
    pair.on_server = silent
    call = pair.call(b"question")
    pair.run(lambda: bool(pair.incoming))
    call.abort(-6, pair.now, "not wanted any more")
    assert isinstance(call.error, CallAborted)
    assert not call.error.remote
    pair.run(lambda: pair.incoming[0].over)
    error = pair.incoming[0].error
    assert isinstance(error, CallAborted)
    assert (error.code, error.remote) == (-6, True)


def test_an_abort_of_the_server_reaches_the_client_even_when_lost_once() -> None:
    pair = Pair(server=NO_REACH_CHECK)
    pair.on_server = lambda program: program.call.abort(1234, pair.now)
    pair.mangle = drop_nth(1, where=lambda d: d.header.type is PacketType.ABORT)
    call = pair.call(b"question")
    with pytest.raises(CallAborted) as caught:
        pair.finish(call)
    assert (caught.value.code, caught.value.remote) == (1234, True)


def test_a_silent_peer_ends_the_call_in_the_dead_time() -> None:
    pair = Pair()
    pair.mangle = lambda datagram: ()
    start = pair.now
    call = pair.call(b"anybody there?")
    with pytest.raises(CallTimeout, match="dead peer"):
        pair.finish(call)
    assert pair.now - start == pytest.approx(20.0, abs=0.1)


NONSENSE = {
    "an ack of what was never sent": (PacketType.ACK, 0, Ack(900, 0, 0, AckReason.PING)),
    "a table of what was never sent": (PacketType.ACK, 0, Ack(1, 0, 0, AckReason.PING, b"\1" * 99)),
    "a reply behind its end": (PacketType.DATA, 7, None),
}


@pytest.mark.parametrize("kind", NONSENSE)
def test_nonsense_does_not_keep_a_call_alive(kind: str) -> None:
    """Nothing but such comes any more, from the right address and with the right numbers."""
    pair = Pair(server=NO_REACH_CHECK)
    pair.on_server = silent
    call = pair.call(b"question")
    pair.run(lambda: bool(pair.incoming))
    pair.incoming[0].write(bytes(3000))
    pair.run(lambda: call.state is CallState.RECEIVING)
    pair.mangle = lambda datagram: ()
    connection = call.connection
    assert connection is not None
    packet_type, seq, ack = NONSENSE[kind]

    def send(kind: PacketType, seq: int, flags: int, body: bytes) -> None:
        header = Header(
            connection.epoch, connection.cid, 1, seq, 900, kind, flags, 0, 0, 0, SERVICE
        )
        pair.client.receive_datagram(header.build() + body, SERVER, pair.now)

    if ack is None:  # the packet before the last is still missing: the call goes on
        send(PacketType.DATA, 5, PacketFlag.LAST_PACKET, b"end")
    start, spent = pair.now, 0
    while not call.over and pair.now < start + 100.0:
        send(packet_type, seq, 0, ack.build() if ack else b"beyond")
        pair.run_for(1.0)
        spent += 1
    assert isinstance(call.error, CallTimeout)
    assert call.error.what == "dead peer"
    assert spent <= 22
    reason = DropReason.BEYOND_END if ack is None else DropReason.BAD_ACK
    assert pair.client_trace.drops[reason] >= spent - 1


def test_a_peer_in_doubt_keeps_what_it_knows_and_loses_the_rest() -> None:
    pair = Pair(server=NO_REACH_CHECK)
    pair.on_server = silent
    call = pair.call(b"question")
    pair.run_for(1.0)
    pair.client.doubt(SERVER, pair.now)
    pair.run_for(5.0)
    assert call.state is CallState.AWAITING  # it has answered pings
    pair.mangle = lambda datagram: ()
    pair.client.doubt(SERVER, pair.now)
    pair.run(lambda: call.over, limit=4.0)
    assert isinstance(call.error, CallTimeout)
    assert call.error.what == "forgotten"


def test_a_slow_service_is_kept_alive_by_pings() -> None:
    pair = Pair()
    pair.on_server = silent
    call = pair.call(b"take your time")
    pair.run_for(100.0)
    assert not call.over
    pings = [ack for ack in acks(pair) if ack.reason == AckReason.PING]
    assert len(pings) > 20
    with pytest.raises(CallTimeout, match="idle"):
        pair.finish(call)


def test_the_server_forgets_a_client_that_is_gone() -> None:
    pair = Pair()
    pair.on_server = silent
    pair.call(b"question")
    pair.run(lambda: bool(pair.incoming))
    pair.mangle = lambda datagram: ()
    pair.run_for(30.0)
    assert isinstance(pair.incoming[0].error, CallTimeout)
    assert pair.server.admission.calls == 0
