"""The hot path of a call, and what both roles share."""

import random
from collections.abc import Iterator
from itertools import pairwise

import pytest

from rxrpc.core.client_call import ClientCall
from rxrpc.core.endpoint import EndpointCore
from rxrpc.core.events import CallChanged
from rxrpc.core.states import CallState
from rxrpc.trace import CountingTracer, DropReason, PacketReceived, PacketSent
from rxrpc.wire.ack import Ack, AckReason
from rxrpc.wire.packet import (
    HEADER,
    JUMBO,
    LAST_PACKET,
    MORE_PACKETS,
    REQUEST_ACK,
    Header,
    PacketType,
)
from rxrpc.wire.serial import add, before
from tests.pair.world import CLIENT, NO_REACH_CHECK, SERVER, SERVICE, Pair, Program


class Stream:
    """A client call whose reply has begun, and a server written by hand."""

    def __init__(self) -> None:
        self.pair = Pair(server=NO_REACH_CHECK)
        self.call: ClientCall = self.pair.call(b"give me")
        self.pair.collect()
        self.pair.wire.clear()
        self.serial = 100
        self.now = self.pair.now
        self.put(1, b"first", MORE_PACKETS)
        assert self.call.state is CallState.RECEIVING
        self.call.receiving.take_unread()
        self.core.datagrams_to_send(self.now)
        self.core.events()

    @property
    def core(self) -> EndpointCore:
        return self.pair.client

    def put(
        self,
        seq: int,
        payload: bytes,
        flags: int = MORE_PACKETS,
        *,
        kind: int = PacketType.DATA,
        address: tuple[str, int] = SERVER,
        security: int = 0,
        checksum: int = 0,
        service: int = SERVICE,
    ) -> bool:
        """A packet of the server; whether it took the fast path."""
        connection = self.call.connection
        assert connection is not None
        before = self.core._fast_packets
        self.serial += 1
        header = HEADER.pack(
            connection.epoch, connection.cid, self.call.number, seq, self.serial, kind, flags,
            0, security, checksum, service,
        )  # fmt: skip
        self.core.receive_datagram(header + payload, address, self.now)
        return self.core._fast_packets > before

    def acks(self) -> list[Ack]:
        return [Ack.parse(data[28:]) for data, _ in self.core.datagrams_to_send(self.now)]


@pytest.fixture
def stream() -> Stream:
    return Stream()


def woken(stream: Stream) -> bool:
    return any(isinstance(event, CallChanged) for event in stream.core.events())


def test_expected_packets_go_straight_into_the_buffers(stream: Stream) -> None:
    one, two = bytearray(8), bytearray(4)
    stream.call.receiving.read_into([memoryview(one), memoryview(two)])
    assert stream.put(2, b"abcd")
    assert stream.put(3, b"efgh")
    assert not woken(stream)
    assert stream.put(4, b"ijkl")
    assert woken(stream)
    assert one + two == b"abcdefghijkl"
    assert stream.put(5, b"x")
    assert stream.call.receiving.unread_bytes == 1, "there is no buffer for it"
    assert stream.call.receiving.bytes == 5 + 12 + 1
    assert [ack.first for ack in stream.acks()] == [6]


def test_a_packet_across_two_buffers(stream: Stream) -> None:
    one, two = bytearray(6), bytearray(10)
    stream.call.receiving.read_into([memoryview(one), memoryview(two)])
    assert stream.put(2, b"abcd")
    assert stream.put(3, b"efgh")
    assert stream.put(4, b"ijkl")
    assert one + two[:6] == b"abcdefghijkl"


@pytest.mark.parametrize(
    ("seq", "payload", "flags", "kind"),
    [
        (3, b"abcd", 0, PacketType.DATA),  # not the next
        (1, b"abcd", 0, PacketType.DATA),  # seen
        (2, b"", 0, PacketType.DATA),  # empty
        (2, b"abcd", JUMBO, PacketType.DATA),
        (2, b"abcd", 1, PacketType.DATA),  # of a client
        (2, b"abcd", 0, PacketType.ABORT),
    ],
)
def test_what_is_not_plain_goes_the_long_way(
    stream: Stream, seq: int, payload: bytes, flags: int, kind: PacketType
) -> None:
    stream.call.receiving.read_into([memoryview(bytearray(4))])
    assert not stream.put(seq, payload, flags, kind=kind)


def test_what_does_not_look_like_the_connection_goes_the_long_way(stream: Stream) -> None:
    assert not stream.put(2, b"abcd", security=2)
    assert not stream.put(2, b"abcd", service=3)
    assert stream.pair.client_trace.drops[DropReason.WRONG_SECURITY] == 1
    assert stream.pair.client_trace.drops[DropReason.WRONG_SERVICE] == 1
    assert stream.put(2, b"abcd", checksum=1), "means nothing where nothing is protected"
    assert stream.call.receiving.unread_bytes == 4, "null security does not look at it"


def test_a_short_reply_goes_the_short_way() -> None:
    stream = Stream()
    stream.core.events()
    assert stream.put(2, b"abc", REQUEST_ACK | MORE_PACKETS)
    assert [ack.reason for ack in stream.acks()] == [AckReason.REQUESTED]
    assert stream.put(3, b"def", LAST_PACKET | REQUEST_ACK)
    assert stream.call.state is CallState.COMPLETE
    assert woken(stream)
    assert b"".join(stream.call.receiving.take_unread()) == b"abcdef"
    assert stream.acks() == [], "the next call acknowledges it"
    assert not stream.put(3, b"def", LAST_PACKET), "a repetition goes the long way"
    assert [ack.reason for ack in stream.acks()] == [AckReason.DUPLICATE]


def test_what_is_refused_on_the_short_way_is_counted(stream: Stream) -> None:
    receiving = stream.call.receiving
    for seq in range(2, 2 + 255 + 64):
        assert stream.put(seq, b"x")
    assert receiving.unread_bytes == 255 + 64
    stream.put(2 + 255 + 64, b"x")
    assert receiving.unread_bytes == 255 + 64
    assert stream.pair.client_trace.drops[DropReason.BEYOND_WINDOW] == 1


def test_from_another_address_it_is_dropped(stream: Stream) -> None:
    stream.call.receiving.read_into([memoryview(bytearray(4))])
    assert not stream.put(2, b"abcd", address=("198.51.100.7", 7000))
    assert stream.pair.client_trace.drops[DropReason.UNKNOWN_CONNECTION] == 1
    assert stream.put(2, b"abcd")


def test_flags_that_do_not_matter_do_not_matter(stream: Stream) -> None:
    stream.call.receiving.read_into([memoryview(bytearray(100))])
    assert stream.put(2, b"abcd", REQUEST_ACK)
    assert stream.put(3, b"abcd", REQUEST_ACK | MORE_PACKETS)
    (ack,) = stream.acks()
    assert (ack.reason, ack.serial, ack.first, ack.previous) == (
        AckReason.REQUESTED,
        stream.serial - 1,
        4,
        3,
    )


def test_what_comes_too_early_goes_the_long_way(stream: Stream) -> None:
    sink = bytearray(100)
    stream.call.receiving.read_into([memoryview(sink)])
    assert not stream.put(3, b"ef")
    assert stream.put(2, b"abcd")
    assert stream.put(4, b"gh")
    assert sink[:8] == b"abcdefgh"


def test_the_fast_path_over_the_wrap_of_sequence_numbers(stream: Stream) -> None:
    receiving = stream.call.receiving
    receiving.next = receiving.delivered = add(0, -20)
    sink = bytearray(400)
    receiving.read_into([memoryview(sink)])
    firsts = []
    for number in range(40):
        assert stream.put(add(0, number - 20), bytes([number]) * 10)
        firsts += [ack.first for ack in stream.acks()]
    assert sink == b"".join(bytes([number]) * 10 for number in range(40))
    assert all(before(first, second) for first, second in pairwise(firsts))
    assert firsts[0] > 1 << 31
    assert firsts[-1] < 1 << 31


def test_the_peer_counts_as_heard_after_a_batch(stream: Stream) -> None:
    stream.call.receiving.read_into([memoryview(bytearray(100))])
    stream.now += 5
    stream.put(2, b"abcd")
    stream.core.datagrams_to_send(stream.now)
    assert stream.pair.bundle().peer.heard == stream.now


def test_a_tracer_that_wants_every_packet_gets_it() -> None:
    trace = CountingTracer(every_packet=True)
    pair = Pair(server=NO_REACH_CHECK)
    pair.client = EndpointCore(None, trace, random.Random(7))
    call = pair.call(bytes(10_000))
    assert pair.finish(call) == bytes(10_000)
    assert not pair.client.context.routes
    sent = sum(datagram.source == CLIENT for datagram in pair.log)
    assert trace.events[PacketSent] == sent
    assert trace.events[PacketReceived] >= 8


def writers(pair: Pair, call: ClientCall) -> Iterator[None]:
    """Write as long as there is room, as a program does."""
    for _ in range(100):
        while not call.room:
            yield
        call.write(bytes(20_000))
    call.finish()


def test_a_writer_waits_for_room() -> None:
    pair = Pair(server=NO_REACH_CHECK)
    got = 0

    def count(program: Program) -> None:
        nonlocal got
        program.step()
        got = len(program.received)

    pair.on_server = count
    call = pair.call(b"", finish=False)
    for _ in writers(pair, call):
        assert call.sending.queued <= 256 + 15
        pair.step()
    pair.run(lambda: got == 2_000_000)


def test_what_is_written_before_there_is_a_channel_is_bounded() -> None:
    pair = Pair()
    pair.call(b"takes the new connection")
    call = pair.call(b"", finish=False)
    assert call.state is CallState.WAITING
    assert call.room
    call.write(bytes(1412 * 256))
    assert not call.room


def test_ackall_acknowledges_all(stream: Stream) -> None:
    pair = stream.pair
    call = pair.call(bytes(5000), finish=False)
    pair.collect()
    connection = call.connection
    assert connection is not None
    header = Header(
        connection.epoch, connection.cid | call.channel, call.number, 0, 1, PacketType.ACKALL,
        0, 0, 0, 0, SERVICE,
    )  # fmt: skip
    pair.client.receive_datagram(header.build(), SERVER, pair.now)
    assert call.sending.queued == 0


def test_a_malformed_body_is_dropped(stream: Stream) -> None:
    assert not stream.put(0, b"short", 0, kind=PacketType.ACK)
    assert not stream.put(0, b"no", 0, kind=PacketType.ABORT)
    assert stream.pair.client_trace.drops[DropReason.MALFORMED] == 2
    assert not stream.call.over
