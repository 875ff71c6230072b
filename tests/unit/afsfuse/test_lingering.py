"""The event loop looks a moment before it sleeps, where that is of use, and only there."""

from __future__ import annotations

import os
from math import inf
from typing import TYPE_CHECKING

import pytest
import trio

import afsfuse.lingering
from afsfuse.lingering import LOOK_SECONDS, SOON_SECONDS, Lingering, linger, quota

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

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


@pytest.mark.parametrize("gaps", [[1.5 * LOOK_SECONDS], [LOOK_SECONDS / 5, 5 * SOON_SECONDS]])
def test_looks_that_are_always_vain_become_rare(pipe: tuple[int, int], gaps: list[float]) -> None:
    """What comes each time a little too late, or in pairs of which the second is missed."""
    clock = Clock()
    lingering = Lingering([pipe[0]], clock)
    spent = 0.0
    for number in range(2000):
        gap = gaps[number % len(gaps)]
        looked = clock.spent(lingering)
        spent += looked
        clock.now += max(0.0, gap - looked)
        lingering.after_io_wait(LONG)
    assert 0 < spent < 20 * LOOK_SECONDS


def test_a_look_that_finds_something_ends_the_pauses(pipe: tuple[int, int]) -> None:
    clock = Clock()
    lingering = Lingering([pipe[0]], clock)
    for _ in range(100):
        idle(lingering, clock, SOON_SECONDS / 2)  # each look is vain
    os.write(pipe[1], b"x")
    for _ in range(256):
        idle(lingering, clock, SOON_SECONDS / 4)  # one of them finds it
    os.read(pipe[0], 1)
    assert clock.spent(lingering) == pytest.approx(LOOK_SECONDS, abs=2 * STEP)


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


@pytest.mark.parametrize(
    ("processors", "time", "looks"),
    [({0}, inf, False), ({0, 1}, inf, True), ({0, 1}, 1.5, False), ({0, 1}, 2.0, True)],
)
async def test_a_machine_of_one_processor_sleeps(
    monkeypatch: pytest.MonkeyPatch,
    pipe: tuple[int, int],
    processors: set[int],
    time: float,
    looks: bool,
) -> None:
    seen: list[float] = []
    monkeypatch.setattr(afsfuse.lingering, "quota", lambda: time)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: processors)
    monkeypatch.setattr(Lingering, "before_io_wait", lambda _, timeout: seen.append(timeout))
    linger([pipe[0]])
    await trio.lowlevel.checkpoint()
    await trio.sleep(1)
    assert bool(seen) is looks


@pytest.mark.parametrize(
    ("own", "files", "processors"),
    [
        ("0::/a/b\n", {}, inf),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n"}, inf),
        ("0::/a/b\n", {"a/b/cpu.max": "400000 100000\n", "a/cpu.max": "150000 100000\n"}, 1.5),
        ("0::/\n", {"cpu.max": "50000 100000\n"}, 0.5),
        ("0::/../b\n", {"cpu.max": "50000 100000\n"}, 0.5),
        ("1:name=systemd:/\n0::/a\n", {"unified/a/cpu.max": "200000 100000\n"}, 2.0),
        (
            "4:cpu,cpuacct:/docker/x\n2:cpuset:/\n",  # of a container without a view of its own
            {"cpu/cpu.cfs_quota_us": "100000\n", "cpu/cpu.cfs_period_us": "100000\n"},
            1.0,
        ),
        (
            "1:cpu:/x\n",
            {"cpu/x/cpu.cfs_quota_us": "-1\n", "cpu/x/cpu.cfs_period_us": "100000\n"},
            inf,
        ),
        ("0::/\n", {"cpu.max": "what is this\n"}, inf),
    ],
)
def test_the_time_that_control_groups_leave(
    tmp_path: Path, own: str, files: dict[str, str], processors: float
) -> None:
    tree, told = tmp_path / "tree", tmp_path / "cgroup"
    told.write_text(own)
    for name, text in files.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(text)
    assert quota(told, tree) == processors
    assert quota(tmp_path / "missing", tree) == inf
