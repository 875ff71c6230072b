"""What the kernel may keep of a listing, and when that still holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio

from afsfuse.auth.identity import ANONYMOUS
from afsfuse.vfs import ROOT_INODE
from afsfuse.vfs.entry import KEPT, LISTED
from afsfuse.vfs.inodes import MIXED_PAGES
from tests.unit.afsfuse.vfs.world import Mounted, World, io_error

if TYPE_CHECKING:
    from trio.testing import MockClock

    from afsfuse.model import Inode

VOLUME: dict[str, Any] = {"source": "#root.cell."}
FILES = 100


def a_world() -> World:
    world = World()
    for number in range(FILES):
        world.home.file(b"f%d" % number, b"x")
    return world


async def marks(m: Mounted, inode: Inode = ROOT_INODE) -> int:
    """What is said of the listing by who opens the directory now."""
    handle = await m.fs.opendir(inode, ANONYMOUS)
    m.fs.releasedir(handle)
    return handle & (LISTED | KEPT)


async def test_what_was_listed_is_kept(autojump_clock: MockClock) -> None:
    async with a_world().mounted(**VOLUME) as m:
        assert await marks(m) == LISTED
        await m.names(ROOT_INODE)
        assert await marks(m) == LISTED | KEPT
        assert await marks(m) == LISTED | KEPT


async def test_what_another_client_changed_is_listed_anew(autojump_clock: MockClock) -> None:
    world = a_world()
    async with world.mounted(**VOLUME) as m:
        await m.names(ROOT_INODE)
        world.notifier.take()
        world.home.file(b"new", b"x")
        m.break_callback([world.home.root])
        assert await marks(m) == LISTED
        assert ("data", ROOT_INODE) in world.notifier.take()  # who has it open lists it anew, too
        assert b"new" in await m.names(ROOT_INODE)
        assert await marks(m) == LISTED | KEPT


async def test_what_the_kernel_forgot_is_listed_anew(autojump_clock: MockClock) -> None:
    async with a_world().mounted(**VOLUME) as m:
        await m.names(ROOT_INODE)
        inodes = [child.inode for child in (m.nodes.get(ROOT_INODE).names or {}).values()]
        m.fs.forget([(inode, 1) for inode in inodes[: FILES // 10]])
        assert await marks(m) == LISTED | KEPT  # it can ask for a few one by one
        m.fs.forget([(inode, 1) for inode in inodes[FILES // 10 : FILES // 5]])
        assert await marks(m) == LISTED


async def test_what_would_be_asked_one_by_one_is_listed_anew(autojump_clock: MockClock) -> None:
    world = a_world()
    async with world.mounted(**VOLUME) as m:
        await m.names(ROOT_INODE)
        files = [file for file in world.home.files.values() if file is not world.home.root]
        m.break_callback(files)
        assert await marks(m) == LISTED
        await m.names(ROOT_INODE)
        assert await marks(m) == LISTED | KEPT


async def test_where_mount_points_are_is_listed_anew(autojump_clock: MockClock) -> None:
    """The kernel would look their names up, and who only lists there uses no tree."""
    world = a_world()
    world.home.mountpoint(b"m", b"#v.")
    async with world.mounted(**VOLUME) as m:
        await m.names(ROOT_INODE)
        assert await marks(m) == LISTED


async def test_a_listing_of_unknown_things_is_not_kept(autojump_clock: MockClock) -> None:
    world = a_world()
    world.home.file(b"broken", b"x").error = io_error()
    async with world.mounted(**VOLUME) as m:
        await m.names(ROOT_INODE)
        assert m.nodes.get(ROOT_INODE).pages_version == MIXED_PAGES
        assert await marks(m) == LISTED


async def test_two_versions_are_never_kept_together(autojump_clock: MockClock) -> None:
    """The kernel appends what comes through any handle to what it has of the directory."""
    world = a_world()
    async with world.mounted(**VOLUME) as m:
        slow = await m.fs.opendir(ROOT_INODE, ANONYMOUS)
        again = await m.fs.opendir(ROOT_INODE, ANONYMOUS)
        assert slow & LISTED
        assert again & LISTED
        world.home.file(b"new", b"x")
        m.break_callback([world.home.root])
        assert await marks(m) == 0
        m.fs.releasedir(slow)
        assert await marks(m) == 0
        m.fs.releasedir(again)
        assert await marks(m) == LISTED


async def test_a_volume_in_place_of_another_is_listed_anew(autojump_clock: MockClock) -> None:
    """Their roots may well be of the same data version."""
    world = World()
    world.home.mountpoint(b"m", b"#v.")
    world.volume("v").file(b"old", b"x")
    async with world.mounted(target_lifetime=5.0, **VOLUME) as m:
        point = await m.walk(b"m")
        assert b"old" in await m.names(point)
        assert await marks(m, point) == LISTED | KEPT
        del world.volumes["home.org", "v"]
        world.volume("v").file(b"new", b"x")
        await trio.sleep(6)
        world.notifier.take()
        assert await marks(m, point) == LISTED
        assert ("data", point) in world.notifier.take()
        assert b"new" in await m.names(point)


async def test_the_dynamic_root_is_never_kept(autojump_clock: MockClock) -> None:
    async with World().mounted() as m:
        await m.names(ROOT_INODE)
        assert await marks(m) == 0
