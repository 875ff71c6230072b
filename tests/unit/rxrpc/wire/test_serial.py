"""Order of numbers that wrap."""

from hypothesis import given
from hypothesis import strategies as st

from rxrpc.wire import serial

numbers = st.integers(0, serial.MASK)
near_wrap = st.integers(-300, 300).map(lambda step: step & serial.MASK)


@given(numbers | near_wrap, st.integers(-serial.HALF, serial.HALF - 1))
def test_add_stays_in_range_and_can_be_undone(start: int, steps: int) -> None:
    end = serial.add(start, steps)
    assert 0 <= end <= serial.MASK
    assert serial.add(end, -steps) == start


@given(numbers | near_wrap, st.integers(1, serial.HALF - 1))
def test_what_is_reached_upwards_comes_later(start: int, steps: int) -> None:
    end = serial.add(start, steps)
    assert serial.before(start, end)
    assert not serial.before(end, start)
    assert not serial.before(start, start)


def test_order_over_the_wrap() -> None:
    assert serial.before(0xFFFF_FFFF, 0)
    assert not serial.before(3, 0xFFFF_FFFE)
    assert serial.add(0xFFFF_FFFE, 5) == 3


def test_serials_leave_out_zero() -> None:
    assert serial.following(0) == 1
    assert serial.following(0xFFFF_FFFF) == 1
