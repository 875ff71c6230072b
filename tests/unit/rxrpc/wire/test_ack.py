"""The body of an ACK packet."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxrpc.errors import ParseError
from rxrpc.wire.ack import ACK_SIZE, Ack, AckReason, AckTrailer, build_ack

u32 = st.integers(0, 0xFFFF_FFFF)
u16 = st.integers(0, 0xFFFF)
trailers = st.one_of(
    st.builds(AckTrailer, u32, u32),
    st.builds(AckTrailer, u32, u32, u32),
    st.builds(AckTrailer, u32, u32, u32, u32),
)
acks = st.builds(
    Ack,
    first=u32,
    previous=u32,
    serial=u32,
    reason=st.sampled_from(AckReason) | st.integers(0, 255),
    acks=st.lists(st.integers(0, 1), max_size=255).map(bytes),
    trailer=st.none() | trailers,
    buffer_space=u16,
    max_skew=u16,
)


@given(acks)
def test_parse_undoes_build(ack: Ack) -> None:
    body = ack.build()
    assert len(body) <= ACK_SIZE
    assert Ack.parse(body) == ack
    assert Ack.parse(memoryview(body)) == ack


@given(acks, st.data())
def test_a_truncated_table_is_a_parse_error(ack: Ack, data: st.DataObject) -> None:
    body = ack.build()
    size = data.draw(st.integers(0, 18 + len(ack.acks) - 1))
    with pytest.raises(ParseError):
        Ack.parse(body[:size])


@given(st.binary(max_size=400))
def test_anything_else_is_a_parse_error(body: bytes) -> None:
    try:
        ack = Ack.parse(body)
    except ParseError:
        return
    assert len(ack.acks) == body[17]


@given(acks, st.integers(0, 200))
def test_padding_behind_four_words_is_ignored(ack: Ack, size: int) -> None:
    if ack.trailer is not None and ack.trailer.jumbo_max is not None:
        assert Ack.parse(ack.build() + bytes(size)) == ack


def test_a_table_of_255_in_a_short_packet() -> None:
    body = bytearray(Ack(1, 0, 0, AckReason.IDLE).build())
    body[17] = 255
    with pytest.raises(ParseError, match="a table of 255, but 3 bytes"):
        Ack.parse(bytes(body))


def test_layout_as_on_the_wire() -> None:
    ack = Ack(0x11, 0x22, 0x33, AckReason.REQUESTED, b"\1\0", AckTrailer(1444, 1400, 32, 1))
    assert ack.build().hex() == (
        "0000000000000011000000220000003301020100000000000005a4000005780000002000000001"
    )


@given(acks)
def test_the_short_cut_builds_the_same(ack: Ack) -> None:
    trailer = ack.trailer.build() if ack.trailer else b""
    body = build_ack(ack.first, ack.previous, ack.serial, ack.reason, ack.acks, trailer)
    plain = Ack(ack.first, ack.previous, ack.serial, ack.reason, ack.acks, ack.trailer)
    assert body == plain.build()
