"""One user's flood costs memory that is bounded, and the others go on. Figures are printed."""

from __future__ import annotations

import os
import statistics
import time
import tracemalloc
from typing import TYPE_CHECKING

import pytest
import trio

from afsfuse.errors import NotPermitted, ServerUnreachable
from afsfuse.vfs.files import Holders
from tests.unit.afsfuse.vfs.test_users import ALICE, BOB, OTHER, VOLUME, private_world
from tests.unit.afsfuse.vfs.worldservers import DEAD_TIME

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio.testing import MockClock

    from afsfuse.model import Inode
    from tests.unit.afsfuse.vfs.world import Mounted

FLOOD = 100_000
BYTES_A_FILE = 600
"""At most, for one open file."""
WAITS = 10_000
BYTES_A_WAIT = 9_000
SLOWER = 2.0  # times, at most, for others


async def others(m: Mounted, closed: Inode) -> float:
    """Two others do what they may and what they may not. -> seconds of processor time that it
    takes them in the middle; some have to wait for a collection of garbage.
    """
    took = []
    for _ in range(200):
        begin = time.thread_time()
        inode = await m.walk(b"public", OTHER)
        assert await m.read_all(inode, OTHER) == b"data"
        for who in (BOB, OTHER):
            with pytest.raises(NotPermitted):
                await m.stat(closed, who)
        took.append(time.thread_time() - begin)
    return statistics.median(took)


async def test_many_open_files_of_one_user(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether somebody has a file open is asked at each refusal: not by a look at all of them."""
    world, _ = private_world()
    world.home.file(b"public", b"data")
    asked = count_calls(monkeypatch)
    async with world.mounted(**VOLUME) as m:
        inode = await m.walk(b"p/f", ALICE)
        await m.read_all(inode, ALICE)
        before = await others(m, inode)
        tracemalloc.start()
        handles = []
        for _ in range(FLOOD):
            opened = m.fs.open_at_once(inode, os.O_RDONLY, ALICE)
            assert opened is not None
            handles.append(opened.handle)
        each = tracemalloc.get_traced_memory()[0] / FLOOD
        tracemalloc.stop()
        asked.clear()
        during = await others(m, inode)
        assert len(asked) == 400
        print(f"{FLOOD} open files: {each:.0f} bytes each; {during / before:.2f} times for others")
        assert each < BYTES_A_FILE
        assert during < SLOWER * before
        for handle in handles:
            m.fs.release(handle)
        left = m.fs.statistics()
        assert (left.open_files, left.open_directories) == (0, 0)
        with pytest.raises(NotPermitted):
            await m.stat(inode, BOB)


def count_calls(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    calls: list[object] = []
    has: Callable[..., bool] = Holders.has

    def counted(self: Holders, *arguments: object) -> bool:
        calls.append(arguments)
        return has(self, *arguments)

    monkeypatch.setattr(Holders, "has", counted)
    return calls


async def test_many_requests_of_one_user_that_wait(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """For a server that says nothing. A mount takes 4000 at most; this is beyond that."""
    world, _ = private_world()
    world.home.file(b"public", b"data")
    world.home.mountpoint(b"s", b"#slow.")
    slow = world.volume("slow", server="sleepy")
    files = [slow.file(b"%d" % number, b"x") for number in range(100)]
    ended: list[int] = []

    async def wait(inode: Inode) -> None:
        with pytest.raises(ServerUnreachable):
            await m.stat(inode, ALICE)
        ended.append(inode)

    async with world.mounted(**VOLUME) as m:
        inode = await m.walk(b"p/f", ALICE)
        waiting = [await m.walk(b"s/%d" % number, ALICE) for number in range(100)]
        before = await others(m, inode)
        world.dead.add("sleepy")
        m.break_callback(files)
        tracemalloc.start()
        for number in range(WAITS):
            nursery.start_soon(wait, waiting[number % 100])
        await trio.testing.wait_all_tasks_blocked()
        each = tracemalloc.get_traced_memory()[0] / WAITS
        tracemalloc.stop()
        calls = world.client.calls.total()
        during = await others(m, inode)
        assert not ended, "all still wait, and the others were served"
        print(f"{WAITS} waits: {each:.0f} bytes each; {during / before:.2f} times for others")
        assert each < BYTES_A_WAIT
        assert during < SLOWER * before
        await trio.sleep(10 * DEAD_TIME)
        assert len(ended) == WAITS
        assert calls < 2000, "those who wait for the same do so together"
