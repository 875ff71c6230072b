"""The strict reader of DER, and what writes it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxrpc.errors import ParseError
from rxrpc.security import der
from rxrpc.security.der import Der


@given(st.integers(-(2**31), 2**32 - 1), st.integers(0, 2**32), st.binary(max_size=70_000))
def test_round_trip(number: int, seconds: int, octets: bytes) -> None:
    built = der.build(
        der.SEQUENCE,
        der.build(der.field(0), der.build_integer(number)),
        der.build(der.field(1), der.build_time(seconds)),
        der.build(der.field(2), der.build(der.OCTETS, octets)),
    )
    whole = Der(built)
    body = whole.inside(der.SEQUENCE)
    whole.check_end()
    assert body.integer(0) == number
    assert body.time(1) == seconds
    body.skip(5)
    assert body.follows(der.field(2))
    assert body.value(2, der.OCTETS) == octets
    body.check_end()
    assert not body.follows(der.field(2))


def test_published_forms() -> None:
    """X.690, 8.1.3 and 8.3: lengths and integers; RFC 4120, 5.2.3: a time."""
    assert der.build(der.OCTETS, bytes(38))[:2] == bytes([4, 38])
    assert der.build(der.OCTETS, bytes(201))[:3] == bytes([4, 0x81, 201])
    assert der.build_integer(-128) == bytes([2, 2, 0xFF, 0x80])
    assert der.build_integer(127) == bytes([2, 1, 127])
    assert der.build_integer(128) == bytes([2, 2, 0, 128])
    assert der.parse_time(b"19851106210627Z") == 500159187


@pytest.mark.parametrize(
    "data",
    [
        "", "04", "0401", "0402aa", "0501aa",  # short, or another tag
        "04800000",  # of indefinite length
        "048101aa", "04820080" + "aa" * 128, "048500000000ff",  # not the shortest length
        "0484000000aa", "04ff",
    ],
)  # fmt: skip
def test_elements_that_are_none(data: str) -> None:
    with pytest.raises(ParseError):
        Der(bytes.fromhex(data)).take(der.OCTETS)


@pytest.mark.parametrize("data", ["a0020200", "a004020100aa", "a008020601000000 0000"])
def test_integers_that_are_none(data: str) -> None:
    with pytest.raises(ParseError):
        Der(bytes.fromhex(data)).integer(0)


@pytest.mark.parametrize(
    "text", [b"", b"20260101000000", b"20260101000000z", b"2026010100000+Z", b"20261301000000Z",
             b"20260101000060Z", b"00000101000000Z"],
)  # fmt: skip
def test_times_that_are_none(text: bytes) -> None:
    with pytest.raises(ParseError):
        der.parse_time(text)


def test_nothing_stands_beside_a_field() -> None:
    built = der.build(der.field(0), der.build_integer(1), der.build_integer(2))
    with pytest.raises(ParseError):
        Der(built).integer(0)
