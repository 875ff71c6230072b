"""What goes to somebody who may be another: no more than came in his name."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from rxrpc.core.endpoint import EndpointCore
from rxrpc.core.parameters import Parameters
from rxrpc.core.services import ServiceEntry
from rxrpc.security.null import NULL
from rxrpc.trace import CountingTracer, DropReason
from rxrpc.wire.ack import Ack, AckReason
from rxrpc.wire.packet import (
    CLIENT_INITIATED,
    HEADER,
    LAST_PACKET,
    REQUEST_ACK,
    Address,
    PacketType,
)
from tests.pair.rxkad_world import Realm
from tests.pair.world import SERVICE

PING = 49  # bytes that a stranger is sent for his first packet, if that has less
TEXTS = (PacketType.VERSION, PacketType.DEBUG)  # which have a bound of their own, in bytes a second


class Reflector:
    """An endpoint, and what came in whose name and went to whom."""

    def __init__(self, seed: int) -> None:
        self.now = 1000.0
        self.trace = CountingTracer()
        self.core = EndpointCore(Parameters(), self.trace, random.Random(seed))
        securities = (NULL, Realm().server())
        self.core.services.add(ServiceEntry(SERVICE, {each.index: each for each in securities}))
        self.came: Counter[Address] = Counter()
        self.went: Counter[Address] = Counter()
        self.texts = 0

    def send(self, data: bytes, address: Address) -> None:
        self.came[address] += len(data)
        self.core.receive_datagram(data, address, self.now)

    def flush(self) -> None:
        self.core.events()
        for data, address in self.core.datagrams_to_send(self.now):
            if data[20] in TEXTS:
                self.texts += len(data)
            else:
                self.went[address] += len(data)

    def wait(self, seconds: float) -> None:
        """Let all timers ring."""
        end = self.now + seconds
        while (due := self.core.deadline()) < end:
            self.now = max(self.now, due)
            self.flush()
        self.now = end
        self.flush()


def packet(
    kind: PacketType, body: bytes = b"", *, cid: int = 4, call: int = 1, seq: int = 1,
    flags: int = 0, security: int = 0,
) -> bytes:  # fmt: skip
    flags |= CLIENT_INITIATED
    return HEADER.pack(7, cid, call, seq, seq, kind, flags, 0, security, 0, SERVICE) + body


REQUESTS = {
    "nothing": b"",
    "an opcode": bytes(4),
    "a callback": bytes(36),
    "a state": bytes(48),
    "a full packet": bytes(1416),
}


@pytest.mark.parametrize("security", [0, 2], ids=["null", "rxkad"])
@pytest.mark.parametrize("flags", [0, REQUEST_ACK, LAST_PACKET, LAST_PACKET | REQUEST_ACK])
@pytest.mark.parametrize("body", REQUESTS.values(), ids=REQUESTS.keys())
def test_one_packet_is_answered_with_one_ping(body: bytes, flags: int, security: int) -> None:
    reflector = Reflector(1)
    data = packet(PacketType.DATA, body, flags=flags, security=security)
    reflector.send(data, ("198.51.100.1", 7000))
    reflector.flush()
    reflector.wait(2000.0)
    sent = sum(reflector.went.values())
    print(f"{len(data)} bytes in, {sent} out")
    assert 0 < sent <= max(len(data), PING)


@pytest.mark.parametrize("seed", range(3))
def test_no_mixture_of_packets_is_a_gain(seed: int) -> None:
    rng = random.Random(seed)
    print("seed", seed)
    reflector = Reflector(seed)
    cids: dict[Address, set[int]] = {}
    asks = Ack(1, 0, 0, AckReason.PING).build()
    for number in range(6000):
        address = (f"198.51.100.{rng.randrange(60)}", rng.choice([7000, 7001]))
        kind = rng.choice([PacketType.DATA, PacketType.DATA, *PacketType])
        cid = 4 * rng.randrange(3)
        body = rng.choice([b"", bytes(4), asks, rng.randbytes(rng.randrange(100)), bytes(1400)])
        if kind is PacketType.DATA:
            cids.setdefault(address, set()).add(cid)
        reflector.send(
            packet(
                kind, body, cid=cid | rng.randrange(4), call=rng.randrange(4),
                seq=rng.randrange(5), flags=rng.choice([0, REQUEST_ACK, LAST_PACKET, 8, 255]),
                security=rng.choice([0, 0, 2, 1]),
            ),
            address,
        )  # fmt: skip
        if number % 7 == 0:
            reflector.wait(rng.choice([0.001, 0.5, 5.0]))
    began = 1000.0
    reflector.wait(2000.0)
    came, went = sum(reflector.came.values()), sum(reflector.went.values())
    print(f"{came} bytes in, {went} out: {went / came:.3f}; {dict(reflector.trace.drops)}")
    assert went < came
    for address, sent in reflector.went.items():
        connections = len(cids.get(address, ())) * 2  # of each security class
        assert sent <= reflector.came[address] + PING * 100 * connections
    bound = Parameters().debug_stranger_bytes * (reflector.now - began + 1)
    assert reflector.texts <= came + bound
    assert reflector.trace.drops[DropReason.RATE_LIMITED] > 0, "what is withheld is counted"
