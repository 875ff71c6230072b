"""Bulk status for who looks up many names of one directory."""

import random
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from afsfuse.auth.identity import ANONYMOUS
from afsfuse.errors import NotPermitted
from afsfuse.vfs import ROOT_INODE
from tests.unit.afsfuse.vfs.world import Mounted, World, not_permitted

VOLUME: dict[str, Any] = {"source": "#root.cell."}


def crowded(count: int) -> World:
    world = World()
    for number in range(count):
        world.home.file(b"f%d" % number)
    return world


async def look_up(m: Mounted, numbers: list[int]) -> int:
    """Calls for statuses that looking up these files took."""
    calls = m.world.client.calls
    before = calls["bulk_status"] + calls["fetch_status"]
    for number in numbers:
        assert (await m.look_up(ROOT_INODE, b"f%d" % number, ANONYMOUS)).inode
    return calls["bulk_status"] + calls["fetch_status"] - before


async def test_one_name_costs_one_status(autojump_clock: MockClock) -> None:
    world = crowded(500)
    async with world.mounted(**VOLUME) as m:
        await m.look_up(ROOT_INODE, b"none", ANONYMOUS)
        assert await look_up(m, [7]) == 1
        assert world.client.calls["bulk_status"] == 0


@pytest.mark.parametrize("order", ["forward", "backward", "shuffled"])
async def test_all_names_cost_about_as_much_as_a_listing(
    autojump_clock: MockClock, order: str
) -> None:
    numbers = list(range(1000))
    if order == "backward":
        numbers.reverse()
    elif order == "shuffled":
        random.Random(5).shuffle(numbers)
    async with crowded(1000).mounted(**VOLUME) as m:
        assert await look_up(m, numbers) <= 28


async def test_a_name_now_and_then_brings_nothing_along(autojump_clock: MockClock) -> None:
    world = crowded(500)
    async with world.mounted(**VOLUME) as m:
        for number in range(0, 100, 10):
            assert await look_up(m, [number]) <= 2
            await trio.sleep(6)
        assert world.client.calls["bulk_status"] == 0


async def test_companions_with_errors_hurt_nobody(autojump_clock: MockClock) -> None:
    world = crowded(20)
    world.home.file(b"bad").error = not_permitted()
    async with world.mounted(**VOLUME) as m:
        await look_up(m, list(range(20)))
        with pytest.raises(NotPermitted):
            await m.look_up(ROOT_INODE, b"bad", ANONYMOUS)


async def test_an_error_of_a_file_in_a_bulk_call_is_its_own(autojump_clock: MockClock) -> None:
    world = crowded(20)
    world.home.file(b"bad").error = not_permitted()
    async with world.mounted(**VOLUME) as m:
        await look_up(m, [0, 1])
        before = world.client.calls["bulk_status"]
        with pytest.raises(NotPermitted):
            await m.look_up(ROOT_INODE, b"bad", ANONYMOUS)
        assert world.client.calls["bulk_status"] == before + 1


async def test_only_so_many_directories_are_remembered(autojump_clock: MockClock) -> None:
    world = World()
    for number in range(300):
        world.home.file(b"f", at=world.home.directory(b"d%d" % number))
    async with world.mounted(**VOLUME) as m:
        for number in range(300):
            await m.walk(b"d%d/f" % number)
        lookups: Any = m.fs
        assert len(lookups._lookups._ahead._walks) == 256
