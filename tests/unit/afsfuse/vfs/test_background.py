"""Background tasks."""

import pytest
import trio
from trio.testing import MockClock

from afsfuse.vfs.background import Background


async def test_tasks_run_and_end_with_the_nursery(autojump_clock: MockClock) -> None:
    background = Background()
    seen: list[object] = []

    async def work(what: str, number: int) -> None:
        try:
            seen.append((what, number))
            await trio.sleep_forever()
        finally:
            seen.append("over")

    async with trio.open_nursery() as nursery:
        await nursery.start(background.run)
        background.start(work, "x", 3)
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    assert seen == [("x", 3), "over"]
    with pytest.raises(RuntimeError, match="not running"):
        background.start(work, "x", 3)


async def test_a_bug_costs_its_own_task_only(
    autojump_clock: MockClock, expected_warnings: object
) -> None:
    assert callable(expected_warnings)
    expected_warnings("background task of the vfs failed")
    background = Background()
    done = trio.Event()

    async def bug() -> None:
        raise KeyError("a bug")

    async def work() -> None:
        await trio.sleep(1)
        done.set()

    async with trio.open_nursery() as nursery:
        await nursery.start(background.run)
        background.start(work)
        background.start(bug)
        await done.wait()
        nursery.cancel_scope.cancel()
