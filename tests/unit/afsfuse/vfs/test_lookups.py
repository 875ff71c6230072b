"""Looking up names and attributes in volumes."""

import stat
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from afsfuse.auth.identity import ANONYMOUS
from afsfuse.errors import AfsError, NameTooLong, NotPermitted, StaleInode
from afsfuse.model import Inode, Rights
from afsfuse.vfs import ROOT_INODE
from tests.unit.afsfuse.vfs.world import World
from tests.unit.afsfuse.vfs.worldservers import PROMISE, not_permitted

ROOT = ROOT_INODE
VOLUME: dict[str, Any] = {"source": "#root.cell."}


async def test_attributes_are_those_of_the_status(autojump_clock: MockClock) -> None:
    world = World()
    file = world.home.file(b"f", b"hello", mode=0o4755)
    file.owner, file.group, file.links, file.mtime = 1234, 5678, 3, 1_500_000_000
    async with world.mounted(**VOLUME) as m:
        entry = await m.look_up(ROOT, b"f", ANONYMOUS)
        assert entry.mode == stat.S_IFREG | 0o755  # suid is not honoured
        assert (entry.uid, entry.gid, entry.nlink, entry.size) == (1234, 5678, 3, 5)
        assert (entry.mtime, entry.blocks, entry.generation) == (1_500_000_000, 1, file.fid.unique)
        again = await m.stat(entry.inode, ANONYMOUS)
        assert (again.inode, again.mode, again.size) == (entry.inode, entry.mode, entry.size)


async def test_timeouts_are_what_is_left_of_the_promises(autojump_clock: MockClock) -> None:
    world = World()
    world.home.file(b"f")
    async with world.mounted(**VOLUME) as m:
        entry = await m.look_up(ROOT, b"f", ANONYMOUS)
        assert PROMISE - 11 < entry.attr_timeout <= PROMISE - 10
        assert PROMISE - 11 < entry.entry_timeout <= PROMISE - 10
        await trio.sleep(1000)
        entry = await m.look_up(ROOT, b"f", ANONYMOUS)
        assert PROMISE - 1011 < entry.attr_timeout <= PROMISE - 1010


async def test_warm_lookups_and_stats_call_no_server_and_do_not_suspend(
    autojump_clock: MockClock,
) -> None:
    world = World()
    world.home.file(b"f", at=world.home.directory(b"d"))
    async with world.mounted(**VOLUME) as m:
        directory = await m.walk(b"d")
        file = await m.walk(b"d/f")
        calls = world.client.calls.total()
        for request in (
            m.look_up(ROOT, b"d", ANONYMOUS),
            m.look_up(directory, b"f", ANONYMOUS),
            m.look_up(directory, b"none", ANONYMOUS),
            m.stat(file, ANONYMOUS),
            m.stat(directory, ANONYMOUS),
            m.fs.access(file, 4, ANONYMOUS),
            m.fs.open(file, 0, ANONYMOUS),
            m.fs.opendir(directory, ANONYMOUS),
        ):
            with pytest.raises(StopIteration):
                request.send(None)
        assert world.client.calls.total() == calls


async def test_absent_names_are_answered_from_the_directory_and_may_be_kept(
    autojump_clock: MockClock,
) -> None:
    world = World()
    async with world.mounted(**VOLUME) as m:
        entry = await m.look_up(ROOT, b"nothing", ANONYMOUS)
        assert entry.inode == 0
        assert PROMISE - 11 < entry.entry_timeout <= PROMISE - 10
        assert m.fs.statistics().nodes.absent_names == 1
        assert m.fs.statistics().nodes.lookups == 1


async def test_absent_names_beyond_the_bound_are_not_to_be_kept(autojump_clock: MockClock) -> None:
    world = World()
    async with world.mounted(**VOLUME, absent_limit=2) as m:
        timeouts = [
            (await m.look_up(ROOT, b"%d" % number, ANONYMOUS)).entry_timeout for number in range(3)
        ]
        assert timeouts[1] > 0.0
        assert timeouts[2] == 0.0


async def test_names_are_bytes_of_up_to_255(autojump_clock: MockClock) -> None:
    world = World()
    names = [b"\xff\xfe latin \xe9", b"n" * 255, b"a\nb", b"\x01"]
    for name in names:
        world.home.file(name)
    async with world.mounted(**VOLUME) as m:
        for name in names:
            assert (await m.look_up(ROOT, name, ANONYMOUS)).inode
        assert set(await m.names(ROOT)) == {b".", b"..", *names}
        with pytest.raises(NameTooLong):
            await m.look_up(ROOT, b"n" * 256, ANONYMOUS)


async def test_at_sys_stands_for_the_first_system_name_that_is_there(
    autojump_clock: MockClock,
) -> None:
    world = World()
    second = world.home.directory(b"bin.two")
    sub = world.home.directory(b"three")
    async with world.mounted(**VOLUME, sysnames=(b"one", b"two", b"three")) as m:
        entry = await m.look_up(ROOT, b"bin.@sys", ANONYMOUS)
        assert entry.generation == second.fid.unique
        assert (await m.look_up(ROOT, b"@sys", ANONYMOUS)).generation == sub.fid.unique
        assert (await m.look_up(ROOT, b"lib.@sys", ANONYMOUS)).inode == 0
        assert (await m.look_up(ROOT, b"@sysx", ANONYMOUS)).inode == 0


async def test_a_literal_at_sys_is_found_last(autojump_clock: MockClock) -> None:
    world = World()
    literal = world.home.file(b"x@sys")
    async with world.mounted(**VOLUME, sysnames=(b"one",)) as m:
        entry = await m.look_up(ROOT, b"x@sys", ANONYMOUS)
        assert entry.generation == literal.fid.unique


async def test_symbolic_links_are_read_as_they_are(autojump_clock: MockClock) -> None:
    world = World()
    world.home.link(b"l", b"../no\xffwhere/@sys")
    world.home.file(b"f")
    async with world.mounted(**VOLUME) as m:
        entry = await m.look_up(ROOT, b"l", ANONYMOUS)
        assert stat.S_ISLNK(entry.mode)
        assert await m.fs.readlink(entry.inode, ANONYMOUS) == b"../no\xffwhere/@sys"
        with pytest.raises(AfsError, match="not a symbolic link"):
            await m.fs.readlink(await m.walk(b"f"), ANONYMOUS)


async def test_dots_are_looked_up_for_servers_of_other_protocols(autojump_clock: MockClock) -> None:
    world = World()
    world.home.directory(b"e", at=world.home.directory(b"d"))
    async with world.mounted(**VOLUME) as m:
        outer, inner = await m.walk(b"d"), await m.walk(b"d/e")
        assert (await m.look_up(inner, b".", ANONYMOUS)).inode == inner
        assert (await m.look_up(inner, b"..", ANONYMOUS)).inode == outer
        assert (await m.look_up(ROOT, b"..", ANONYMOUS)).inode == ROOT


async def test_a_file_that_went_is_stale_and_its_name_is_asked_again(
    autojump_clock: MockClock,
) -> None:
    world = World()
    file = world.home.file(b"f")
    async with world.mounted(**VOLUME) as m:
        inode = await m.walk(b"f")
        world.home.unlink(b"f")
        m.break_callback([file])  # the break of the directory got lost
        with pytest.raises(StaleInode):
            await m.stat(inode, ANONYMOUS)
        assert (await m.look_up(ROOT, b"f", ANONYMOUS)).inode == 0


async def test_a_name_without_a_file_is_stale_after_one_more_try(autojump_clock: MockClock) -> None:
    world = World()
    file = world.home.file(b"f")
    del world.home.files[file.fid.vnode, file.fid.unique]
    async with world.mounted(**VOLUME) as m:
        with pytest.raises(StaleInode):
            await m.look_up(ROOT, b"f", ANONYMOUS)
        assert world.client.calls.total() < 10


async def test_errors_of_servers_are_passed_on(autojump_clock: MockClock) -> None:
    world = World()
    world.home.file(b"f").error = not_permitted()
    world.home.file(b"g")
    async with world.mounted(**VOLUME) as m:
        with pytest.raises(NotPermitted):
            await m.look_up(ROOT, b"f", ANONYMOUS)
        assert (await m.look_up(ROOT, b"g", ANONYMOUS)).inode
        assert m.fs.statistics().nodes.lookups == 2


async def test_searching_takes_the_lookup_right(autojump_clock: MockClock) -> None:
    world = World()
    closed = world.home.directory(b"d")
    world.home.file(b"f", at=closed)
    closed.rights = Rights.READ
    async with world.mounted(**VOLUME) as m:
        inode = await m.walk(b"d")
        with pytest.raises(NotPermitted, match="/d"):
            await m.look_up(inode, b"f", ANONYMOUS)


async def test_a_name_found_while_its_directory_changed_is_not_to_be_kept(
    autojump_clock: MockClock,
) -> None:
    world = World()
    world.rtt = 1.0
    world.home.file(b"f")
    async with world.mounted(**VOLUME) as m:
        await m.look_up(ROOT, b"nothing", ANONYMOUS)  # the directory is known now
        entries = []

        async def look() -> None:
            entries.append(await m.look_up(ROOT, b"f", ANONYMOUS))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(look)
            await trio.sleep(0.5)
            world.home.file(b"g")
            m.break_callback([world.home.root])
        assert entries[0].entry_timeout == 0.0


async def test_concurrent_lookups_make_one_node(autojump_clock: MockClock) -> None:
    world = World()
    world.home.file(b"f")
    async with world.mounted(**VOLUME) as m:
        inodes: list[Inode] = []

        async def look() -> None:
            inodes.append((await m.look_up(ROOT, b"f", ANONYMOUS)).inode)

        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(look)
        assert len(set(inodes)) == 1
        assert m.fs.statistics().nodes.nodes == 2
        m.fs.forget([(inodes[0], 20)])
        assert m.fs.statistics().nodes.nodes == 1


async def test_hard_links_are_one_inode(autojump_clock: MockClock) -> None:
    world = World()
    file = world.home.file(b"a")
    world.home.hard_link(b"b", file)
    async with world.mounted(**VOLUME) as m:
        assert await m.walk(b"a") == await m.walk(b"b")


async def test_numbers_survive_a_remount(autojump_clock: MockClock) -> None:
    world = World()
    world.home.file(b"f", at=world.home.directory(b"d"))
    world.home.mountpoint(b"m", b"#sub.")
    world.volume("sub").file(b"x")
    found = []
    for _ in range(2):
        async with world.mounted() as m:
            cell = b"home.org"
            found.append([await m.walk(cell + p) for p in (b"/d", b"/d/f", b"/m", b"/m/x")])
    assert found[0] == found[1]


async def test_what_is_looked_up_while_the_kernel_forgets_it_is_known_afterwards(
    autojump_clock: MockClock,
) -> None:
    """Under its old name, say, which an invalidation has just dropped."""
    world = World()
    folder = world.home.directory(b"d")
    file = world.home.file(b"f", b"hello")
    async with world.mounted(**VOLUME) as m:
        inode = await m.walk(b"f")
        directory = await m.walk(b"d")
        world.home.unlink(b"f", keep=True)  # somebody else moves it: a break of both directories
        world.home._enter(folder, b"f", file)
        m.break_callback([world.home.root, folder])
        await m.names(directory, take=False)
        world.rtt = 1.0
        async with trio.open_nursery() as nursery:
            nursery.start_soon(m.fs.lookup, directory, b"f", ANONYMOUS)
            await trio.sleep(0.5)
            m.fs.forget([(inode, 1)])
        entry = await m.stat(inode, ANONYMOUS)
        assert (entry.inode, entry.size) == (inode, 5)
        m.fs.forget([(inode, 1)])
        assert m.fs.statistics().nodes.nodes == 2
