"""The kernel is asked to forget when it remembers too much."""

from typing import Any

import trio
from trio.testing import MockClock

from afsfuse.auth.identity import ANONYMOUS
from afsfuse.model import Inode
from afsfuse.vfs import ROOT_INODE
from tests.unit.afsfuse.vfs import kernel as kernels
from tests.unit.afsfuse.vfs.world import Mounted, World

VOLUME: dict[str, Any] = {"source": "#root.cell."}


class Kernel:
    """Holds names, and forgets those that it is asked to."""

    def __init__(self, m: Mounted) -> None:
        self.m = m
        self.held: dict[bytes, list[int]] = {}

    async def look_up(self, start: int, stop: int) -> None:
        for number in range(start, stop):
            name = b"f%d" % number
            entry = await self.m.look_up(ROOT_INODE, name, ANONYMOUS)
            self.held.setdefault(name, []).append(entry.inode)

    def obey(self) -> int:
        """Do what was asked; return how many names that were."""
        names = [event[2] for event in self.m.world.notifier.take() if len(event) == 3]
        for name in names:
            self.m.fs.forget([(Inode(inode), 1) for inode in self.held.pop(name)])
        return len(names)


async def test_the_oldest_files_go(autojump_clock: MockClock) -> None:
    world = World()
    for number in range(300):
        world.home.file(b"f%d" % number)
    async with world.mounted(**VOLUME, node_limit=160) as m:
        kernel = Kernel(m)
        await kernel.look_up(0, 150)
        assert kernel.obey() == 0
        await kernel.look_up(150, 161)
        assert kernel.obey() >= 10
        names = m.nodes.get(ROOT_INODE).names or {}
        assert b"f0" not in names
        assert b"f160" in names
        await trio.sleep(1)
        await kernel.look_up(161, 300)
        while kernel.obey():
            await trio.sleep(1)
            await kernel.look_up(299, 300)
        assert m.fs.statistics().nodes.nodes < 175


async def test_directories_and_open_files_stay(autojump_clock: MockClock) -> None:
    world = World()
    for number in range(100):
        world.home.directory(b"d%d" % number)
        world.home.file(b"f%d" % number)
    async with world.mounted(**VOLUME, node_limit=50) as m:
        for number in range(100):
            await m.walk(b"d%d" % number)
            inode = await m.walk(b"f%d" % number)
            await m.fs.open(inode, 0, ANONYMOUS)
            await trio.sleep(2)
        assert world.notifier.take() == []


async def test_hard_links_are_all_asked_for(autojump_clock: MockClock) -> None:
    world = World()
    file = world.home.file(b"a")
    world.home.hard_link(b"b", file)
    for number in range(30):
        world.home.file(b"f%d" % number)
    async with world.mounted(**VOLUME, node_limit=20) as m:
        await m.walk(b"a")
        await m.walk(b"b")
        for number in range(30):
            await m.walk(b"f%d" % number)
        events = world.notifier.take()
        assert ("name", ROOT_INODE, b"a") in events
        assert ("name", ROOT_INODE, b"b") in events


async def test_the_kernel_is_not_pressed(autojump_clock: MockClock) -> None:
    world = World()
    for number in range(200):
        world.home.file(b"f%d" % number)
    async with world.mounted(**VOLUME, node_limit=50) as m:
        await m.names(ROOT_INODE)  # within one second
        assert 50 < len(world.notifier.take()) < 60
        await trio.sleep(1)
        await m.names(ROOT_INODE)
        assert 50 < len(world.notifier.take()) < 160


async def test_a_walk_over_many_costs_what_its_beginning_does(autojump_clock: MockClock) -> None:
    """Names that a walker is about to look at are not those that go."""
    folders, files, limit = 12, 300, 700
    world = World()
    for folder in range(folders):
        at = world.home.directory(b"d%d" % folder)
        for number in range(files):
            world.home.file(b"f%d" % number, at=at)
    async with kernels.mounted(world, **VOLUME, node_limit=limit) as kernel:
        m = kernel.m
        m.cache._table.limit = files
        for folder in range(folders):
            names = await kernel.list(f"d{folder}")
            assert len(names) == files
            for name in names:
                here = await kernel.walk(f"d{folder}")
                known = kernel.children[here].get(name)
                inode = Inode(known) if known else await kernel.walk(f"d{folder}/{name.decode()}")
                await m.fs.getattr(inode, ANONYMOUS)
            await trio.sleep(1)
            assert m.fs.statistics().nodes.nodes <= limit + files + folders + 1
            assert len(m.cache._table) <= limit + 2 * files + folders + 1
        calls = world.client.calls
        assert calls["bulk_status"] + calls["fetch_status"] < folders * files / 24
        assert kernel.order.count(b"f0") > folders // 2
