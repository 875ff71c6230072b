"""Following paths in memory: how far it goes, that nobody is asked, and who is told what."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import trio

from afsfuse.auth.identity import ANONYMOUS, Identity
from afsfuse.model import Rights
from afsfuse.vfs.whereabouts import Ending, Whereabouts
from tests.unit.afsfuse.vfs.kernel import Kernel, mounted
from tests.unit.afsfuse.vfs.world import World
from tests.unit.afsfuse.vfs.worldservers import PROMISE

if TYPE_CHECKING:
    from trio.testing import MockClock

SOMEBODY = Identity(uid=1001)
INSIDER = Identity(uid=ANONYMOUS.uid)


def world_of_paths() -> World:
    world = World()
    world.volume("other").file(b"file", b"text")
    world.home.mountpoint(b"point", b"#other.")
    folder = world.home.directory(b"folder")
    world.home.file(b"inner", b"text", at=folder)
    world.home.link(b"link", b"folder/../folder/inner")
    world.home.link(b"away", b"/tmp/x")
    world.home.link(b"loop", b"loop")
    shut = world.home.directory(b"shut")
    shut.rights = Rights.NONE
    shut.permits[INSIDER] = Rights.LOOKUP | Rights.READ
    world.client.tokens.add(INSIDER)
    world.home.file(b"secret", b"text", at=shut)
    return world


def follow(kernel: Kernel, path: str, who: Identity = SOMEBODY) -> Whereabouts:
    """Where a path below the cell's root leads; nobody may be asked for that."""
    before = kernel.m.world.client.calls.total()
    found = kernel.m.fs.tracker.follow(os.fsencode(f"/home.org/{path}"), who)
    assert kernel.m.world.client.calls.total() == before
    return found


async def test_paths_are_followed_as_far_as_they_are_known(autojump_clock: MockClock) -> None:
    async with mounted(world_of_paths(), expire=0.0) as kernel:
        unknown = kernel.m.fs.tracker.follow(b"/home.org/folder", SOMEBODY)
        assert (unknown.ending, unknown.rest) == (Ending.UNKNOWN, b"home.org/folder")
        inner = await kernel.walk("home.org/folder/inner")
        await kernel.walk("home.org/point/file")
        found = follow(kernel, "folder/./inner")
        assert (found.ending, found.path) == (Ending.FOUND, b"/home.org/folder/inner")
        assert found.vnode is kernel.m.nodes.peek(inner).vnode
        crossed = follow(kernel, "point/file")
        assert crossed.volume is not None
        assert crossed.volume.name == "other"
        assert follow(kernel, "folder/inner/x").ending is Ending.NO_DIRECTORY
        absent = follow(kernel, "folder/nothing/at/all")
        assert (absent.ending, absent.rest) == (Ending.ABSENT, b"nothing/at/all")


async def test_symbolic_links_are_followed_by_their_bodies(autojump_clock: MockClock) -> None:
    async with mounted(world_of_paths(), expire=0.0) as kernel:
        await kernel.walk("home.org/folder/inner")
        for name in ("link", "away", "loop"):
            await kernel.m.fs.readlink(await kernel.walk(f"home.org/{name}"), ANONYMOUS)
        assert follow(kernel, "link").path == b"/home.org/folder/inner"
        away = follow(kernel, "away/y")
        assert (away.ending, away.rest) == (Ending.LEAVES, b"/tmp/x/y")
        assert follow(kernel, "loop").ending is Ending.LOOP


async def test_nobody_is_led_where_he_may_not_look(autojump_clock: MockClock) -> None:
    async with mounted(world_of_paths(), expire=0.0) as kernel:
        await kernel.walk("home.org/shut/secret")
        assert follow(kernel, "shut/secret", INSIDER).ending is Ending.FOUND
        for name in ("secret", "nothing"):
            told = follow(kernel, f"shut/{name}")
            assert (told.ending, told.path) == (Ending.CLOSED, b"/home.org/shut")


async def test_what_was_allowed_is_told_until_it_is_taken_back(autojump_clock: MockClock) -> None:
    world = world_of_paths()
    async with mounted(world, expire=0.0) as kernel:
        shut = await kernel.walk("home.org/shut")
        await kernel.walk("home.org/shut/secret")
        world.dead.update({"home.org", "fs1"})
        await trio.sleep(2 * PROMISE)
        vnode = kernel.m.nodes.peek(shut).vnode
        assert vnode is not None
        assert not vnode.valid(trio.current_time())
        assert follow(kernel, "shut/secret", INSIDER).ending is Ending.FOUND
        assert follow(kernel, "shut/secret").ending is Ending.CLOSED
        vnode.void()  # as a broken promise does
        assert follow(kernel, "shut/secret", INSIDER).ending is Ending.CLOSED
