"""Listing directories with attributes."""

import stat
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from afsfuse.auth.identity import ANONYMOUS
from afsfuse.errors import AfsError, NotPermitted
from afsfuse.model import Inode, Rights
from afsfuse.vfs import ROOT_INODE, Listing
from tests.unit.afsfuse.vfs.world import Mounted, World
from tests.unit.afsfuse.vfs.worldservers import io_error

VOLUME: dict[str, Any] = {"source": "#root.cell."}


async def page_of(m: Mounted, inode: Inode, room: int = 1000) -> dict[bytes, Listing]:
    """One page of a directory as it is now, not taken."""
    handle = await m.fs.opendir(inode, ANONYMOUS)
    page = await m.fs.readdir(handle, 0, room)
    m.fs.releasedir(handle)
    return {listing.name: listing for listing in page}


async def test_all_names_come_once_with_attributes(autojump_clock: MockClock) -> None:
    world = World()
    files = {b"f%d" % n: world.home.file(b"f%d" % n, b"x" * n) for n in range(1000)}
    async with world.mounted(**VOLUME) as m:
        handle = await m.fs.opendir(ROOT_INODE, ANONYMOUS)
        seen: dict[bytes, Listing] = {}
        offset = 0
        while page := await m.fs.readdir(handle, offset, 37):
            assert len(page) <= 37
            for listing in page:
                assert listing.name not in seen
                seen[listing.name] = listing
                m.fs.listed(handle, listing)
                offset = listing.next_offset
        m.fs.releasedir(handle)
        assert seen.keys() == {b".", b"..", *files}
        for name, file in files.items():
            entry = seen[name].entry
            assert (entry.size, entry.generation) == (len(file.body), file.fid.unique)
            assert entry.attr_timeout > 3500
            assert entry.entry_timeout > 3500
        assert m.fs.statistics().nodes.lookups == 1001
        assert world.client.calls["bulk_status"] == 21  # 49 at a time
        assert world.client.calls["fetch_status"] <= 1


async def test_attributes_and_numbers_are_those_of_lookup(autojump_clock: MockClock) -> None:
    world = World()
    world.home.file(b"f", b"abc")
    world.home.link(b"l", b"f")
    world.home.directory(b"d")
    world.home.mountpoint(b"m", b"#missing.")
    async with world.mounted(**VOLUME) as m:
        listed = await page_of(m, ROOT_INODE)
        for name in (b"f", b"l", b"d", b"m"):
            entry = await m.look_up(ROOT_INODE, name, ANONYMOUS)
            assert (entry.inode, entry.mode) == (listed[name].entry.inode, listed[name].entry.mode)
        assert stat.S_ISLNK(listed[b"l"].entry.mode)
        assert stat.S_ISDIR(listed[b"m"].entry.mode)


async def test_dots_have_the_numbers_of_the_directory_and_its_parent(
    autojump_clock: MockClock,
) -> None:
    world = World()
    world.home.directory(b"e", at=world.home.directory(b"d"))
    async with world.mounted(**VOLUME) as m:
        outer, inner = await m.walk(b"d"), await m.walk(b"d/e")
        page = await page_of(m, inner)
        assert page[b"."].entry.inode == inner
        assert page[b".."].entry.inode == outer
        page = await page_of(m, ROOT_INODE)
        assert page[b"."].entry.inode == page[b".."].entry.inode == ROOT_INODE


async def test_what_the_kernel_does_not_take_is_forgotten(autojump_clock: MockClock) -> None:
    world = World()
    for number in range(300):
        world.home.file(b"f%d" % number)
    async with world.mounted(**VOLUME) as m:
        handle = await m.fs.opendir(ROOT_INODE, ANONYMOUS)
        page = await m.fs.readdir(handle, 0, 100)
        for listing in page[:40]:  # no more room
            m.fs.listed(handle, listing)
        assert m.fs.statistics().nodes.nodes == 1 + 98
        again = await m.fs.readdir(handle, page[39].next_offset, 100)
        assert again[0].name == page[40].name
        assert again[0].entry.inode == page[40].entry.inode
        m.fs.releasedir(handle)
        statistics = m.fs.statistics()
        assert statistics.nodes.nodes == statistics.nodes.lookups == 1 + 38
        assert statistics.open_directories == 0


async def test_an_entry_without_status_is_listed_all_the_same(autojump_clock: MockClock) -> None:
    world = World()
    world.home.file(b"good")
    world.home.file(b"bad").error = io_error()
    world.home.directory(b"worse").error = io_error()
    async with world.mounted(**VOLUME) as m:
        page = await page_of(m, ROOT_INODE)
        for name, kind in ((b"bad", stat.S_IFREG), (b"worse", stat.S_IFDIR)):
            entry = page[name].entry
            assert entry.mode == kind
            assert (entry.attr_timeout, entry.entry_timeout) == (0.0, 0.0)
            assert entry.inode
        assert page[b"good"].entry.attr_timeout > 0
        world.home.files.clear()


async def test_a_known_directory_is_listed_without_calls(autojump_clock: MockClock) -> None:
    world = World()
    for number in range(2000):
        world.home.file(b"f%d" % number)
    async with world.mounted(**VOLUME) as m:
        await m.names(ROOT_INODE)
        calls = world.client.calls.total()
        assert len(await m.names(ROOT_INODE)) == 2002
        assert world.client.calls.total() == calls


async def test_bulk_calls_run_side_by_side_and_ahead(autojump_clock: MockClock) -> None:
    world = World()
    world.rtt = 1.0
    for number in range(2000):
        world.home.file(b"f%d" % number)
    async with world.mounted(**VOLUME) as m:
        started = trio.current_time()
        await m.names(ROOT_INODE)
        # 41 bulk calls one after the other would take 41 round trips
        assert trio.current_time() - started < 12


async def test_reading_on_while_the_directory_changes(autojump_clock: MockClock) -> None:
    world = World()
    for number in range(500):
        world.home.file(b"f%d" % number)
    async with world.mounted(**VOLUME) as m:
        handle = await m.fs.opendir(ROOT_INODE, ANONYMOUS)
        first = await m.fs.readdir(handle, 0, 100)
        world.home.unlink(b"f400")
        world.home.file(b"new")
        m.break_callback([world.home.root])
        await trio.sleep(1)
        rest: list[Listing] = []
        offset = first[-1].next_offset
        while page := await m.fs.readdir(handle, offset, 100):
            rest += page
            offset = page[-1].next_offset
        names = [listing.name for listing in first + rest]
        assert len(names) == len(set(names)) == 502  # as it was when it was opened
        assert all(listing.entry.entry_timeout == 0.0 for listing in rest)
        again = await m.fs.readdir(handle, 0, 1000)
        offset = again[-1].next_offset
        again += await m.fs.readdir(handle, offset, 1000)
        assert b"new" in {listing.name for listing in again}
        assert b"f400" not in {listing.name for listing in again}
        m.fs.releasedir(handle)


async def test_entries_are_true_when_they_are_handed_out(autojump_clock: MockClock) -> None:
    world = World()
    files = [world.home.file(b"f%d" % number) for number in range(100)]
    async with world.mounted(**VOLUME) as m:
        handle = await m.fs.opendir(ROOT_INODE, ANONYMOUS)
        page = await m.fs.readdir(handle, 0, 50)
        m.break_callback(files)  # also those that wait to be handed out
        rest = await m.fs.readdir(handle, page[-1].next_offset, 100)
        assert len(rest) == 52
        assert all(listing.entry.attr_timeout == 0.0 for listing in rest)


async def test_seeking_back_and_beyond_the_end(autojump_clock: MockClock) -> None:
    world = World()
    for number in range(1200):
        world.home.file(b"f%d" % number)
    async with world.mounted(**VOLUME) as m:
        handle = await m.fs.opendir(ROOT_INODE, ANONYMOUS)
        pages = []
        offset = 0
        while page := await m.fs.readdir(handle, offset, 100):
            pages.append((offset, page))
            offset = page[-1].next_offset
        assert await m.fs.readdir(handle, 65535, 10) == []
        for offset, page in reversed(pages[1:]):
            again = await m.fs.readdir(handle, offset, 5)
            assert [listing.name for listing in again] == [old.name for old in page[:5]]


async def test_sixty_thousand_names(autojump_clock: MockClock) -> None:
    world = World()
    for number in range(60_000):
        world.home.file(b"f%05d" % number)
    async with world.mounted(**VOLUME) as m:
        names = await m.names(ROOT_INODE, room=5000)
        assert len(names) == len(set(names)) == 60_002
        assert (await m.look_up(ROOT_INODE, b"f59999", ANONYMOUS)).inode
        assert (await m.look_up(ROOT_INODE, b"f60000", ANONYMOUS)).inode == 0


async def test_closing_early_ends_the_work_in_the_background(autojump_clock: MockClock) -> None:
    world = World()
    world.rtt = 1.0
    for number in range(5000):
        world.home.file(b"f%d" % number)
    async with world.mounted(**VOLUME) as m:
        handle = await m.fs.opendir(ROOT_INODE, ANONYMOUS)
        await m.fs.readdir(handle, 0, 10)
        m.fs.releasedir(handle)
        calls = world.client.calls.total()
        await trio.sleep(60)
        assert world.client.calls.total() <= calls + 6  # those that were under way


async def test_a_dead_server_does_not_hide_names_that_are_known(autojump_clock: MockClock) -> None:
    world = World()
    for number in range(10):
        world.home.file(b"f%d" % number)
    async with world.mounted(**VOLUME) as m:
        handle = await m.fs.opendir(ROOT_INODE, ANONYMOUS)
        world.dead.add("fs1")
        page = await m.fs.readdir(handle, 0, 100)
        assert len(page) == 12


async def test_listing_takes_the_lookup_right_and_a_directory(autojump_clock: MockClock) -> None:
    world = World()
    world.home.directory(b"d").rights = Rights.READ
    world.home.file(b"f")
    async with world.mounted(**VOLUME) as m:
        with pytest.raises(NotPermitted):
            await m.fs.opendir(await m.walk(b"d"), ANONYMOUS)
        with pytest.raises(AfsError, match="not a directory"):
            await m.fs.opendir(await m.walk(b"f"), ANONYMOUS)
        with pytest.raises(AfsError, match="not open"):
            await m.fs.readdir(12345, 0, 10)


async def test_a_mount_point_whose_status_was_not_known_at_first(
    autojump_clock: MockClock,
) -> None:
    world = World()
    point = world.home.mountpoint(b"m", b"#sub.")
    world.volume("sub").file(b"x")
    point.error = io_error()
    async with world.mounted(**VOLUME) as m:
        assert await m.names(ROOT_INODE) == [b".", b"..", b"m"]
        held = (await page_of(m, ROOT_INODE))[b"m"].entry.inode
        with pytest.raises(AfsError):
            await m.look_up(ROOT_INODE, b"m", ANONYMOUS)
        point.error = None
        entry = await m.look_up(ROOT_INODE, b"m", ANONYMOUS)
        assert await m.names(entry.inode) == [b".", b"..", b"x"]
        m.fs.forget([(held, 1)])
        assert await m.names(entry.inode) == [b".", b"..", b"x"]


async def test_the_same_when_the_kernel_did_not_take_it(autojump_clock: MockClock) -> None:
    world = World()
    point = world.home.mountpoint(b"m", b"#sub.")
    world.volume("sub")
    point.error = io_error()
    async with world.mounted(**VOLUME) as m:
        handle = await m.fs.opendir(ROOT_INODE, ANONYMOUS)
        (_, _, offered) = await m.fs.readdir(handle, 0, 10)
        point.error = None
        entry = await m.look_up(ROOT_INODE, b"m", ANONYMOUS)
        assert entry.inode == offered.entry.inode
        m.fs.releasedir(handle)
        assert (await m.stat(entry.inode, ANONYMOUS)).is_directory
