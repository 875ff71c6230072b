"""One lock for each key."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from afsfuse.cache.keylocks import KeyLocks


async def test_one_after_the_other_and_different_keys_at_once(autojump_clock: object) -> None:
    locks: KeyLocks[int] = KeyLocks()
    ended: list[tuple[float, int]] = []

    async def work(*keys: int) -> None:
        async with locks.holding(*keys):
            await trio.sleep(1)
        ended.append((trio.current_time() - began, keys[0]))

    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(work, 1, 2)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(work, 2, 3)
        nursery.start_soon(work, 4)
    assert ended == [(1.0, 1), (1.0, 4), (2.0, 2)] or ended == [(1.0, 4), (1.0, 1), (2.0, 2)]
    assert len(locks) == 0


async def test_nobody_waits_where_nobody_holds() -> None:
    locks: KeyLocks[int] = KeyLocks()
    with trio.testing.assert_no_checkpoints():
        async with locks.holding(1, 2):
            assert len(locks) == 2
    assert len(locks) == 0


async def test_who_gives_up_leaves_nothing(autojump_clock: object, nursery: trio.Nursery) -> None:
    locks: KeyLocks[int] = KeyLocks()
    release = trio.Event()

    async def hold() -> None:
        async with locks.holding(1):
            await release.wait()

    nursery.start_soon(hold)
    await trio.testing.wait_all_tasks_blocked()
    with trio.move_on_after(1) as scope:
        async with locks.holding(0, 1):
            pytest.fail("it is held")
    assert scope.cancelled_caught
    assert len(locks) == 1
    release.set()
    await trio.testing.wait_all_tasks_blocked()
    assert len(locks) == 0


async def test_a_failure_inside_lets_go() -> None:
    locks: KeyLocks[int] = KeyLocks()
    with pytest.raises(KeyError):
        async with locks.holding(1):
            raise KeyError
    assert len(locks) == 0
