"""What is sealed in calls to an authentication server: there and back, and whatever else comes."""

from __future__ import annotations

import contextlib
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afsfuse.interfaces.kauth import (
    BYTES_MAX,
    GRANTED_LABEL,
    KAA,
    NAME_MAX,
    TICKET_LABEL,
    Answer,
    Request,
    TicketAnswer,
    Times,
)
from rxrpc.errors import ParseError
from rxrpc.xdr import decode, encode

WORDS = st.integers(0, 0xFFFFFFFF)
NAMES = st.binary(max_size=NAME_MAX).map(lambda name: name.replace(b"\0", b"x"))
ANSWERS = st.builds(
    TicketAnswer,
    label=st.sampled_from([GRANTED_LABEL, TICKET_LABEL]),
    challenge=WORDS,
    session_key=st.binary(min_size=8, max_size=8),
    start=WORDS,
    end=WORDS,
    kvno=st.integers(0, 255),
    names=st.tuples(NAMES, NAMES, NAMES, NAMES, NAMES),
    ticket=st.binary(min_size=32, max_size=200),
    password_days=st.none() | st.integers(0, 255),
)
ANSWER = TicketAnswer(
    GRANTED_LABEL, 0x5EED, b"sessionk", 1000, 2000, 3, (b"alice", b"", b"", b"krbtgt", b"A.ORG"),
    b"t" * 32,
)  # fmt: skip


@given(ANSWERS)
def test_answers_survive(answer: TicketAnswer) -> None:
    clear = answer.build()
    assert len(clear) % 8 == 0
    assert TicketAnswer.parse(clear, answer.label) == answer


@given(WORDS, st.binary(min_size=4, max_size=4))
def test_requests_survive(time: int, label: bytes) -> None:
    assert Request.parse(Request(time, label).build()) == Request(time, label)


@given(WORDS, WORDS)
def test_times_survive(start: int, end: int) -> None:
    assert Times.parse(Times(start, end).build()) == Times(start, end)


def test_the_places_in_an_answer() -> None:
    """Source: struct ka_ticketAnswer in kautils.p.h."""
    clear = ANSWER.build()
    assert clear[:4] == bytes(4)
    assert clear[4:8] == b"\0\0\x5e\xed"
    assert clear[8:16] == b"sessionk"
    assert clear[16:32] == b"\0\0\x03\xe8\0\0\x07\xd0\0\0\0\x03\0\0\0\x20"
    assert clear[32:53] == b"alice\0\0\0krbtgt\0A.ORG\0"
    assert clear[53:].startswith(b"t" * 32 + b"tgsT")


@given(st.binary(max_size=400).map(lambda data: data[: len(data) // 8 * 8]) | st.binary())
def test_anything_at_all_is_an_answer_or_none(data: bytes) -> None:
    for parse in (Request.parse, Times.parse, lambda it: TicketAnswer.parse(it, TICKET_LABEL)):
        with contextlib.suppress(ParseError):
            parse(data)


@given(ANSWERS, st.data())
def test_no_byte_of_an_answer_does_harm(answer: TicketAnswer, data: st.DataObject) -> None:
    clear = bytearray(answer.build())
    at = data.draw(st.integers(0, len(clear) - 1))
    clear[at] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(ParseError):
        assert len(TicketAnswer.parse(bytes(clear), answer.label).ticket) <= len(clear)
    with contextlib.suppress(ParseError):
        TicketAnswer.parse(bytes(clear[:at]), answer.label)


@pytest.mark.parametrize(
    "clear",
    [
        b"",
        bytes(24),
        ANSWER.build()[:-1],
        ANSWER.build() + bytes(8 + 8),
        ANSWER.build().replace(b"tgsT", b"gtkt"),
        ANSWER.build()[:28] + bytes(4) + ANSWER.build()[32:],
        ANSWER.build()[:28] + b"\x7f\xff\xff\xff" + ANSWER.build()[32:],
        ANSWER.build()[:28] + b"\xff\xff\xff\xff" + ANSWER.build()[32:],
        ANSWER.build()[:32] + b"x" * 64 + ANSWER.build()[32:],
        ANSWER.build()[:32] + b"x" * 96,
    ],
)
def test_what_is_no_answer(clear: bytes) -> None:
    with pytest.raises(ParseError):
        TicketAnswer.parse(clear, GRANTED_LABEL)


def test_no_length_makes_us_take_much_memory() -> None:
    tracemalloc.start()
    try:
        for word in (b"\0\0\x08\x01", b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff"):
            with pytest.raises(ParseError):
                decode(Answer, word + word + bytes(100))
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def test_bytes_and_their_room_on_the_wire() -> None:
    """Source: xdr_ka_BBS in src/kauth/kaaux.c."""
    assert encode(Answer(12356, b"abc")) == b"\0\0\x30\x44\0\0\0\3abc\0"
    assert decode(Answer, encode(Answer(1, bytes(BYTES_MAX)))).data == bytes(BYTES_MAX)


def test_both_ways_to_authenticate_take_the_same() -> None:
    assert [(rpc.opcode, rpc.args) for rpc in KAA.rpcs] == [
        (21, KAA.rpcs[0].args), (22, KAA.rpcs[0].args),
    ]  # fmt: skip
