"""Bulk status for who looks up many names of one directory."""

import random
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from afsfuse.auth.identity import ANONYMOUS
from afsfuse.errors import NotPermitted
from afsfuse.vfs import ROOT_INODE
from tests.unit.afsfuse.vfs.world import Mounted, World
from tests.unit.afsfuse.vfs.worldservers import not_permitted

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


@pytest.mark.parametrize("order", ["forward", "shuffled"])
async def test_looking_at_all_again_costs_about_as_much(
    autojump_clock: MockClock, order: str
) -> None:
    """After the server took back all that it had promised, more than is asked about at once."""
    count = 6000
    numbers = list(range(count))
    if order == "shuffled":
        random.Random(6).shuffle(numbers)
    world = crowded(count)
    async with world.mounted(**VOLUME) as m:
        await m.names(ROOT_INODE)
        nodes = m.nodes.get(ROOT_INODE).names
        assert nodes is not None
        inodes = [nodes[b"f%d" % number].inode for number in numbers]
        calls = world.client.calls
        before = calls["bulk_status"] + calls["fetch_status"]
        m.cache.break_all()
        for inode in inodes:
            assert (await m.fs.getattr(inode, ANONYMOUS)).size == 0
        assert calls["bulk_status"] + calls["fetch_status"] - before < count / 24


@pytest.mark.parametrize("again", [False, True])
async def test_a_server_that_promises_nothing_is_asked_for_what_is_wanted(
    autojump_clock: MockClock, again: bool
) -> None:
    count = 100
    world = crowded(count)
    world.client.promise = 0.0
    async with world.mounted(**VOLUME) as m:
        inodes = [await m.walk(b"f%d" % number) for number in range(count)]
        before = world.client.statuses
        for number, inode in enumerate(inodes):
            if again:
                await m.fs.getattr(inode, ANONYMOUS)
            else:
                await m.walk(b"f%d" % number)
        assert world.client.statuses - before <= 4 * count


async def test_many_at_a_time_bring_few_along(autojump_clock: MockClock) -> None:
    """A dead server would be asked for everything by everybody else."""
    count = 400
    world = crowded(count)
    async with world.mounted(**VOLUME) as m:
        inodes = [await m.walk(b"f%d" % number) for number in range(count)]
        m.cache.break_all()
        before = world.client.calls["bulk_status"], world.client.statuses
        async with trio.open_nursery() as nursery:
            for inode in inodes:
                nursery.start_soon(m.fs.getattr, inode, ANONYMOUS)
        assert world.client.calls["bulk_status"] - before[0] < 24
        assert world.client.statuses - before[1] < 3 * count


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
