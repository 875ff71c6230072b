"""Order of numbers that wrap."""

from hypothesis import given
from hypothesis import strategies as st

from rxrpc.wire import serial

numbers = st.integers(0, serial.MASK)
near_wrap = st.integers(-300, 300).map(lambda step: step & serial.MASK)


@given(numbers | near_wrap, st.integers(-serial.HALF, serial.HALF - 1))
def test_distance_undoes_add(start: int, steps: int) -> None:
    end = serial.add(start, steps)
    assert 0 <= end <= serial.MASK
    assert serial.distance(start, end) == steps


@given(numbers | near_wrap, st.integers(1, serial.HALF - 1))
def test_what_is_reached_upwards_comes_later(start: int, steps: int) -> None:
    end = serial.add(start, steps)
    assert serial.before(start, end)
    assert not serial.before(end, start)
    assert not serial.before(start, start)


def test_order_over_the_wrap() -> None:
    assert serial.before(0xFFFF_FFFF, 0)
    assert serial.distance(0xFFFF_FFFE, 3) == 5
    assert serial.distance(3, 0xFFFF_FFFE) == -5


def test_serials_leave_out_zero() -> None:
    assert serial.following(0) == 1
    assert serial.following(0xFFFF_FFFF) == 1
