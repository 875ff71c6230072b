"""How the number of calls and the window follow what is measured."""

from __future__ import annotations

import pytest

from afsfuse.cache.readahead import (
    LEAST_CALL,
    LEAST_SHORT_CALL,
    MAX_CALL,
    MIN_CALLS,
    SERVER_WINDOW,
    Pace,
    ReadState,
)

KIB = 1 << 10
MIB = 1 << 20


def needed(rtt: float, size: int) -> float:
    """What a call takes when nothing but the server's window holds it."""
    return rtt * (1 + size / SERVER_WINDOW)


def test_a_short_line_gets_few_large_calls() -> None:
    pace = Pace(32)
    pace.measured(0.0002, MAX_CALL, 0.02)
    assert pace.calls == MIN_CALLS
    assert pace.window() == 4 * MIB


def test_a_long_line_gets_many_calls_at_once() -> None:
    pace = Pace(32)
    pace.measured(0.0125, 128 * KIB, needed(0.0125, 128 * KIB))
    assert pace.calls > 15
    for _ in range(20):
        pace.measured(0.0125, MAX_CALL, needed(0.0125, MAX_CALL))
    assert pace.calls == pace.most == 24


def test_calls_that_only_queue_become_fewer() -> None:
    pace = Pace(32)
    for _ in range(40):
        pace.measured(0.0125, MAX_CALL, 10 * needed(0.0125, MAX_CALL))
    assert pace.calls == MIN_CALLS


def test_small_calls_say_nothing_about_the_line() -> None:
    pace = Pace(32)
    pace.measured(0.0002, MAX_CALL, 0.02)
    for _ in range(40):
        pace.measured(0.0002, 4 * KIB, 1.0)
    assert pace.calls == MIN_CALLS
    pace.measured(None, 4 * KIB, 1.0)


@pytest.mark.parametrize(
    ("rtt", "wanted"), [(0.0002, [3, 3, 9, 16, 24]), (0.01, [14, 13, 19, 24, 24])]
)
def test_where_packets_are_lost_by_chance_more_calls_share_the_line(
    rtt: float, wanted: list[int]
) -> None:
    pace = Pace(32)
    calls = []
    for loss in (0.0, 0.002, 0.01, 0.05, 0.2):
        pace.measured(rtt, MAX_CALL, 2.0, loss)
        calls.append(int(pace.calls))
    assert calls == wanted
    assert ReadState().call_size(pace, pace.window()) == LEAST_SHORT_CALL
    for _ in range(30):
        pace.measured(0.0002, MAX_CALL, 1.0, 0.0)
    assert pace.calls == MIN_CALLS, "none are lost, or the line is full: they queue"
    few = Pace(8)
    few.measured(0.0002, MAX_CALL, 1.0, 0.2)
    assert few.calls == few.most == MIN_CALLS


def test_a_wide_window_opens_at_once() -> None:
    stream = ReadState()
    stream.note(0, 128 * KIB, 3 * MIB, wide=True)
    assert stream.window == 0, "by the second read"
    stream.note(128 * KIB, 256 * KIB, 3 * MIB, wide=True)
    assert stream.window == 3 * MIB
    stream.note(256 * KIB, 384 * KIB, 6 * MIB, wide=True)
    assert stream.window == 6 * MIB


def test_a_queue_is_not_taken_for_a_longer_line() -> None:
    pace = Pace(32)
    pace.measured(0.001, LEAST_CALL, 0.003)
    pace.measured(0.5, LEAST_CALL, 0.003)
    assert pace.rtt < 0.01
    pace.measured(0.0002, LEAST_CALL, 0.003)
    assert pace.rtt == 0.0002


def test_the_window_opens_with_the_second_read_in_sequence_and_doubles() -> None:
    stream = ReadState()
    windows = []
    for number in range(200):
        stream.note(number * 128 * KIB, (number + 1) * 128 * KIB, 3 * MIB)
        windows.append(stream.window)
    assert windows[0] == 0
    assert windows[1] == 256 * KIB
    assert sorted(windows) == windows
    assert windows[-1] == 3 * MIB
    assert set(windows) == {0, 256 * KIB, 512 * KIB, MIB, 2 * MIB, 3 * MIB}


def test_a_lone_read_opens_nothing() -> None:
    stream = ReadState()
    stream.note(0, 4096, 3 * MIB)
    assert stream.run == 1
    assert stream.window == 0
    stream = ReadState()
    stream.note(8 * MIB, 8 * MIB + 4096, 3 * MIB)
    assert stream.run == 0
    assert stream.position == 8 * MIB + 4096


def test_the_middle_of_a_file_can_be_read_in_sequence() -> None:
    stream = ReadState()
    for number in range(3):
        stream.note(8 * MIB + number * 4096, 8 * MIB + (number + 1) * 4096, 3 * MIB)
    assert stream.window


def test_a_jump_closes_the_window() -> None:
    stream = ReadState()
    for number in range(10):
        stream.note(number * 128 * KIB, (number + 1) * 128 * KIB, 3 * MIB)
    stream.note(100 * MIB, 100 * MIB + 4096, 3 * MIB)
    assert stream.window == 0
    assert stream.edge == stream.position == 100 * MIB + 4096


def test_a_window_follows_a_lower_limit() -> None:
    stream = ReadState()
    for number in range(100):
        stream.note(number * 128 * KIB, (number + 1) * 128 * KIB, 12 * MIB)
    assert stream.window == 12 * MIB
    stream.note(100 * 128 * KIB, 101 * 128 * KIB, 3 * MIB)
    assert stream.window == 3 * MIB


def test_calls_share_a_small_window() -> None:
    pace = Pace(32)
    pace.measured(0.0125, 128 * KIB, needed(0.0125, 128 * KIB))
    stream = ReadState()
    assert stream.call_size(pace, 256 * KIB) == LEAST_CALL
    assert MAX_CALL - 32 * KIB < stream.call_size(pace, pace.window()) <= MAX_CALL
