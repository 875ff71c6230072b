"""Cutting into packets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxrpc.core.packetizer import Packetizer
from rxrpc.errors import LocalError, MessageSizeError


@given(st.lists(st.binary(max_size=50)), st.integers(1, 20), st.integers(0, 5))
def test_all_full_but_the_last(writes: list[bytes], size: int, size_known_after: int) -> None:
    packetizer = Packetizer()
    packets: list[bytes] = []
    for number, data in enumerate(writes):
        if number == size_known_after:
            packetizer.size = size
        packetizer.write(data)
        for payload, last in packetizer.cut():
            assert not last
            packets.append(payload)
    assert all(len(packet) == size for packet in packets)
    packetizer.size = size
    packetizer.finish()
    rest = list(packetizer.cut())
    assert [last for _, last in rest] == [False] * (len(rest) - 1) + [True]
    packets += [payload for payload, _ in rest]
    assert b"".join(packets) == b"".join(writes)
    assert all(len(packet) == size for packet in packets[:-1])
    assert len(packets[-1]) <= size


def test_one_packet_stays_until_it_is_known_to_be_the_last() -> None:
    packetizer = Packetizer()
    packetizer.size = 4
    packetizer.write(b"abcd")
    assert list(packetizer.cut()) == []
    packetizer.write(b"e")
    assert list(packetizer.cut()) == [(b"abcd", False)]


def test_clear_and_the_bound() -> None:
    packetizer = Packetizer()
    packetizer.write(bytes(1412 * 2))
    assert packetizer.waits_for_more(3)
    assert not packetizer.waits_for_more(2)
    packetizer.clear()
    packetizer.size = 10
    packetizer.finish()
    assert list(packetizer.cut()) == [(b"", True)]


@given(st.lists(st.integers(0, 30)), st.integers(0, 100), st.integers(1, 20))
def test_what_was_announced_is_what_leaves(sizes: list[int], length: int, size: int) -> None:
    """Whatever is written, the packets are a part of the announced bytes, or exactly these."""
    packetizer = Packetizer()
    packetizer.size = size
    packetizer.expect(length)
    packets = list(packetizer.cut())
    written = b""
    for step in sizes:
        data = bytes(step)
        try:
            packetizer.write(data)
        except MessageSizeError:
            assert len(written) + step > length
        else:
            written += data
        if not (packets and packets[-1][1]):
            packets += packetizer.cut()
    assert any(last for _, last in packets) == (len(written) == length)
    if len(written) < length:
        with pytest.raises(MessageSizeError, match="missing"):
            packetizer.finish()
        assert not list(packetizer.cut())
    else:
        packetizer.finish()
        assert b"".join(payload for payload, _ in packets) == written


def test_nothing_goes_behind_the_end() -> None:
    packetizer = Packetizer()
    packetizer.write(b"all")
    packetizer.finish()
    packetizer.write(b"")
    with pytest.raises(LocalError):
        packetizer.write(b"more")
    with pytest.raises(LocalError):
        packetizer.expect(4)
