"""What the kernel is told when something changes: exactly what it holds and what differs."""

from collections.abc import Iterable
from typing import Any

import trio
from trio.testing import MockClock

from afsfuse.auth.identity import ANONYMOUS
from afsfuse.model import Inode
from afsfuse.vfs import ROOT_INODE, NullNotifier
from afsfuse.vfs.inodes import Node
from afsfuse.vfs.invalidation import OwnChanges
from tests.unit.afsfuse.vfs.world import Event, Mounted, World
from tests.unit.afsfuse.vfs.worldfiles import FakeFile

VOLUME: dict[str, Any] = {"source": "#root.cell."}


async def changed(m: Mounted, world: World, *files: FakeFile) -> list[Event]:
    """Break promises as a server does, let the cache find out, return what came of it."""
    world.notifier.take()
    m.break_callback(files)
    await trio.sleep(1)
    return world.notifier.take()


async def test_a_changed_file_loses_attributes_at_once_and_then_its_pages(
    autojump_clock: MockClock,
) -> None:
    world = World()
    file = world.home.file(b"f", b"old")
    world.home.file(b"g", b"same")
    async with world.mounted(**VOLUME) as m:
        inode = await m.walk(b"f")
        await m.walk(b"g")
        assert await m.read_all(inode) == b"old"
        world.home.write(file, b"new")
        world.notifier.take()
        m.break_callback([file])
        assert world.notifier.take() == [("attributes", inode)]  # before the server has its reply
        await trio.sleep(1)
        assert world.notifier.take() == [("data", inode)]
        assert await m.read_all(inode) == b"new"


async def test_a_file_that_is_still_the_same_keeps_its_pages(autojump_clock: MockClock) -> None:
    world = World()
    file = world.home.file(b"f", b"old")
    async with world.mounted(**VOLUME) as m:
        inode = await m.walk(b"f")
        await m.read_all(inode)
        file.mode = 0o600
        assert await changed(m, world, file) == [("attributes", inode)]
        assert (await m.stat(inode, ANONYMOUS)).mode & 0o777 == 0o600


async def test_a_file_that_was_never_opened_has_no_pages_to_lose(autojump_clock: MockClock) -> None:
    world = World()
    file = world.home.file(b"f", b"old")
    async with world.mounted(**VOLUME) as m:
        inode = await m.walk(b"f")
        world.home.write(file, b"new")
        assert set(await changed(m, world, file)) == {("attributes", inode)}


async def test_of_a_directory_exactly_the_changed_names_go(autojump_clock: MockClock) -> None:
    world = World()
    for number in range(50):
        world.home.file(b"f%d" % number)
    async with world.mounted(**VOLUME) as m:
        for number in range(40):
            await m.walk(b"f%d" % number)
        for name in (b"absent", b"new"):
            assert (await m.look_up(ROOT_INODE, name, ANONYMOUS)).inode == 0
        world.home.unlink(b"f7")
        world.home.unlink(b"f45")  # the kernel does not know it
        world.home.file(b"new")
        world.home.file(b"new too")  # nor this
        assert set(await changed(m, world, world.home.root)) == {
            ("attributes", ROOT_INODE),
            ("name", ROOT_INODE, b"f7"),
            ("name", ROOT_INODE, b"new"),
        }
        assert (await m.look_up(ROOT_INODE, b"new", ANONYMOUS)).inode
        assert (await m.look_up(ROOT_INODE, b"f7", ANONYMOUS)).inode == 0


async def test_a_name_that_means_another_file_goes(autojump_clock: MockClock) -> None:
    world = World()
    world.home.file(b"f", b"old")
    async with world.mounted(**VOLUME) as m:
        old = await m.walk(b"f")
        world.home.unlink(b"f")
        world.home.file(b"f", b"new")
        assert ("name", ROOT_INODE, b"f") in await changed(m, world, world.home.root)
        new = await m.walk(b"f")
        assert new != old
        m.fs.forget([(old, 1)])
        assert await m.walk(b"f") == new


async def test_names_that_stand_for_others_by_at_sys(autojump_clock: MockClock) -> None:
    world = World()
    world.home.directory(b"bin.two")
    async with world.mounted(**VOLUME, sysnames=(b"one", b"two")) as m:
        await m.walk(b"bin.@sys")
        assert (await m.look_up(ROOT_INODE, b"lib.@sys", ANONYMOUS)).inode == 0
        world.home.directory(b"bin.one")
        events = await changed(m, world, world.home.root)
        assert ("name", ROOT_INODE, b"bin.@sys") in events
        assert ("name", ROOT_INODE, b"lib.@sys") not in events


async def test_a_volume_at_two_places_is_invalidated_at_both(autojump_clock: MockClock) -> None:
    world = World()
    world.home.mountpoint(b"m", b"#sub.")
    world.home.mountpoint(b"n", b"#sub.")
    sub = world.volume("sub")
    file = sub.file(b"f")
    async with world.mounted(**VOLUME) as m:
        inodes = {await m.walk(b"m/f"), await m.walk(b"n/f")}
        tops = {await m.walk(b"m"), await m.walk(b"n")}
        sub.unlink(b"f", keep=True)
        events = await changed(m, world, file, sub.root)
        assert {event for event in events if event[0] == "attributes"} == {
            ("attributes", inode) for inode in inodes | tops
        }
        assert {event for event in events if event[0] == "name"} == {
            ("name", top, b"f") for top in tops
        }


async def test_what_the_kernel_does_not_hold_makes_no_noise(autojump_clock: MockClock) -> None:
    world = World()
    file = world.home.file(b"f")
    async with world.mounted(**VOLUME) as m:
        inode = await m.walk(b"f")
        m.fs.forget([(inode, 1)])
        calls = world.client.calls.total()
        assert await changed(m, world, file) == []
        assert world.client.calls.total() == calls


async def test_an_open_file_is_still_told_of_after_its_name_went(autojump_clock: MockClock) -> None:
    world = World()
    file = world.home.file(b"f", b"old")
    async with world.mounted(**VOLUME) as m:
        inode = await m.walk(b"f")
        opened = await m.fs.open(inode, 0, ANONYMOUS)
        m.fs.forget([(inode, 1)])
        world.home.write(file, b"new")
        assert ("data", inode) in await changed(m, world, file)
        m.fs.release(opened.handle)
        assert await changed(m, world, file) == []


async def test_when_nothing_can_be_asked_all_goes_but_directories(
    autojump_clock: MockClock,
) -> None:
    world = World()
    file = world.home.file(b"f", b"data")
    world.home.directory(b"d")
    async with world.mounted(**VOLUME) as m:
        inode = await m.walk(b"f")
        await m.walk(b"d")
        await m.read_all(inode)
        await m.look_up(ROOT_INODE, b"absent", ANONYMOUS)
        world.notifier.take()
        world.dead.add("fs1")
        m.cache.break_all()
        await trio.sleep(100)
        events = world.notifier.take()
        assert {event for event in events if event[0] != "attributes"} == {
            ("data", inode),
            ("name", ROOT_INODE, b"f"),
            ("name", ROOT_INODE, b"absent"),
        }
        # The server comes back, and in the meantime the directory was replaced.
        world.dead.clear()
        world.home.unlink(b"d")
        world.home.directory(b"d")
        await m.look_up(ROOT_INODE, b"f", ANONYMOUS)
        assert ("name", ROOT_INODE, b"d") in world.notifier.take()
        assert file.body == b"data"


async def test_names_are_compared_when_the_cache_had_dropped_the_directory(
    autojump_clock: MockClock,
) -> None:
    world = World()
    world.home.file(b"stays")
    world.home.file(b"goes")
    async with world.mounted(**VOLUME) as m:
        await m.walk(b"stays")
        await m.walk(b"goes")
        for name in (b"absent", b"comes"):
            await m.look_up(ROOT_INODE, name, ANONYMOUS)
        world.home.unlink(b"goes")
        world.home.file(b"comes")
        vnode = m.vnode(world.home, world.home.root)
        vnode.expires = 0.0
        await m.cache.directory(vnode.volume, vnode.fid)
        world.notifier.take()
        root = m.nodes.get(ROOT_INODE)
        assert root.names is not None
        m.invalidator.names_changed(vnode, None)
        # what differs was told when the new version came; the rest was shown to be right
        assert world.notifier.take() == []
        assert set(root.names) == {b"stays"}


async def test_a_vnode_that_the_cache_drops_is_asked_for_again(autojump_clock: MockClock) -> None:
    world = World()
    file = world.home.file(b"f")
    async with world.mounted(**VOLUME) as m:
        inode = await m.walk(b"f")
        vnode = m.vnode(world.home, file)
        m.invalidator.vnode_dropped(vnode)
        assert vnode.holder is None
        assert (await m.stat(inode, ANONYMOUS)).inode == inode


def test_the_null_notifier_takes_everything() -> None:
    notifier = NullNotifier()
    notifier.invalidate_attributes(Inode(2))
    notifier.invalidate_data(Inode(2))
    notifier.invalidate_name(Inode(2), b"x")


async def test_a_change_waits_for_what_other_nodes_were_told(autojump_clock: MockClock) -> None:
    """... and for nothing else: the node that asked is locked in the kernel until the answer."""
    world = World()
    world.home.file(b"f")
    async with world.mounted(**VOLUME) as m:
        await m.walk(b"f")
        nodes = m.nodes
        root = nodes.get(ROOT_INODE)
        settled: list[set[Inode]] = []

        async def settle(inodes: Iterable[Inode]) -> None:
            settled.append(set(inodes))

        own = OwnChanges(nodes, world.notifier, (b"amd64_linux26",), settle)
        world.notifier.take()
        own.name_changed(root.vnode, b"f", root)
        await own.settled()
        assert (world.notifier.take(), settled) == ([], [])
        own.name_changed(root.vnode, b"f", None)  # nobody asked: it goes on in the background
        await own.settled()
        assert world.notifier.take() == [("name", 1, b"f"), ("attributes", 1)]
        assert settled == []
        elsewhere = Node(Inode(5), 1, {}, None)
        own.name_changed(root.vnode, b"g", elsewhere)
        own.file_changed(root.vnode, elsewhere)
        own.file_changed(None, elsewhere)
        await own.settled()
        await own.settled()
        assert settled == [{ROOT_INODE}]
