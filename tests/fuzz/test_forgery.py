"""Forged packets and responses at rxkad's auth and crypt: how many are taken for genuine.

The forger is given all that can be heard: epoch, connection, call and sequence numbers, and a
genuine packet with its checksum. He has not the session key. Short here; `make soak` makes the
full figure.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from rxrpc.errors import CallAborted, SecurityError
from rxrpc.security.base import ConnectionIdentity, PacketIdentity, SecurityLevel
from rxrpc.wire.packet import Header, PacketType
from tests.pair.rxkad_world import Realm
from tests.pair.world import CLIENT, SERVER, Flying

if TYPE_CHECKING:
    from collections.abc import Callable

    from rxrpc.security.rxkad import RxkadClientConnection

    Forged = tuple[int, int, int, int, bytes]  # cid, call number, seq, checksum, datagram
    Forger = Callable[[random.Random, "Heard"], Forged]

LEVELS = pytest.mark.parametrize(
    "level", [SecurityLevel.AUTH, SecurityLevel.CRYPT], ids=["auth", "crypt"]
)
TIMES = pytest.mark.parametrize(
    "times", [pytest.param(50_000, id="short"), pytest.param(10**6, marks=pytest.mark.soak)]
)
FEW = pytest.mark.parametrize(
    "times", [pytest.param(100, id="short"), pytest.param(10**4, marks=pytest.mark.soak)]
)
IDENTITY = ConnectionIdentity(0x5EED0001, 0x20, 1, 2)
PAYLOAD = b"status of a file".ljust(84, b".")
HEADER = bytes(28)  # not looked at: its numbers are arguments


class Heard:
    """A connection, and a packet of it that somebody listens to."""

    def __init__(self, level: SecurityLevel) -> None:
        self.client: RxkadClientConnection = Realm().client(level).connect(IDENTITY)
        self.packet = PacketIdentity(IDENTITY.cid | 1, 7, 1)
        self.body, self.checksum = self.client.protect(self.packet, PAYLOAD)

    @property
    def place(self) -> tuple[int, int, int]:
        return self.packet.cid, self.packet.call_number, self.packet.seq

    def takes(self, forged: Forged, sink: memoryview) -> bool:
        """Whether it passes for genuine."""
        cid, call, seq, checksum, datagram = forged
        try:
            return self.client.verify_into(cid, call, seq, checksum, datagram, sink, 0) >= 0
        except SecurityError:
            return False


def guessed(rng: random.Random, heard: Heard) -> Forged:
    """All of it is made up."""
    return *heard.place, rng.getrandbits(16), HEADER + rng.randbytes(len(heard.body))


def with_the_checksum(rng: random.Random, heard: Heard) -> Forged:
    """The checksum was heard; the body is made up."""
    return *heard.place, heard.checksum, HEADER + rng.randbytes(len(heard.body))


def with_another_beginning(rng: random.Random, heard: Heard) -> Forged:
    """A genuine packet with some bits of its first block turned."""
    first = int.from_bytes(heard.body[:8], "big") ^ rng.randrange(1, 1 << 64)
    return *heard.place, heard.checksum, HEADER + first.to_bytes(8, "big") + heard.body[8:]


def moved(rng: random.Random, heard: Heard) -> Forged:
    """A genuine packet with its checksum, in another place of its connection."""
    call, seq = rng.randrange(8, 1 << 20), rng.randrange(1, 1 << 16)
    return IDENTITY.cid | rng.randrange(4), call, seq, heard.checksum, HEADER + heard.body


def moved_cleverly(rng: random.Random, heard: Heard) -> Forged:
    """The same, to where the seal is right as well: only the checksum is left to be guessed."""
    call = rng.randrange(8, 1 << 16)
    seq = call ^ heard.packet.seq ^ heard.packet.call_number
    return heard.packet.cid, call, seq, rng.getrandbits(16), HEADER + heard.body


def count(forger: Forger, level: SecurityLevel, times: int) -> int:
    """How many of a forger's packets are taken."""
    heard = Heard(level)
    rng = random.Random(f"{forger.__name__} {level}")
    sink = memoryview(bytearray(1 << 16))
    genuine = (*heard.place, heard.checksum, HEADER + heard.body)
    assert heard.takes(genuine, sink), "what is not forged is taken"
    taken = sum(heard.takes(forger(rng, heard), sink) for _ in range(times))
    print(f"{forger.__name__} at {level.name}: {taken} of {times} taken")
    return taken


@TIMES
@LEVELS
@pytest.mark.parametrize(
    "forger", [guessed, with_the_checksum, with_another_beginning, moved], ids=lambda f: f.__name__
)
def test_no_forged_packet_is_taken(forger: Forger, level: SecurityLevel, times: int) -> None:
    assert count(forger, level, times) == 0


@TIMES
@LEVELS
def test_the_best_that_a_forger_can_do(level: SecurityLevel, times: int) -> None:
    """rxkad's own limit are 16 bits. A wrong guess ends the connection, so he has one for each."""
    taken = count(moved_cleverly, level, times)
    assert taken <= 8 + 2 * times / 65536


@FEW
@LEVELS
def test_a_forged_reply_before_the_genuine_one(level: SecurityLevel, times: int) -> None:
    """The whole protocol: a call ends with its reply or with an error, and with nothing else."""
    realm, rng = Realm(), random.Random(5)
    outcomes = {"genuine": 0, "refused": 0}
    for number in range(times):
        pair = realm.pair()
        call = pair.call(b"question %d" % number, security=realm.client(level))

        def race(datagram: Flying) -> list[Flying]:
            header = datagram.header
            if datagram.target != CLIENT or header.type is not PacketType.DATA:
                return [datagram]
            checksum = header.checksum if rng.random() < 0.5 else rng.getrandbits(16)
            body = rng.randbytes(len(datagram.body))
            forged = datagram.data[:24] + checksum.to_bytes(2, "big") + datagram.data[26:28] + body
            assert Header.parse(forged)[0].checksum == checksum
            return [Flying(forged, SERVER, CLIENT), datagram]

        pair.mangle = race
        try:
            assert pair.finish(call) == b"question %d" % number
            outcomes["genuine"] += 1
        except CallAborted:
            outcomes["refused"] += 1
    print(f"{level.name}: {outcomes}")
    assert outcomes["refused"] == times, "a packet with the right numbers ends its connection"


@FEW
def test_no_forged_response_is_taken(times: int) -> None:
    """A server that has heard a response to another challenge, and gets it with changes."""
    realm, rng = Realm(), random.Random(6)
    old = realm.server().accept(IDENTITY)
    heard = realm.client().connect(IDENTITY).respond(old.challenge(), (1, 2, 3, 4))
    assert heard is not None
    taken = 0
    fresh = realm.server()
    fresh.accept(IDENTITY)  # another challenge than the one that was answered
    for _ in range(times):
        server = fresh.accept(IDENTITY)
        forged = bytearray(heard)
        for _ in range(rng.randrange(4)):
            forged[rng.randrange(8, 48)] = rng.getrandbits(8)
        try:
            server.accept_response(bytes(forged))
        except SecurityError:
            continue
        taken += 1
    print(f"{taken} of {times} forged responses taken")
    assert taken == 0
