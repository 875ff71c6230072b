"""When a reply that does not go on is given up, in numbers."""

import pytest

from rxrpc.core.context import Context
from rxrpc.core.lulls import patience
from rxrpc.core.parameters import Parameters
from rxrpc.core.peer import Peer
from rxrpc.core.timers import NEVER

NOW = 100.0


def peer(*, lost: int = 10, rtt: float = 0.002) -> Peer:
    """One of whose packets so many of 100 were lost."""
    one = Peer(("192.0.2.2", 7000), Context(Parameters()))
    one.losses.count(100, lost, NOW)
    one.rtt.on_sample(rtt, NOW)
    return one


@pytest.mark.parametrize(
    ("lost", "queued", "given_up"), [(10, False, True), (0, False, False), (10, True, False)]
)
def test_only_where_packets_are_lost_though_nothing_queues(
    lost: int, queued: bool, given_up: bool
) -> None:
    one = peer(lost=lost)
    for _ in range(20 if queued else 0):
        one.rtt.on_sample(0.5, NOW)
    assert one.lulls.give_up(one, NOW - 0.05, NOW) is given_up


def test_where_no_other_call_ends_one_is_given_up_in_the_time_of_a_timeout() -> None:
    one = peer()
    given_up = [one.lulls.give_up(one, NOW - 1, NOW + step / 100) for step in range(50)]
    assert given_up.count(True) == 2


def test_the_end_of_another_call_shows_that_the_server_is_not_what_is_waited_for() -> None:
    one = peer()
    one.lulls.ended = NOW - 0.5
    given_up = [one.lulls.give_up(one, NOW - 1, NOW + step / 100) for step in range(50)]
    assert all(given_up)
    assert not one.lulls.give_up(one, NOW - 1, NOW + 0.491), "all at once"
    assert not one.lulls.give_up(one, NOW - 0.4, NOW + 0.51), "it ended before"


def test_a_long_way_takes_as_long_as_the_timeout() -> None:
    assert patience(0.03, peer(rtt=0.002)) == pytest.approx(0.038)
    assert patience(0.03, peer(rtt=0.05)) == NEVER
