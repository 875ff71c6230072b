"""Connections that we open."""

from rxrpc.trace import DropReason
from rxrpc.wire.packet import PacketType
from tests.pair.world import (
    CLIENT,
    NO_REACH_CHECK,
    Pair,
    silent,
)


def test_epoch_and_cid_look_as_openafs_makes_them() -> None:
    pair = Pair()
    assert pair.client.epoch & 0xC000_0000 == 0x8000_0000
    other = Pair(seed=5)
    assert pair.client.epoch != other.client.epoch


def test_cids_wrap() -> None:
    pair = Pair()
    pair.client._next_cid = 0xFFFF_FFFC
    pair.finish(pair.call(b"last cid"))
    for connection in list(pair.bundle().connections):
        connection.abort(-6, pair.now)
    pair.finish(pair.call(b"first cid"))
    assert pair.bundle().connections[0].cid == 0
    pair.client._next_cid = 0
    pair.on_server = silent
    for _ in range(5):
        pair.call(b"more than four")
    assert [connection.cid for connection in pair.bundle().connections] == [0, 4]


def test_packets_of_an_earlier_call_are_dropped() -> None:
    pair = Pair(server=NO_REACH_CHECK)
    pair.finish(pair.call(b"one"))
    old = list(pair.log)
    pair.finish(pair.call(b"two"))
    for datagram in old:
        pair.deliver(datagram)
    assert pair.client_trace.drops[DropReason.OLD_CALL] == 1
    assert pair.server_trace.drops[DropReason.OLD_CALL] == 2
    assert len(pair.incoming) == 2


def test_a_server_that_missed_every_ack_is_told_as_long_as_the_connection_lives() -> None:
    pair = Pair(server=NO_REACH_CHECK)
    pair.mangle = lambda d: () if d.source == CLIENT and d.header.type is PacketType.ACK else (d,)
    pair.finish(pair.call(bytes(5000)))
    pair.run_for(5.0)
    call = pair.incoming[0]
    assert not call.confirmed
    assert pair.client.statistics(pair.now).active_calls == 0
    pair.mangle = lambda datagram: (datagram,)
    pair.run(lambda: call.over)
    assert call.confirmed


def test_nothing_is_said_of_a_call_that_failed_or_of_what_was_never_sent() -> None:
    pair = Pair(server=NO_REACH_CHECK)
    pair.finish(pair.call(b"fine"))
    reply = next(d for d in pair.log if d.source != CLIENT)
    pair.run_for(5.0)
    before = len(pair.log)
    for header in (
        reply.header._replace(seq=9),
        reply.header._replace(type=PacketType.ACK),
        reply.header._replace(call_number=2),
        reply.header._replace(cid=reply.header.cid + 1),
    ):
        pair.client.receive_datagram(header.build() + reply.body, reply.source, pair.now)
    pair.on_server = silent
    failing = pair.call(b"next")
    pair.run_for(1.0)
    failing.abort(5, pair.now)
    pair.run_for(5.0)
    late = reply.header._replace(call_number=failing.number)
    pair.client.receive_datagram(late.build() + reply.body, reply.source, pair.now)
    pair.run_for(1.0)
    acks = [d for d in pair.log[before:] if d.source == CLIENT]
    assert {d.header.type for d in acks} == {PacketType.DATA, PacketType.ABORT}
    assert pair.client_trace.drops[DropReason.UNKNOWN_CALL] == 5
