"""The event loop looks a moment before it sleeps, where that is of use, and only there."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
import trio

from afsfuse.lingering import LOOK_SECONDS, SOON_SECONDS, Lingering, linger

if TYPE_CHECKING:
    from collections.abc import Iterator

LONG = 60.0  # what the loop would sleep for
STEP = 1e-6  # what each look at the clock takes


class Clock:
    """Goes on a little with each look at it."""

    def __init__(self) -> None:
        self.now = 0.0
        self.looks = 0

    def __call__(self) -> float:
        self.looks += 1
        self.now += STEP
        return self.now

    def spent(self, lingering: Lingering, timeout: float = LONG) -> float:
        """Seconds that the loop looks before it sleeps."""
        begin = self.now
        lingering.before_io_wait(timeout)
        return self.now - begin - STEP * (timeout > 0)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def idle(lingering: Lingering, clock: Clock, seconds: float) -> None:
    """One wait of the loop, in which it slept so long."""
    lingering.before_io_wait(LONG)
    clock.now += seconds
    lingering.after_io_wait(LONG)


def test_it_sleeps_at_once_where_things_come_slowly(pipe: tuple[int, int]) -> None:
    clock = Clock()
    lingering = Lingering([pipe[0]], clock)
    assert clock.spent(lingering) == pytest.approx(0)
    idle(lingering, clock, 2 * SOON_SECONDS)
    assert clock.spent(lingering) == pytest.approx(0)


def test_it_looks_a_moment_after_something_came_soon(pipe: tuple[int, int]) -> None:
    clock = Clock()
    lingering = Lingering([pipe[0]], clock)
    idle(lingering, clock, SOON_SECONDS / 4)
    assert clock.spent(lingering) == pytest.approx(LOOK_SECONDS, abs=2 * STEP)


def test_a_look_in_vain_with_its_sleep_is_the_last(pipe: tuple[int, int]) -> None:
    clock = Clock()
    lingering = Lingering([pipe[0]], clock)
    idle(lingering, clock, SOON_SECONDS / 4)
    idle(lingering, clock, SOON_SECONDS)
    assert clock.spent(lingering) == pytest.approx(0)


def test_what_comes_ends_the_look(pipe: tuple[int, int]) -> None:
    clock = Clock()
    lingering = Lingering([pipe[0]], clock)
    idle(lingering, clock, SOON_SECONDS / 4)
    os.write(pipe[1], b"x")
    assert clock.spent(lingering) == pytest.approx(0)


def test_with_work_to_do_there_is_no_look(pipe: tuple[int, int]) -> None:
    clock = Clock()
    lingering = Lingering([pipe[0]], clock)
    idle(lingering, clock, SOON_SECONDS / 4)
    seen = clock.looks
    lingering.before_io_wait(0)
    lingering.after_io_wait(0)
    assert clock.looks == seen
    assert clock.spent(lingering) > 0  # and what came before that is not forgotten


def test_a_descriptor_that_was_closed_ends_each_look() -> None:
    clock = Clock()
    reading, writing = os.pipe()
    lingering = Lingering([reading], clock)
    os.close(reading)
    os.close(writing)
    idle(lingering, clock, SOON_SECONDS / 4)
    assert clock.spent(lingering) == pytest.approx(0)


@pytest.mark.parametrize(("processors", "looks"), [({0}, False), ({0, 1}, True)])
async def test_a_machine_of_one_processor_sleeps(
    monkeypatch: pytest.MonkeyPatch, pipe: tuple[int, int], processors: set[int], looks: bool
) -> None:
    seen: list[float] = []
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: processors)
    monkeypatch.setattr(Lingering, "before_io_wait", lambda _, timeout: seen.append(timeout))
    linger([pipe[0]])
    await trio.lowlevel.checkpoint()
    await trio.sleep(1)
    assert bool(seen) is looks
