"""What is known of an address."""

import pytest

from rxrpc.core.context import Context
from rxrpc.core.parameters import Parameters
from rxrpc.core.peer import Peer
from rxrpc.core.timers import NEVER
from rxrpc.wire.ack import AckTrailer
from rxrpc.wire.packet import Header, PacketType

ADDRESS = ("192.0.2.1", 7000)


@pytest.fixture
def context() -> Context:
    return Context(Parameters(nat_interval=20.0, nat_time=100.0, min_mtu=508, send_mtu=1444))


@pytest.fixture
def peer(context: Context) -> Peer:
    return Peer(ADDRESS, context)


@pytest.mark.parametrize(
    ("max_mtu", "interface_mtu", "mtu"),
    [
        (1444, 1444, 1444),
        (1400, 1444, 1400),
        (5692, 1300, 1300),
        (65535, 0xFFFFFFFF, 1444),
        (27, 1444, 508),
        (0, 0, 508),
        (1444, 28, 508),
    ],
)
def test_sizes_that_a_peer_asks_for_are_bounded(
    peer: Peer, max_mtu: int, interface_mtu: int, mtu: int
) -> None:
    peer.learn_sizes(AckTrailer(max_mtu, interface_mtu))
    assert peer.mtu == mtu
    assert peer.payload_size == mtu - 28


def test_an_answer_that_nobody_asked_for_is_no_sign_of_life(peer: Peer) -> None:
    before = peer.heard
    peer.on_version(1000.0)
    assert peer.heard == before
    peer.question(1000.0)
    peer.on_version(1001.0)
    peer.on_version(1002.0)
    assert peer.heard == 1001.0


def test_the_network_may_ask_for_less_too(peer: Peer) -> None:
    assert peer.reduce_mtu(1200)
    assert not peer.reduce_mtu(1300)
    assert peer.reduce_mtu(10)
    assert peer.mtu == 508
    assert not peer.reduce_mtu(10)


def test_nats_are_kept_open_as_long_as_promises_last(peer: Peer, context: Context) -> None:
    assert peer.next_timer() == NEVER, "no call yet"
    peer.used = 1000.0
    assert peer.next_timer() == 1020.0
    peer.sent = 1010.0
    assert peer.next_timer() == 1030.0
    peer.on_timer(1030.0)
    ((data, address),) = context.outbox
    assert address == ADDRESS
    assert Header.parse(data)[0].type is PacketType.VERSION
    assert peer.next_timer() == 1050.0
    peer.sent = 1081.0
    assert peer.next_timer() == NEVER


def test_what_a_call_learnt_of_congestion_is_remembered_for_a_while(peer: Peer) -> None:
    assert peer.threshold(0.0) is None
    peer.remember_threshold(12, 100.0)
    assert peer.threshold(150.0) == 12
    assert peer.threshold(161.0) is None


def test_reach(peer: Peer) -> None:
    assert not peer.is_reached(0.0)
    peer.reached = 10.0
    assert peer.is_reached(69.0)
    assert not peer.is_reached(71.0)


def test_what_may_be_forgotten(peer: Peer) -> None:
    assert peer.is_forgettable(0.0)
    peer.heard = peer.used = 1000.0
    assert not peer.is_forgettable(1000.0 + 599.0)
    assert peer.is_forgettable(1000.0 + 601.0)
    peer.used = 1550.0
    assert not peer.is_forgettable(1601.0), "a NAT is kept open for it"
