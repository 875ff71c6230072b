"""Lazy timers."""

import weakref
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from rxrpc.core.timers import NEVER, Timers


@dataclass(eq=False)
class Item:
    """Something with one timer and a memory."""

    due: float = NEVER
    armed: float = NEVER
    rang: list[float] = field(default_factory=list)
    again: float = NEVER

    def next_timer(self) -> float:
        return self.due

    def on_timer(self, now: float) -> None:
        self.rang.append(now)
        self.due = now + self.again


def test_it_rings_when_due_and_not_before() -> None:
    timers, item = Timers(0.001), Item(due=5.0)
    assert timers.deadline() == NEVER
    timers.update(item)
    assert timers.deadline() == 5.0
    timers.run(4.9)
    assert not item.rang
    timers.run(5.0)
    assert item.rang == [5.0]
    assert timers.deadline() == NEVER


def test_a_timer_that_moves_later_costs_nothing_and_rings_later() -> None:
    timers, item = Timers(0.001), Item(due=5.0)
    timers.update(item)
    item.due = 9.0
    timers.update(item)
    assert len(timers) == 1
    timers.run(5.0)
    assert not item.rang
    assert timers.deadline() == 9.0


def test_a_timer_that_moves_earlier_rings_earlier_and_once() -> None:
    timers, item = Timers(0.001), Item(due=5.0)
    timers.update(item)
    item.due = 2.0
    timers.update(item)
    timers.run(6.0)
    assert item.rang == [6.0]
    assert timers.deadline() == NEVER


def test_a_retired_item_is_never_asked_again() -> None:
    timers, item = Timers(0.001), Item(due=5.0)
    timers.update(item)
    timers.retire(item)
    timers.update(item)
    timers.run(10.0)
    assert not item.rang
    assert timers.deadline() == NEVER


def test_an_item_may_retire_in_its_own_turn() -> None:
    timers = Timers(0.001)

    class Once(Item):
        def on_timer(self, now: float) -> None:
            timers.retire(self)

    item = Once(due=1.0)
    timers.update(item)
    timers.run(2.0)
    assert timers.deadline() == NEVER
    assert timers.overdue == 0


def test_items_that_are_no_more_are_let_go_long_before_their_time() -> None:
    timers, kept = Timers(0.001), [Item(due=500.0 + number) for number in range(100)]
    for item in kept:
        timers.update(item)
    gone = []
    for number in range(20_000):
        item = Item(due=700.0 + number)
        gone.append(weakref.ref(item))
        timers.update(item)
        timers.retire(item)
    del item
    assert len(timers) <= 256
    assert sum(reference() is not None for reference in gone) <= 256
    timers.run(600.0)
    assert all(item.rang for item in kept)


def test_many_live_items_are_not_swept_again_and_again() -> None:
    timers, items = Timers(0.001), [Item(due=float(number)) for number in range(5000)]
    for item in items:
        timers.update(item)
    assert len(timers) == 5000
    assert timers.deadline() == 0.0


def test_an_item_that_stays_due_does_not_spin() -> None:
    timers, item = Timers(0.001), Item(due=1.0, again=0.0)
    timers.update(item)
    timers.run(2.0)
    assert timers.deadline() == 2.001
    assert timers.overdue == 1


@given(
    st.lists(st.tuples(st.floats(0, 100), st.floats(0.01, 10)), min_size=1, max_size=10),
    st.lists(st.floats(0, 20), max_size=10),
)
def test_after_a_run_the_deadline_lies_ahead(
    items: list[tuple[float, float]], steps: list[float]
) -> None:
    timers, now = Timers(0.001), 0.0
    for due, again in items:
        timers.update(Item(due=due, again=again))
    for step in steps:
        now += step
        timers.run(now)
        assert timers.deadline() > now
