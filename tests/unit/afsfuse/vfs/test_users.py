"""Users of one mount are kept apart: what one has brought into the cache is not another one's."""

import errno
import os
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from afsfuse.auth.identity import ANONYMOUS, Caller, Identity
from afsfuse.errors import AfsError, NotPermitted
from afsfuse.model import Inode, Rights
from afsfuse.vfs import ROOT_INODE
from tests.unit.afsfuse.vfs.world import Mounted, World
from tests.unit.afsfuse.vfs.worldfiles import FakeFile

VOLUME: dict[str, Any] = {"source": "#root.cell."}
READ = Rights.READ | Rights.LOOKUP
ALICE, BOB, OTHER, ROOT = (Caller(uid, uid, uid + 7) for uid in (1001, 1002, 65534, 0))
ALICE_ID, BOB_ID = Identity(1001), Identity(1002)


def private_world() -> tuple[World, FakeFile]:
    """Alice may read in `p`, Bob may look into it only, nobody else may do anything."""
    world = World()
    world.client.tokens = {ALICE_ID, BOB_ID}
    closed = world.home.directory(b"p")
    closed.rights = Rights.NONE
    closed.permits = {ALICE_ID: READ, BOB_ID: Rights.LOOKUP}
    world.home.file(b"f", b"secret", at=closed)
    world.home.link(b"l", b"target", at=closed)
    world.home.directory(b"d", at=closed).rights = Rights.NONE
    return world, closed


Operation = Callable[[Mounted, dict[bytes, Inode], Caller], Awaitable[object]]


async def _lookup(m: Mounted, inodes: dict[bytes, Inode], who: Caller) -> object:
    return await m.look_up(inodes[b"p"], b"d", who)


async def _absent(m: Mounted, inodes: dict[bytes, Inode], who: Caller) -> object:
    return await m.look_up(inodes[b"p"], b"nothing", who)


async def _list(m: Mounted, inodes: dict[bytes, Inode], who: Caller) -> object:
    return await m.names(inodes[b"p"], caller=who)


async def _stat_directory(m: Mounted, inodes: dict[bytes, Inode], who: Caller) -> object:
    return await m.stat(inodes[b"p/d"], who)


async def _stat_link(m: Mounted, inodes: dict[bytes, Inode], who: Caller) -> object:
    return await m.stat(inodes[b"p/l"], who)


async def _readlink(m: Mounted, inodes: dict[bytes, Inode], who: Caller) -> object:
    return await m.fs.readlink(inodes[b"p/l"], who)


async def _find_file(m: Mounted, inodes: dict[bytes, Inode], who: Caller) -> object:
    return await m.look_up(inodes[b"p"], b"f", who)


async def _stat_file(m: Mounted, inodes: dict[bytes, Inode], who: Caller) -> object:
    return await m.stat(inodes[b"p/f"], who)


async def _read(m: Mounted, inodes: dict[bytes, Inode], who: Caller) -> object:
    return await m.read_all(inodes[b"p/f"], who)


async def _attribute(m: Mounted, inodes: dict[bytes, Inode], who: Caller) -> object:
    return await m.fs.getxattr(inodes[b"p/f"], b"afs.fid", who)


async def _acl(m: Mounted, inodes: dict[bytes, Inode], who: Caller) -> object:
    return await m.fs.getxattr(inodes[b"p/f"], b"afs.acl", who)


async def _attributes(m: Mounted, inodes: dict[bytes, Inode], who: Caller) -> object:
    return await m.fs.listxattr(inodes[b"p/f"], who)


LOOKING: list[Operation] = [_lookup, _absent, _list, _stat_directory, _stat_link, _readlink]
READING: list[Operation] = [_find_file, _stat_file, _read, _attribute, _acl, _attributes]
PATHS = (b"p", b"p/f", b"p/l", b"p/d")


async def _may(m: Mounted, inodes: dict[bytes, Inode], do: Operation, who: Caller) -> bool:
    try:
        await do(m, inodes, who)
    except NotPermitted:
        return False
    return True


@pytest.mark.parametrize("first", [ALICE, BOB, OTHER, ROOT], ids=["alice", "bob", "other", "root"])
@pytest.mark.parametrize("operation", LOOKING + READING)
async def test_each_user_has_his_own_rights_whoever_came_first(
    autojump_clock: MockClock, operation: Operation, first: Caller
) -> None:
    world, _ = private_world()
    allowed = {ALICE} if operation in READING else {ALICE, BOB}
    async with world.mounted(**VOLUME) as m:
        inodes = {path: await m.walk(path, ALICE) for path in PATHS}
        await m.read_all(inodes[b"p/f"], ALICE)  # everything is in the cache
        order = [first, *(who for who in (OTHER, BOB, ROOT, ALICE) if who is not first)]
        for who in [*order, *order]:
            assert await _may(m, inodes, operation, who) is (who in allowed), who


@pytest.mark.parametrize("operation", LOOKING + READING)
async def test_a_right_that_was_taken_away_is_gone(
    autojump_clock: MockClock, operation: Operation
) -> None:
    world, closed = private_world()
    async with world.mounted(**VOLUME) as m:
        inodes = {path: await m.walk(path, ALICE) for path in PATHS}
        assert await _may(m, inodes, operation, ALICE)
        closed.permits = {BOB_ID: READ}
        m.break_callback([closed])
        assert not await _may(m, inodes, operation, ALICE)
        assert await _may(m, inodes, operation, BOB)


@pytest.mark.parametrize("operation", LOOKING + READING)
async def test_with_the_token_goes_what_was_seen_with_it(
    autojump_clock: MockClock, operation: Operation
) -> None:
    world, closed = private_world()
    async with world.mounted(**VOLUME) as m:
        inodes = {path: await m.walk(path, ALICE) for path in PATHS}
        assert await _may(m, inodes, operation, ALICE)
        world.client.tokens.discard(ALICE_ID)
        m.cache.token_changed(ALICE_ID, "home.org")
        assert not await _may(m, inodes, operation, ALICE)
        world.client.tokens.add(ALICE_ID)
        closed.permits = {}  # another token: it names somebody else
        m.cache.token_changed(ALICE_ID, "home.org")
        assert not await _may(m, inodes, operation, ALICE)


async def test_the_kernel_keeps_nothing_of_a_closed_directory(autojump_clock: MockClock) -> None:
    world, _ = private_world()
    async with world.mounted(**VOLUME) as m:
        closed = await m.look_up(ROOT_INODE, b"p", ALICE)
        assert closed.attr_timeout > 0, "the directory itself stands in a public one"
        assert closed.entry_timeout > 0
        for name in (b"f", b"l", b"d", b"nothing"):
            entry = await m.look_up(closed.inode, name, ALICE)
            assert (entry.entry_timeout, entry.attr_timeout) == (0.0, 0.0)
            if entry.inode:
                assert (await m.stat(entry.inode, ALICE)).attr_timeout == 0.0
        handle = await m.fs.opendir(closed.inode, ALICE)
        for listing in await m.fs.readdir(handle, 0, 100):
            if listing.name not in (b".", b".."):
                entry = listing.entry
                assert (entry.entry_timeout, entry.attr_timeout) == (0.0, 0.0)
        m.fs.releasedir(handle)


async def test_files_are_public_only_where_anybody_may_read(autojump_clock: MockClock) -> None:
    """A directory into which all may look, but in which not all may read."""
    world, closed = private_world()
    closed.rights = Rights.LOOKUP
    async with world.mounted(**VOLUME) as m:
        inode = await m.walk(b"p")
        entry = await m.look_up(inode, b"f", ALICE)
        assert entry.entry_timeout > 0
        assert entry.attr_timeout == 0.0
        assert (await m.look_up(inode, b"d", ALICE)).attr_timeout > 0
        with pytest.raises(NotPermitted):
            await m.look_up(inode, b"f", OTHER)
        assert b"f" in await m.names(inode, caller=OTHER)


async def test_a_listing_hides_the_attributes_of_what_its_reader_may_not_see(
    autojump_clock: MockClock,
) -> None:
    world, _ = private_world()
    async with world.mounted(**VOLUME) as m:
        inode = await m.walk(b"p", ALICE)
        sizes = {}
        for who in (ALICE, BOB):
            handle = await m.fs.opendir(inode, who)
            page = await m.fs.readdir(handle, 0, 100)
            sizes[who] = {listing.name: listing.entry.size for listing in page}
            m.fs.releasedir(handle)
        assert sizes[ALICE][b"f"] == len(b"secret")
        assert sizes[BOB][b"f"] == 0
        assert sizes[BOB].keys() == sizes[ALICE].keys()


async def test_a_directory_that_is_closed_is_forgotten_by_the_kernel(
    autojump_clock: MockClock,
) -> None:
    world, closed = private_world()
    closed.rights = READ
    async with world.mounted(**VOLUME) as m:
        top = await m.walk(b"p")
        inodes = {name: await m.walk(b"p/" + name) for name in (b"f", b"l", b"d")}
        assert (await m.look_up(top, b"nothing", OTHER)).entry_timeout > 0
        world.notifier.take()
        closed.rights = Rights.NONE
        m.break_callback([closed])
        await trio.sleep(1)
        events = set(world.notifier.take())
        assert {("attributes", inode) for inode in inodes.values()} <= events
        assert {("name", top, name) for name in (*inodes, b"nothing")} <= events


async def test_other_changes_of_a_list_cost_the_kernel_nothing(autojump_clock: MockClock) -> None:
    world, closed = private_world()
    closed.rights = READ
    async with world.mounted(**VOLUME) as m:
        top = await m.walk(b"p")
        await m.walk(b"p/f")
        world.notifier.take()
        closed.rights = READ | Rights.WRITE
        closed.permits = {}
        m.break_callback([closed])
        await trio.sleep(1)
        assert world.notifier.take() == [("attributes", top)]


async def test_a_file_keeps_the_identity_that_opened_it(autojump_clock: MockClock) -> None:
    world, closed = private_world()
    async with world.mounted(**VOLUME) as m:
        inode = await m.walk(b"p/f", ALICE)
        opened = await m.fs.open(inode, os.O_RDONLY, ALICE)
        assert bytes(await m.fs.read(opened.handle, 0, 100)) == b"secret"
        assert m.fs.read_at_once(opened.handle, 0, 100) is not None
        closed.permits = {}
        m.break_callback([closed])
        assert m.fs.read_at_once(opened.handle, 0, 100) is None
        with pytest.raises(NotPermitted):
            await m.fs.read(opened.handle, 0, 100)
        assert (await m.stat(inode, ALICE)).size == 6, "who has it open may know it"
        with pytest.raises(NotPermitted):
            await m.stat(inode, OTHER)
        m.fs.release(opened.handle)
        with pytest.raises(NotPermitted):
            await m.stat(inode, ALICE)


async def test_a_refusal_is_nobody_elses(autojump_clock: MockClock) -> None:
    """All at once, so that one finds the fetch of another under way."""
    world, _ = private_world()
    world.rtt = 1.0
    async with world.mounted(**VOLUME) as m:
        top = await m.walk(b"p", ALICE)
        outcomes: dict[Caller, object] = {}

        async def look(who: Caller) -> None:
            try:
                outcomes[who] = (await m.look_up(top, b"f", who)).size
            except AfsError as exc:
                outcomes[who] = exc.errno

        async with trio.open_nursery() as nursery:
            for who in (OTHER, BOB, ROOT, ALICE):
                nursery.start_soon(look, who)
        assert outcomes == {
            OTHER: errno.EACCES, BOB: errno.EACCES, ROOT: errno.EACCES, ALICE: 6,
        }  # fmt: skip


async def test_a_mount_point_in_a_closed_directory(autojump_clock: MockClock) -> None:
    world, closed = private_world()
    world.home.mountpoint(b"m", b"#sub.", at=closed)
    world.volume("sub").file(b"x", b"data")
    async with world.mounted(**VOLUME) as m:
        top = await m.walk(b"p", OTHER)
        for _ in range(2):
            with pytest.raises(NotPermitted):
                await m.look_up(top, b"m", OTHER)
            entry = await m.look_up(top, b"m", ALICE)
            assert (entry.entry_timeout, entry.attr_timeout) == (0.0, 0.0)
            assert (await m.look_up(entry.inode, b"x", ALICE)).size == 4


async def test_public_files_are_fetched_by_whoever_asks_and_kept_for_all(
    autojump_clock: MockClock,
) -> None:
    world, _ = private_world()
    world.home.file(b"public", b"data")
    async with world.mounted(**VOLUME) as m:
        inode = await m.walk(b"public", ALICE)
        assert await m.read_all(inode, ALICE) == b"data"
        calls = world.client.calls.total()
        for who in (BOB, OTHER, ROOT, ANONYMOUS):
            assert m.fs.open_at_once(await m.walk(b"public", who), os.O_RDONLY, who) is not None
            assert await m.read_all(inode, who) == b"data"
        assert world.client.calls.total() == calls
        assert world.client.callers.keys() == {ALICE_ID, Identity()}
