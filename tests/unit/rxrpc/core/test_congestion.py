"""The congestion window, in numbers."""

from hypothesis import given
from hypothesis import strategies as st

from rxrpc.core.congestion import Congestion
from rxrpc.core.parameters import Parameters

PARAMETERS = Parameters(initial_congestion_window=10, max_send_window=100)


def test_slow_start_doubles_and_avoidance_adds_one_a_round_trip() -> None:
    congestion = Congestion(PARAMETERS, threshold=20)
    congestion.on_acked(10, limited=True)
    assert congestion.window == 20
    congestion.on_acked(19, limited=True)
    assert congestion.window == 20
    congestion.on_acked(1, limited=True)
    assert congestion.window == 21


def test_an_unused_window_does_not_grow() -> None:
    congestion = Congestion(PARAMETERS)
    congestion.on_acked(10, limited=False)
    assert congestion.window == 10


def test_a_loss_halves_once_a_round_trip() -> None:
    congestion = Congestion(PARAMETERS)
    assert congestion.on_lost(5, 21, in_flight=10)
    assert (congestion.window, congestion.threshold) == (5, 5)
    assert not congestion.on_lost(20, 25, in_flight=10), "of the same flight"
    assert congestion.window == 5
    assert congestion.on_lost(21, 30, in_flight=7)
    assert congestion.window == 2


def test_a_loss_while_nothing_queues_takes_a_fifth() -> None:
    congestion = Congestion(PARAMETERS)
    assert congestion.on_lost(5, 21, in_flight=10, backlog=2.9)
    assert congestion.window == 8
    assert congestion.on_lost(21, 31, in_flight=8, backlog=3.0)
    assert congestion.window == 4
    for number in range(40, 50):
        congestion.on_lost(number, number + 1, in_flight=congestion.window, backlog=0.0)
    assert congestion.window == 2


def test_a_timeout_starts_from_one() -> None:
    congestion = Congestion(PARAMETERS)
    congestion.on_timeout(11, in_flight=10)
    assert (congestion.window, congestion.threshold) == (1, 5)
    congestion.on_timeout(12, in_flight=1)
    assert congestion.threshold == 5, "a second timeout says nothing new"
    congestion.on_acked(1, limited=True)
    assert congestion.window == 2


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("acked"), st.integers(1, 300)),
            st.tuples(st.just("lost"), st.integers(0, 300)),
            st.tuples(st.just("timeout"), st.integers(0, 300)),
        )
    )
)
def test_the_window_keeps_its_bounds(story: list[tuple[str, int]]) -> None:
    congestion = Congestion(PARAMETERS)
    for number, (what, count) in enumerate(story):
        if what == "acked":
            congestion.on_acked(count, limited=True)
        elif what == "lost":
            congestion.on_lost(number, number + 1, count)
        else:
            congestion.on_timeout(number + 1, count)
        assert 1 <= congestion.window <= 100
        assert congestion.threshold >= 2
