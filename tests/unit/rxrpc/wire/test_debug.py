"""DEBUG bodies: layouts, round trips, and nothing but zeros where nothing is said."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxrpc.errors import ParseError
from rxrpc.wire.debug import (
    CONNECTION_END,
    COUNTED_TYPES,
    LARGEST_ANSWER,
    PEER_END,
    BasicAnswer,
    ConnectionAnswer,
    DebugQuestion,
    DebugRequest,
    PeerAnswer,
    SecurityAnswer,
    StatisticsAnswer,
)

BYTE = st.integers(0, 0xFF)
SHORT = st.integers(0, 0xFFFF)
WORD = st.integers(0, 0xFFFF_FFFF)
LONG = st.integers(0, 2**64 - 1)
HOST = st.tuples(BYTE, BYTE, BYTE, BYTE).map(lambda octets: ".".join(map(str, octets)))
ADDRESS = st.tuples(HOST, SHORT)
BYTES = st.tuples(BYTE, BYTE, BYTE, BYTE)
COUNTS = st.tuples(*[WORD] * COUNTED_TYPES)
RTT = st.integers(0, 2**32 * 10**6 - 1)

basic = st.builds(BasicAnswer, WORD, WORD, WORD, BYTE, BYTE, BYTE, WORD, WORD, WORD, WORD)
security = st.builds(SecurityAnswer, BYTE, BYTE, *[WORD] * 6)
connection = st.builds(
    ConnectionAnswer, ADDRESS, WORD, WORD, st.tuples(*[WORD] * 4), WORD, BYTE, BYTE, BYTE,
    BYTES, BYTES, BYTES, BYTES, security, WORD, WORD,
)  # fmt: skip
peer = st.builds(
    PeerAnswer, ADDRESS, SHORT, WORD, SHORT, WORD, WORD, WORD, WORD, *[SHORT] * 8, LONG, LONG
)
statistics = st.builds(
    StatisticsAnswer, *[WORD] * 6, COUNTS, *[WORD] * 4, COUNTS, *[WORD] * 8, RTT, RTT, RTT,
    *[WORD] * 10,
)  # fmt: skip
SIZES = {BasicAnswer: 56, ConnectionAnswer: 176, PeerAnswer: 132, StatisticsAnswer: 284}
Answer = BasicAnswer | ConnectionAnswer | PeerAnswer | StatisticsAnswer


@given(basic | connection | peer | statistics)
def test_answers_survive_the_wire(answer: Answer) -> None:
    body = answer.build()
    assert len(body) == SIZES[type(answer)]
    assert type(answer).parse(body) == answer
    assert type(answer).parse(body + b"more") == answer


@pytest.mark.parametrize("kind", SIZES)
def test_short_answers_are_refused(kind: type[Answer]) -> None:
    for size in (0, 1, SIZES[kind] - 1):
        with pytest.raises(ParseError):
            kind.parse(bytes(size))


@given(st.integers(-(2**31), 2**31 - 1), st.integers(-(2**31), 2**31 - 1), st.binary(max_size=9))
def test_questions_survive_the_wire(question: int, index: int, padding: bytes) -> None:
    request = DebugRequest(question, index)
    assert DebugRequest.parse(request.build() + padding) == request
    assert len(request.build(LARGEST_ANSWER)) == LARGEST_ANSWER


def test_a_short_question_is_refused() -> None:
    with pytest.raises(ParseError):
        DebugRequest.parse(bytes(7))


def test_places_of_the_c_structures() -> None:
    """Offsets as a C compiler lays the structures of rx.h out."""
    security = SecurityAnswer(1, 2, 3, 4, 5, 6, 7, 8)
    body = ConnectionAnswer(
        ("1.2.3.4", 0x1122), 10, 11, (12, 13, 14, 15), 16, 17, 1, 2, (3, 3, 3, 3), (4, 4, 4, 4),
        (5, 5, 5, 5), (6, 6, 6, 6), security, 20, 21,
    ).build()  # fmt: skip
    assert body[:4] == bytes([1, 2, 3, 4])
    assert struct.unpack_from("!7I", body, 4) == (10, 11, 12, 13, 14, 15, 16)
    assert body[32:40] == bytes([0x11, 0x22, 17, 1, 2, 0, 0, 0])
    assert body[40:56] == bytes([3] * 4 + [4] * 4 + [5] * 4 + [6] * 4)
    assert body[56:68] == bytes([1, 2] + [0] * 10)
    assert struct.unpack_from("!6I", body, 68) == (3, 4, 5, 6, 7, 8)
    assert struct.unpack_from("!2I", body, 132) == (20, 21)
    assert not any(body[92:132])
    assert not any(body[140:])
    body = PeerAnswer(("9.8.7.6", 1), mtu=1444, bytes_sent=2**33).build()
    assert body[:6] == bytes([9, 8, 7, 6, 0, 1])
    assert struct.unpack_from("!H", body, 68) == (1444,)
    assert struct.unpack_from("!2I", body, 76) == (2, 0)


def test_a_bare_statistics_answer_is_all_zeros() -> None:
    assert not any(StatisticsAnswer().build())
    assert LARGEST_ANSWER == 284


def test_the_ends_of_lists() -> None:
    assert CONNECTION_END.is_end
    assert PEER_END.is_end
    assert ConnectionAnswer.parse(CONNECTION_END.build()).is_end
    assert PeerAnswer.parse(PEER_END.build()).is_end
    assert not PeerAnswer(("192.0.2.1", 7000)).is_end


def test_numbers_of_the_questions() -> None:
    assert [int(question) for question in DebugQuestion] == [1, 2, 3, 4, 5]
