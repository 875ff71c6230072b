"""Forgetting what is cached because somebody says so."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, cast

import trio

from afsfuse.auth.identity import ANONYMOUS
from tests.unit.afsfuse.vfs.world import World

if TYPE_CHECKING:
    import pytest
    from trio.testing import MockClock

SOURCE = "#home.org:root.cell."


async def test_what_is_flushed_is_asked_for_again(autojump_clock: MockClock) -> None:
    world = World()
    files = [world.home.file(b"file%d" % n, b"x" * 5000) for n in range(2)]
    async with world.mounted(source=SOURCE) as m:
        inodes = [await m.walk(b"file%d" % n) for n in range(2)]
        flusher, calls = m.cache.flusher, world.client.calls

        async def fetches() -> int:
            before = calls["fetch_data"]
            for inode in inodes:
                assert await m.read_all(inode) == b"x" * 5000
            return calls["fetch_data"] - before

        assert await fetches() == 2
        assert await fetches() == 0
        assert flusher.flush([m.vnode(world.home, files[0])]) == 0
        assert await fetches() == 1
        assert await flusher.flush_volume(cast("Any", world.home)) == 0
        assert await fetches() >= 2  # the directory may be read again, too
        assert await flusher.flush_all() == 0
        assert await fetches() >= 2
        assert await fetches() == 0
        assert m.vnode(world.home, files[0]).expires > 0


async def test_it_tells_how_much_is_left(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("afsfuse.cache.flushing._AT_ONCE", 2)
    world = World()
    files = [world.home.file(b"file%d" % n, b"x") for n in range(5)]
    async with world.mounted(source=SOURCE) as m:
        for n in range(5):
            await m.read_all(await m.walk(b"file%d" % n))
        flusher, seen = m.cache.flusher, []
        vnodes = [m.vnode(world.home, file) for file in files]

        async def look() -> None:
            while True:
                seen.append(flusher.left)
                await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(look)
            await flusher._flush_many(vnodes)
            nursery.cancel_scope.cancel()
        assert {3, 1} & set(seen)
        assert flusher.left == 0
        with trio.move_on_after(1) as scope:
            scope.cancel()
            await flusher._flush_many(vnodes)
        assert scope.cancelled_caught
        assert flusher.left == 0


async def test_what_is_not_stored_is_kept(autojump_clock: MockClock) -> None:
    world = World()
    file = world.home.file(b"file", b"x" * 5000)
    async with world.mounted(source=SOURCE) as m:
        inode = await m.walk(b"file")
        await m.read_all(inode)
        vnode = m.vnode(world.home, file)
        data = vnode.data
        vnode.dirty = cast("Any", object())  # as if somebody had written to it
        assert m.cache.flusher.flush([vnode]) == 1
        assert vnode.data is data
        assert vnode.expires == 0.0
        vnode.dirty = None


async def test_the_size_of_the_cache(autojump_clock: MockClock) -> None:
    world = World()
    world.home.file(b"file", b"x" * (3 << 20))
    async with world.mounted(source=SOURCE) as m:
        flusher = m.cache.flusher
        opened = await m.fs.open(await m.walk(b"file"), os.O_RDONLY, ANONYMOUS)
        for offset in range(0, 3 << 20, 1 << 20):
            await m.fs.read(opened.handle, offset, 1 << 20)
        assert (flusher.limit, flusher.first_limit, flusher.on_disk) == (64 << 20, 64 << 20, False)
        assert flusher.used >= 3 << 20
        flusher.resize(1 << 20)
        assert (flusher.limit, flusher.first_limit) == (1 << 20, 64 << 20)
        assert flusher.used <= 1 << 20
        m.fs.release(opened.handle)
