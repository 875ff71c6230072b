"""The header of a packet."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxrpc.errors import ParseError
from rxrpc.wire.packet import HEADER_SIZE, Header, PacketFlag, PacketType

u32 = st.integers(0, 0xFFFF_FFFF)
u16 = st.integers(0, 0xFFFF)
u8 = st.integers(0, 0xFF)
headers = st.builds(
    Header, u32, u32, u32, u32, u32, st.sampled_from(PacketType), u8, u8, u8, u16, u16
)


@given(headers, st.binary(max_size=50))
def test_parse_undoes_build(header: Header, body: bytes) -> None:
    parsed, rest = Header.parse(header.build() + body)
    assert parsed == header
    assert parsed.type is header.type
    assert bytes(rest) == body


@given(st.binary(max_size=60))
def test_anything_else_is_a_parse_error(data: bytes) -> None:
    try:
        header, _ = Header.parse(data)
    except ParseError:
        return
    assert header.build() == data[:HEADER_SIZE]


@given(headers, st.integers(0, HEADER_SIZE - 1))
def test_a_short_header_is_a_parse_error(header: Header, size: int) -> None:
    with pytest.raises(ParseError, match="short header"):
        Header.parse(header.build()[:size])


def test_layout_as_on_the_wire() -> None:
    header = Header(
        0x80000001, 0x02030406, 7, 8, 9, PacketType.DATA,
        PacketFlag.CLIENT_INITIATED | PacketFlag.LAST_PACKET, 1, 2, 0x0304, 0x0506,
    )  # fmt: skip
    assert header.build().hex() == ("80000001020304060000000700000008000000090105010203040506")
    assert header.from_client
    assert header.channel == 2
    assert str(header) == "DATA cid=02030406 call=7 seq=8 serial=9 flags=0x05"


def test_unknown_flags_survive_and_unknown_types_do_not() -> None:
    known = Header(1, 2, 3, 4, 5, PacketType.ACK, 0xD4, 0, 0, 0, 0).build()
    assert Header.parse(known)[0].flags == 0xD4
    for number in {0, 10, 11, 12, 14, 255}:
        with pytest.raises(ParseError, match="unknown packet type"):
            Header.parse(known[:20] + bytes([number]) + known[21:])
