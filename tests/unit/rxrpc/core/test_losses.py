"""What is known of a line that loses packets, in numbers."""

import pytest

from rxrpc.core.losses import Losses
from rxrpc.core.parameters import Parameters
from rxrpc.core.rtt import RttEstimator


def line(*samples: float) -> RttEstimator:
    rtt = RttEstimator(Parameters())
    for number, sample in enumerate(samples):
        rtt.on_sample(sample, float(number))
    return rtt


def test_nothing_is_concluded_of_few_packets() -> None:
    losses = Losses()
    losses.count(20, 5, 1.0)
    assert losses.seen(1.0)
    assert losses.share(line(0.01), 1.0) == 0.0
    losses.count(20, 5, 1.0)
    assert losses.share(line(0.01), 1.0) == pytest.approx(0.2)
    assert losses.share(line(), 1.0) == 0.0, "whether something queues is not known"


def test_packets_that_come_in_order_are_no_loss() -> None:
    losses = Losses()
    losses.count(1000, 0, 1.0)
    assert not losses.seen(1.0)
    assert losses.share(line(0.01), 1.0) == 0.0


def test_a_packet_that_was_only_late_was_not_lost() -> None:
    losses = Losses()
    losses.count(100, 3, 1.0)
    losses.count(5, -3, 1.1)
    assert not losses.seen(1.1)
    losses.count(5, -3, 1.1)
    losses.count(100, 1, 1.2)
    assert losses.share(line(0.01), 1.2) == pytest.approx(1 / 211)


def test_a_queue_is_told_apart_by_the_round_trip() -> None:
    losses = Losses()
    losses.count(100, 10, 1.0)
    assert losses.share(line(0.04, 0.05), 1.0) > 0
    assert losses.share(line(0.04, *[0.2] * 20), 1.0) == 0.0
    assert losses.share(line(0.0002, *[0.003] * 20), 1.0) > 0, "a busy machine is no queue"


def test_what_was_seen_is_forgotten() -> None:
    losses = Losses()
    losses.count(100, 10, 1.0)
    for second in range(2, 12):
        losses.count(200, 0, float(second))
    assert 0 < losses.share(line(0.01), 12.0) < 0.01
    losses.count(200, 0, 62.0)
    assert losses.share(line(0.01), 62.0) == 0.0
    assert not losses.seen(62.0)
