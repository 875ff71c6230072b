"""Round trips, in numbers."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxrpc.core.parameters import Parameters
from rxrpc.core.rtt import RttEstimator

PARAMETERS = Parameters(min_rto=0.2, soft_ack_delay=0.1)


def test_before_anything_was_measured() -> None:
    rtt = RttEstimator(PARAMETERS)
    assert rtt.smoothed is None
    assert rtt.timeout(0) == 1.0
    assert rtt.timeout(2) == 4.0
    assert rtt.probe_delay() is None
    assert rtt.stale(0.0)


def test_the_first_sample_and_the_second() -> None:
    rtt = RttEstimator(PARAMETERS)
    rtt.on_sample(0.1, 10.0)
    assert (rtt.smoothed, rtt.variation, rtt.minimum) == (0.1, 0.05, 0.1)
    assert rtt.timeout(0) == pytest.approx(0.1 + 4 * 0.05 + 0.1)
    rtt.on_sample(0.2, 11.0)
    assert rtt.smoothed == pytest.approx(0.1 * 7 / 8 + 0.2 / 8)
    assert rtt.variation == pytest.approx(0.05 * 3 / 4 + 0.1 / 4)
    assert rtt.latest == 0.2
    assert rtt.probe_delay() == pytest.approx(2 * 0.1125)
    assert not rtt.stale(20.9)
    assert rtt.stale(21.1)


def test_where_packets_are_lost_a_probe_comes_sooner_but_not_before_an_ack_can() -> None:
    rtt = RttEstimator(Parameters(min_probe_delay=0.01, lossy_probe_delay=0.001))
    assert rtt.probe_delay(lossy=True) is None
    rtt.on_sample(0.0002, 0.0)
    for _ in range(50):
        rtt.on_sample(0.0002, 0.0)
    assert rtt.probe_delay() == 0.01
    assert rtt.probe_delay(lossy=True) == 0.001
    for sample in (0.02, 0.08) * 50:
        rtt.on_sample(sample, 0.0)
    delay = rtt.probe_delay(lossy=True)
    assert delay is not None
    assert delay > 0.15, "it varies"


def test_the_backlog_is_what_of_a_flight_waits_in_queues() -> None:
    rtt = RttEstimator(PARAMETERS)
    assert rtt.backlog(10) == math.inf
    rtt.on_sample(0.1, 0.0)
    assert rtt.backlog(10) == 0
    rtt.on_sample(0.2, 1.0)
    assert rtt.backlog(10) == pytest.approx(5)
    rtt.on_sample(0.1, 2.0)
    assert 0 < rtt.backlog(10) < 2, "by what it was lately"


def test_nonsense_is_ignored() -> None:
    rtt = RttEstimator(PARAMETERS)
    rtt.on_sample(-0.1, 1.0)
    rtt.on_sample(61.0, 1.0)
    assert rtt.smoothed is None


def test_the_minimum_is_forgotten_in_time() -> None:
    rtt = RttEstimator(PARAMETERS)
    rtt.on_sample(0.01, 0.0)
    rtt.on_sample(0.5, 100.0)
    assert rtt.minimum == 0.01
    rtt.on_sample(0.5, 301.0)
    assert rtt.minimum == 0.5


@given(st.lists(st.floats(0, 60), max_size=30), st.integers(0, 10_000))
def test_the_timeout_keeps_its_bounds(samples: list[float], doublings: int) -> None:
    rtt = RttEstimator(PARAMETERS)
    for number, sample in enumerate(samples):
        rtt.on_sample(sample, float(number))
    assert 0.2 <= rtt.timeout(doublings) <= 60.0
