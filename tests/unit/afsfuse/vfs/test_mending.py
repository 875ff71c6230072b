"""A tree that was let go while somebody was in it who was not seen, and what he notices."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest
import trio

from afsfuse.auth.identity import ANONYMOUS
from afsfuse.model import Inode
from afsfuse.vfs import ROOT_INODE
from tests.unit.afsfuse.vfs.kernel import DAEMON, EXPIRE, cell_of, mounted, shown

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio.testing import MockClock


async def test_his_path_is_restored_at_once_and_the_tree_goes_after_him(
    autojump_clock: MockClock,
) -> None:
    """Without a touch of anybody's: what stands below a lost name could never be let go."""
    world, _ = cell_of("a")
    async with mounted(world) as kernel:
        folder = await kernel.walk("home.org/a/folder")
        kernel.busy.add(folder)
        await trio.sleep(EXPIRE * 2 + 5)
        assert kernel.order == [b"a"]
        at = kernel.children[ROOT_INODE][b"home.org"]
        assert b"a" in kernel.children[at]
        assert kernel.m.nodes.at(b"/home.org/a/folder") is not None
        assert {(each.attr_timeout, each.entry_timeout) for each in kernel.again} == {(0.0, 0.0)}
        assert not any(tree.used for tree in kernel.m.nodes.trees), "that was no use"
        kernel.busy.clear()
        await trio.sleep(EXPIRE * 2 + 10)
        assert shown(kernel) == set()
        assert not kernel.references


async def test_only_the_walk_itself_is_answered_so(autojump_clock: MockClock) -> None:
    world, _ = cell_of("a")
    async with mounted(world, expire=0.0) as kernel:
        folder = await kernel.walk("home.org/a/folder")
        node = kernel.m.nodes.peek(folder)
        mender = kernel.m.fs.mender
        inside, leave = trio.Event(), trio.Event()

        async def walk(path: bytes, started: Callable[[int], object]) -> None:
            assert path == b"home.org/a/folder"
            started(DAEMON.tid)
            inside.set()
            await leave.wait()

        mender.walk = walk
        mender.mend(node)
        mender.mend(node)
        await inside.wait()
        assert node.parent is not None
        step = (node.parent.inode, b"folder")
        assert mender.answer(*step, ANONYMOUS) is None
        assert mender.answer(step[0], b"file", DAEMON) is None
        held = node.nlookup
        assert mender.answer(*step, DAEMON) is not None
        assert node.nlookup == held + 1
        leave.set()
        await trio.sleep(1)
        assert mender.answer(*step, DAEMON) is None


@pytest.mark.parametrize("code", [errno.ENOENT, errno.EIO])
async def test_a_path_that_is_gone_is_not_restored(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, code: int
) -> None:
    """What is below has no path any more either: so it is let go from there."""
    world, _ = cell_of("a")
    async with mounted(world, expire=0.0) as kernel:
        mender = kernel.m.fs.mender

        async def walk(path: bytes, started: Callable[[int], object]) -> None:
            started(DAEMON.tid)
            raise OSError(code, os.strerror(code))

        mender.walk = walk
        await kernel.walk("home.org/a/file")
        node = kernel.m.nodes.peek(await kernel.walk("home.org/a"))
        with caplog.at_level("DEBUG"):
            mender.mend(node)
            await trio.sleep(1)
        assert "/home.org/a is not looked up again" in caplog.text
        assert kernel.order == ([b"file"] if code == errno.ENOENT else [])


async def test_who_has_the_name_now_keeps_it(autojump_clock: MockClock) -> None:
    """A mount point was removed and made anew while somebody was inside."""
    world, _ = cell_of("a")
    async with mounted(world, expire=0.0) as kernel:
        old = kernel.m.nodes.peek(await kernel.walk("home.org/a"))
        assert old.parent is not None
        assert kernel.m.fs.mender.answer(old.parent.inode, b"a", DAEMON) is None
        inside, leave = trio.Event(), trio.Event()
        walks = []

        async def walk(path: bytes, started: Callable[[int], object]) -> None:
            walks.append(path)
            started(DAEMON.tid)
            inside.set()
            await leave.wait()

        mender = kernel.m.fs.mender
        mender.walk = walk
        mender.mend(old)
        await inside.wait()
        other = kernel.m.nodes.peek(await kernel.walk("home.org/a/file"))
        kernel.m.nodes.hold(old.parent, b"a", other)
        assert mender.answer(old.parent.inode, b"a", DAEMON) is None
        assert old.parent.names is not None
        assert old.parent.names[b"a"] is other
        leave.set()
        await trio.sleep(1)
        old.name = b"a"
        mender.mend(old)
        await trio.sleep(1)
        assert walks == [b"home.org/a"]


async def test_who_comes_in_while_a_tree_goes_is_told_of(autojump_clock: MockClock) -> None:
    world, _ = cell_of("a", "a.b")
    async with mounted(world, expire=0.0) as kernel:
        await kernel.walk("home.org/a/b/file")
        point = await kernel.walk("home.org/a")
        expiry = kernel.m.fs.expiry
        tree = expiry.find(point)
        assert tree is not None
        async with trio.open_nursery() as nursery:

            async def come() -> None:
                await kernel.asked.wait()  # the tree below is on its way
                await kernel.m.stat(point, ANONYMOUS)

            nursery.start_soon(come)
            ((used, keep),) = await expiry.let_go_at_once(tree)
        assert used is tree
        assert "came in just now" in keep.who
        assert shown(kernel) == {"/home.org", "/home.org/a"}
        assert expiry.expired == 1


async def test_a_tree_that_takes_long_to_go_is_waited_for(autojump_clock: MockClock) -> None:
    """The kernel gives ten thousand inodes back in pieces."""
    world, volumes = cell_of("a")
    for number in range(10):
        volumes["a"].file(b"f%d" % number)
    async with mounted(world, expire=0.0) as kernel:
        for number in range(10):
            await kernel.walk(f"home.org/a/f{number}")
        expiry = kernel.m.fs.expiry
        point = await kernel.walk("home.org/a")
        tree = expiry.find(point)
        assert tree is not None
        kernel.m.world.notifier.wake = lambda: None

        async def forget_slowly() -> None:
            for inode in [*kernel.children.pop(point).values(), point]:
                await trio.sleep(0.7)
                kernel.m.fs.forget([(Inode(inode), kernel.references.pop(inode))])

        async with trio.open_nursery() as nursery:
            nursery.start_soon(forget_slowly)
            assert await expiry.let_go_at_once(tree) == []
