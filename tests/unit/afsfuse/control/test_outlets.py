"""What waits for a reader is bounded, and what is lost is said."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from afsfuse.control.outlets import Outlet

if TYPE_CHECKING:
    from trio.testing import MockClock


async def test_what_does_not_fit_is_counted_in_its_place(autojump_clock: MockClock) -> None:
    outlet = Outlet(2)
    for number in range(5):
        outlet.put({"n": number})
    assert await outlet.take() == [{"n": 0}, {"n": 1}, {"dropped": 3}]
    assert outlet.dropped == 3
    outlet.put({"n": 5})
    assert await outlet.take() == [{"n": 5}]


async def test_a_reader_waits_until_there_is_something(autojump_clock: MockClock) -> None:
    outlet = Outlet()
    with trio.move_on_after(1) as scope:
        await outlet.take()
    assert scope.cancelled_caught
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def read() -> None:
            assert await outlet.take() == [{"n": 1}]
            assert await outlet.take() == []

        await trio.sleep(1)
        outlet.put({"n": 1})
        await trio.sleep(1)
        outlet.close()


async def test_what_was_told_before_the_end_is_not_lost(autojump_clock: MockClock) -> None:
    outlet = Outlet()
    outlet.put({"n": 1})
    outlet.close()
    assert await outlet.take() == [{"n": 1}]
    assert await outlet.take() == []
