"""Jumbo datagrams."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxrpc.errors import ParseError
from rxrpc.wire.jumbo import PART_SIZE, Part, join, split
from rxrpc.wire.packet import JUMBO, LAST_PACKET, REQUEST_ACK

checksums = st.integers(0, 0xFFFF)
payloads = st.integers(0, 255).map(lambda byte: bytes([byte]) * PART_SIZE)
inner = st.builds(Part, st.sampled_from([JUMBO, JUMBO | REQUEST_ACK]), checksums, payloads)
final = st.builds(
    Part, st.sampled_from([0, LAST_PACKET, REQUEST_ACK]), checksums, st.binary(max_size=100)
)
datagrams = st.builds(lambda parts, last: [*parts, last], st.lists(inner, max_size=6), final)


@given(datagrams)
def test_split_undoes_join(parts: list[Part]) -> None:
    assert split(*join(parts)) == parts


@given(datagrams, st.data())
def test_a_part_is_never_short(parts: list[Part], data: st.DataObject) -> None:
    flags, checksum, payload = join(parts)
    cut = data.draw(st.integers(0, len(payload)))
    try:
        got = split(flags, checksum, payload[:cut])
    except ParseError:
        return
    assert all(len(part.payload) == PART_SIZE for part in got[:-1])


@given(st.integers(0, 255), checksums, st.binary(max_size=4000))
def test_anything_else_is_a_parse_error(flags: int, checksum: int, payload: bytes) -> None:
    try:
        parts = split(flags, checksum, payload)
    except ParseError:
        return
    assert sum(len(part.payload) + 4 for part in parts) - 4 == len(payload)


def test_a_plain_datagram_may_have_any_size() -> None:
    assert split(0, 7, bytes(5000)) == [Part(0, 7, bytes(5000))]


def test_nothing_follows_the_last_packet() -> None:
    with pytest.raises(ParseError, match="follows the last"):
        split(JUMBO | LAST_PACKET, 0, bytes(2 * PART_SIZE))


def test_the_last_packet_of_a_jumbo_datagram_is_not_larger_than_the_others() -> None:
    flags, checksum, payload = join([Part(JUMBO, 0, bytes(PART_SIZE)), Part(0, 0, b"")])
    assert len(split(flags, checksum, payload + bytes(PART_SIZE))) == 2
    with pytest.raises(ParseError, match="in the last packet"):
        split(flags, checksum, payload + bytes(PART_SIZE + 1))
