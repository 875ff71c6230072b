"""Packets in the name of a peer by somebody who sees nothing of what we send, at our services."""

import pytest

from rxrpc.core.parameters import Parameters
from rxrpc.core.peer import Peer
from rxrpc.trace import DropReason
from rxrpc.wire.ack import Ack, AckReason, AckTrailer
from rxrpc.wire.packet import CLIENT_INITIATED, HEADER, LAST_PACKET, PacketType
from tests.pair.world import CLIENT, SERVER, SERVICE, Pair

CID = 0x4000
SMALL = AckTrailer(508, 508, 255, 1)


class Blind:
    """Writes the server's address into what he sends to its client, which has a service, too."""

    def __init__(self) -> None:
        self.pair = Pair(client=Parameters())
        self.pair.client.services.add(next(iter(self.pair.server.services._entries.values())))
        self.pair.finish(self.pair.call(b"the server is known, and its address proven"))
        self.serial = 0

    @property
    def peer(self) -> Peer:
        return self.pair.client._peers[SERVER]

    def shown(self) -> int:
        """Calls of his that our service was shown."""
        context = self.pair.client.context
        return sum(call.context is context for call in self.pair.incoming)

    def send(
        self, kind: PacketType, body: bytes, *, seq: int = 0, flags: int = 0, cid: int = CID
    ) -> None:
        self.serial += 1
        header = HEADER.pack(
            1, cid, 1, seq, self.serial, kind, flags | CLIENT_INITIATED, 0, 0, 0, SERVICE
        )
        self.pair.client.receive_datagram(header + body, SERVER, self.pair.now)
        self.pair.collect()


def test_he_cannot_answer_a_ping() -> None:
    blind = Blind()
    blind.pair.now += 100.0  # the proof of the address is no longer good
    blind.send(PacketType.DATA, b"forged", seq=1, flags=LAST_PACKET)
    for serial in range(100):
        blind.send(PacketType.ACK, Ack(1, 0, serial, AckReason.PING_RESPONSE).build())
    assert not blind.peer.is_reached(blind.pair.now)
    assert blind.pair.client.admission.unproven == 1
    assert not blind.shown()


def test_he_cannot_make_our_packets_small() -> None:
    blind = Blind()
    before = blind.peer.mtu
    blind.send(PacketType.DATA, b"forged", seq=1)
    for reason in (AckReason.PING, AckReason.IDLE):
        for serial in range(100):
            blind.send(PacketType.ACK, Ack(1, 0, serial, reason, trailer=SMALL).build())
    assert blind.peer.mtu == before


def test_he_cannot_make_a_line_look_bad() -> None:
    blind = Blind()
    for seq in range(1, 250, 6):
        blind.send(PacketType.DATA, b"forged", seq=seq)
    assert not blind.peer.losses.seen(blind.pair.now)


def test_he_gets_no_more_acks_than_he_sends_packets() -> None:
    """One packet behind a hole brought the server 31 ACKs of 314 bytes."""
    blind = Blind()
    pair = blind.pair
    before = len(pair.log)
    blind.send(PacketType.DATA, b"x", seq=1)
    blind.send(PacketType.DATA, b"forged", seq=250)
    pair.run_for(10.0)
    acks = [each for each in pair.log[before:] if each.header.type is PacketType.ACK]
    assert len(acks) <= 4, "of them two are pings"


def test_he_cannot_keep_out_the_calls_of_whose_address_he_has() -> None:
    blind = Blind()
    pair = blind.pair
    entry = next(iter(pair.client.services._entries.values()))
    entry.whole = True
    for number in range(1000):
        blind.send(PacketType.DATA, b"to be continued", seq=1, cid=number * 4)
    assert pair.client.admission.calls <= pair.client.parameters.max_unproven_calls
    assert not blind.shown()
    for number in range(1000, 1032):
        blind.send(PacketType.DATA, b"whole", seq=1, flags=LAST_PACKET, cid=number * 4)
    assert blind.shown() == 32
    assert not pair.client_trace.drops[DropReason.TOO_MANY]


@pytest.mark.parametrize("seed", range(3))
def test_a_client_that_hears_us_can(seed: int) -> None:
    pair = Pair(seed=seed)
    assert pair.finish(pair.call(b"question")) == b"question"
    assert pair.server._peers[CLIENT].is_reached(pair.now)
