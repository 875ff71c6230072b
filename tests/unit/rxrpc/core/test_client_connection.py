"""Connections that we open."""

from rxrpc.trace import DropReason
from tests.pair.world import (
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
