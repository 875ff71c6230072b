"""Who takes much of the event loop waits before his next request, and nobody else does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from afsfuse.control import pacing
from afsfuse.control.pacing import FREE, REST, Pace

if TYPE_CHECKING:
    from trio.testing import MockClock

ALICE, BOB = 1000, 1001


class Loop:
    """Time that steps take, without any other time that passes."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    async def work(self, seconds: float, *, steps: int = 2) -> str:
        for _ in range(steps):
            self.now += seconds / steps
            await trio.lowlevel.checkpoint()
        return "done"

    async def wait(self, seconds: float) -> None:
        await trio.sleep(seconds)


async def test_a_user_has_his_part_in_the_long_run(autojump_clock: MockClock) -> None:
    loop = Loop()
    pace = Pace(loop)
    done = 0

    async def ask() -> None:
        nonlocal done
        while True:
            await pace.turn(ALICE)
            assert await pace.measured(ALICE, loop.work(0.01)) == "done"
            done += 1

    with trio.move_on_after(100):
        async with trio.open_nursery() as nursery:
            for _ in range(16):
                nursery.start_soon(ask)
    assert loop.now == pytest.approx(FREE + 100 / REST, abs=0.02 * 16)
    began = trio.current_time()
    for _ in range(5):
        await pace.turn(BOB)
        await pace.measured(BOB, loop.work(0.01))
    assert trio.current_time() == began, "nobody else waits"


async def test_what_is_little_costs_no_pause(autojump_clock: MockClock) -> None:
    loop = Loop()
    pace = Pace(loop)
    began = trio.current_time()
    for _ in range(50):
        await pace.turn(ALICE)
        await pace.measured(ALICE, loop.work(0.001))
    assert trio.current_time() == began


async def test_waiting_costs_nothing(autojump_clock: MockClock) -> None:
    loop = Loop()
    pace = Pace(loop)
    await pace.measured(ALICE, loop.wait(1000))
    assert loop.now == 0
    await pace.turn(ALICE)


async def test_nobody_saves_up(autojump_clock: MockClock) -> None:
    loop = Loop()
    pace = Pace(loop)

    async def patient() -> None:
        await trio.sleep(1000)
        await loop.work(1.1)

    await pace.measured(ALICE, patient())
    began = trio.current_time()
    await pace.turn(ALICE)
    assert trio.current_time() - began == pytest.approx(1.0 * REST, abs=0.1)


async def test_errors_and_cancellations_go_through() -> None:
    pace = Pace()
    seen: list[str] = []

    async def fail() -> None:
        await trio.lowlevel.checkpoint()
        raise KeyError("x")

    async def wait() -> None:
        try:
            await trio.sleep_forever()
        finally:
            seen.append("ended")

    with pytest.raises(KeyError):
        await pace.measured(ALICE, fail())
    with trio.move_on_after(0) as scope:
        await pace.measured(ALICE, wait())
    assert scope.cancelled_caught
    assert seen == ["ended"]


async def test_few_users_are_remembered(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pacing, "_USERS_KEPT", 8)
    loop = Loop()
    pace = Pace(loop)
    for uid in range(1000, 1100):
        await pace.measured(uid, loop.work(0.001))
        await trio.sleep(1)
    assert len(pace._users) <= 8
