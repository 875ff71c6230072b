"""The small packets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxrpc.errors import ParseError
from rxrpc.wire.control import Abort, Version, keepalive_datagram
from rxrpc.wire.packet import Header, PacketType

codes = st.integers(-(2**31), 2**31 - 1)


@given(codes, st.binary(max_size=10))
def test_abort(code: int, behind: bytes) -> None:
    assert Abort.parse(Abort(code).build() + behind) == Abort(code)


@given(st.binary(max_size=3))
def test_a_short_abort_is_a_parse_error(body: bytes) -> None:
    with pytest.raises(ParseError):
        Abort.parse(body)


def test_a_code_that_does_not_fit_is_cut() -> None:
    assert Abort.parse(Abort(2**31 + 5).build()).code == 5 - 2**31


@given(st.binary(max_size=64).filter(lambda text: b"\0" not in text))
def test_version(text: bytes) -> None:
    body = Version(text).build()
    assert len(body) == 65
    assert body[len(text) :] == bytes(65 - len(text)), "nothing leaks behind the text"
    assert Version.parse(body) == Version(text)


@given(st.binary(max_size=200))
def test_any_version_body_can_be_read(body: bytes) -> None:
    assert len(Version.parse(body).text) <= 64


def test_the_keepalive_asks_for_no_answer() -> None:
    header, body = Header.parse(keepalive_datagram())
    assert header.type is PacketType.VERSION
    assert not header.from_client
    assert bytes(body) == b"\0"
