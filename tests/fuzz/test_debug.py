"""DEBUG packets with anything in them: answered within bounds or dropped, and read or refused."""

import contextlib
import random

import pytest

from rxrpc.core.parameters import Parameters
from rxrpc.errors import ParseError
from rxrpc.wire.debug import (
    LARGEST_ANSWER,
    BasicAnswer,
    ConnectionAnswer,
    DebugQuestion,
    DebugRequest,
    PeerAnswer,
    StatisticsAnswer,
)
from rxrpc.wire.packet import HEADER, HEADER_SIZE, Address, PacketType
from tests.pair.world import Pair, silent

ANSWERS = (BasicAnswer, ConnectionAnswer, PeerAnswer, StatisticsAnswer)
SECONDS = 20


def question(rng: random.Random) -> bytes:
    """A DEBUG packet that is right, nearly right, or not at all."""
    header = HEADER.pack(
        rng.choice([999, rng.getrandbits(32)]), rng.getrandbits(32), rng.getrandbits(32),
        rng.getrandbits(32), rng.getrandbits(32), PacketType.DEBUG, rng.choice([5, 1, 0, 255]),
        rng.randrange(256), rng.randrange(256), rng.randrange(65536), rng.randrange(65536),
    )  # fmt: skip
    kind = rng.choice([*DebugQuestion, rng.randrange(-(2**31), 2**31)])
    index = rng.choice([0, 1, rng.randrange(-(2**31), 2**31)])
    body = DebugRequest(kind, index).build(rng.choice([0, 0, 0, 100, LARGEST_ANSWER]))
    return header + body[: rng.choice([len(body), rng.randrange(len(body) + 1)])]


@pytest.mark.parametrize("seed", range(4))
def test_hostile_questions(seed: int) -> None:
    """No question raises or leaves anything, and nobody is sent more than the bounds say."""
    rng = random.Random(seed)
    parameters = Parameters(check_reach=False)
    pair = Pair(server=parameters)
    pair.on_server = silent
    for number in range(6):
        pair.call(bytes(100 * number))
    pair.run(lambda: len(pair.incoming) >= 4)
    start = pair.now
    peers = len(pair.server.snapshot(start).peers)
    surplus: dict[Address, int] = {}
    answers = 0
    while pair.now < start + SECONDS:
        pair.now += 0.004
        address = (f"198.51.100.{rng.randrange(256)}", rng.randrange(65536))
        datagram = question(rng)
        pair.server.receive_datagram(datagram, address, pair.now)
        for data, target in pair.server.datagrams_to_send(pair.now):
            if target == address:
                answers += 1
                more = max(len(data) - len(datagram), 0)
                surplus[target] = surplus.get(target, 0) + more
    assert 0 < answers <= parameters.debug_answers_per_second * (SECONDS + 1)
    assert sum(surplus.values()) <= parameters.debug_stranger_bytes * (SECONDS + 1)
    assert len(pair.server.snapshot(pair.now).peers) == peers


@pytest.mark.parametrize("cls", [*ANSWERS, DebugRequest])
def test_any_bytes_are_an_answer_or_none(cls: type[DebugRequest]) -> None:
    rng = random.Random(cls.__name__)
    for _ in range(3000):
        data = rng.randbytes(rng.randrange(LARGEST_ANSWER + 20))
        with contextlib.suppress(ParseError):
            value = cls.parse(data)
            assert cls.parse(value.build()) == value


def test_questions_to_a_live_endpoint_do_not_disturb_its_calls() -> None:
    rng = random.Random(9)
    pair = Pair()
    for number in range(1, 200):
        call = pair.call(bytes(number * 50))
        for _ in range(5):
            pair.server.receive_datagram(question(rng), ("127.0.0.1", 5), pair.now)
        assert pair.finish(call) == bytes(number * 50)
    assert all(len(flying.data) <= HEADER_SIZE + 1416 for flying in pair.log)
