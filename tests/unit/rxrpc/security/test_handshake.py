"""CHALLENGE and RESPONSE as bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxrpc.errors import ParseError
from rxrpc.security.base import ConnectionIdentity
from rxrpc.security.fcrypt import new_session
from rxrpc.security.handshake import Challenge, Response, SealedPart, build_response

KEY = bytes.fromhex("0123456789abcdef")
PLACE = ConnectionIdentity(0x80000001, 0x1230, 52, 2)
WORD = st.integers(0, 0xFFFFFFFF)


def response(nonce: int = 7, numbers: tuple[int, ...] = (1, 2, 3, 4), level: int = 2) -> bytes:
    session = new_session(KEY, 1, 4, 2, 2)
    challenge = Challenge(nonce, 0)
    return build_response(session, PLACE, numbers, challenge, level, 213, b"ticket" * 8)


@given(WORD, st.integers(0, 2))
def test_challenge(nonce: int, level: int) -> None:
    built = Challenge(nonce, level).build()
    assert len(built) == 16
    assert Challenge.parse(built) == Challenge(nonce, level)


@pytest.mark.parametrize("data", [b"", bytes(15), bytes(16), (1).to_bytes(4, "big") + bytes(12)])
def test_what_is_no_challenge(data: bytes) -> None:
    with pytest.raises(ParseError):
        Challenge.parse(data)


@given(WORD, st.tuples(WORD, WORD, WORD, WORD), st.integers(0, 2))
def test_response(nonce: int, numbers: tuple[int, ...], level: int) -> None:
    parsed = Response.parse(response(nonce, numbers, level))
    assert parsed.kvno == 213
    assert parsed.ticket == b"ticket" * 8
    sealed = parsed.unseal(new_session(KEY, 0, 0, 0, 2))
    assert sealed == SealedPart(PLACE.epoch, PLACE.cid, 2, numbers, (nonce + 1) & 0xFFFFFFFF, level)


@given(st.integers(0, 8 * 56 - 1))
def test_every_bit_of_the_head_counts(bit: int) -> None:
    """Even those outside of the encrypted part: the checksum is of them all."""
    data = bytearray(response())
    data[bit // 8] ^= 1 << bit % 8
    with pytest.raises(ParseError):
        Response.parse(bytes(data)).unseal(new_session(KEY, 0, 0, 0, 2))


def test_short_responses() -> None:
    whole = response()
    for size in (0, 55, 56, len(whole) - 1):
        with pytest.raises(ParseError):
            Response.parse(whole[:size])
    with pytest.raises(ParseError):
        Response.parse(whole).unseal(new_session(b"another!", 0, 0, 0, 2))
