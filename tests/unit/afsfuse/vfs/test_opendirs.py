"""What the kernel may keep of a listing, and when that still holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio

from afsfuse.auth.identity import ANONYMOUS
from afsfuse.cache import Vnode
from afsfuse.vfs import ROOT_INODE
from afsfuse.vfs.entry import KEPT, LISTED
from afsfuse.vfs.inodes import MIXED_PAGES
from tests.unit.afsfuse.vfs.world import Mounted, World
from tests.unit.afsfuse.vfs.worldservers import io_error

if TYPE_CHECKING:
    import pytest
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


async def test_what_changed_before_it_was_first_read_is_listed(autojump_clock: MockClock) -> None:
    """The kernel has been told of the change already, and would keep the old listing."""
    world = a_world()
    async with world.mounted(**VOLUME) as m:
        handle = await m.fs.opendir(ROOT_INODE, ANONYMOUS)
        world.home.file(b"new", b"x")
        m.break_callback([world.home.root])
        await trio.sleep(1)
        page = await m.fs.readdir(handle, 0, 2 * FILES)
        assert b"new" in {listing.name for listing in page}
        m.fs.releasedir(handle)


async def test_a_listing_of_unknown_things_is_put_together_with_no_other(
    autojump_clock: MockClock,
) -> None:
    world = a_world()
    world.home.file(b"broken", b"x").error = io_error()
    async with world.mounted(**VOLUME) as m:
        first = await m.fs.opendir(ROOT_INODE, ANONYMOUS)
        assert first & LISTED
        await m.fs.readdir(first, 0, 2 * FILES)
        assert await marks(m) == 0
        m.fs.releasedir(first)
        assert await marks(m) == LISTED


async def test_a_volume_restored_at_the_same_version_is_listed_anew(
    autojump_clock: MockClock,
) -> None:
    """Data versions are counted up from the dump's, over other names."""
    world = a_world()
    async with world.mounted(**VOLUME) as m:
        await m.names(ROOT_INODE)
        assert await marks(m) == LISTED | KEPT
        slow = await m.fs.opendir(ROOT_INODE, ANONYMOUS)
        root, version = world.home.root, world.home.root.version
        world.home.unlink(b"f7")
        world.home.file(b"new", b"x")
        root.version, world.home.created = version, 2
        m.break_callback([root])
        assert await marks(m) == 0  # the old names are listed, too
        m.fs.releasedir(slow)
        assert await marks(m) == LISTED
        assert b"new" in await m.names(ROOT_INODE)
        assert await marks(m) == LISTED | KEPT


async def test_two_volumes_at_one_place_are_never_kept_together(autojump_clock: MockClock) -> None:
    world = World()
    world.home.mountpoint(b"m", b"#v.")
    world.volume("v").file(b"old", b"x")
    async with world.mounted(target_lifetime=5.0, **VOLUME) as m:
        point = await m.walk(b"m")
        await m.names(point)
        slow = await m.fs.opendir(point, ANONYMOUS)
        assert slow & LISTED
        del world.volumes["home.org", "v"]
        world.volume("v").file(b"new", b"x")
        await trio.sleep(6)
        assert await marks(m, point) == 0
        m.fs.releasedir(slow)
        assert await marks(m, point) == LISTED


async def test_who_has_it_open_is_told_before_the_change_is_found_out(
    autojump_clock: MockClock,
) -> None:
    """Listing it from the start again may be no question to us: it can be of the same second."""
    world = a_world()
    async with world.mounted(**VOLUME) as m:
        await m.names(ROOT_INODE)
        handle = await m.fs.opendir(ROOT_INODE, ANONYMOUS)
        world.notifier.take()
        m.break_callback([world.home.root])
        assert ("data", ROOT_INODE) in world.notifier.take()
        m.fs.releasedir(handle)
        assert await marks(m) == LISTED | KEPT  # nothing was changed
        world.notifier.take()
        m.break_callback([world.home.root])
        assert ("data", ROOT_INODE) not in world.notifier.take()


async def test_opening_a_huge_directory_looks_at_few_of_its_names(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Programs open one to have a descriptor, too, and to make it durable."""
    count, looked = 20 * FILES, 0
    world = World()
    for number in range(count):
        world.home.file(b"f%d" % number, b"x")
    async with world.mounted(**VOLUME) as m:
        await m.names(ROOT_INODE)
        valid = Vnode.valid

        def seen(vnode: Vnode, now: float) -> bool:
            nonlocal looked
            looked += 1
            return valid(vnode, now)

        monkeypatch.setattr(Vnode, "valid", seen)
        assert await marks(m) == LISTED | KEPT
        assert looked < count // 2


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
