"""What happens in the background after a break of something that the kernel holds."""

from __future__ import annotations

import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import trio

from afsfuse.cache import CacheManager, ReadState, Vnode
from afsfuse.errors import ServerUnreachable
from afsfuse.interfaces.common import Fid
from tests.unit.afsfuse.cache.blobs import directory_blob, many
from tests.unit.afsfuse.cache.fakes import (
    ADDRESS,
    FakeClient,
    Line,
    Listener,
    fid,
    make_cache,
    make_volume,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from trio.testing import MockClock

VOLUME = make_volume()
ROOT = fid(1)
FILE = fid(2)


class World:
    """A running cache whose listener holds everything."""

    def __init__(self, **options: int) -> None:
        self.client = FakeClient(Line(rtt=0.01))
        self.client.put_directory(ROOT, many(10))
        self.client.put(FILE, b"first")
        self.listener = Listener()
        self.cache: CacheManager = make_cache(self.client, listener=self.listener, **options)

    def vnode(self, number: int) -> Vnode:
        vnode = self.cache.peek(VOLUME, fid(number))
        assert vnode is not None
        return vnode

    async def settle(self) -> None:
        await trio.sleep(1)


@asynccontextmanager
async def world(**options: int) -> AsyncIterator[World]:
    world = World(**options)
    async with trio.open_nursery() as nursery:
        world.client.nursery = nursery
        await nursery.start(world.cache.run)
        yield world
        nursery.cancel_scope.cancel()


async def test_a_changed_file_is_told_once_its_version_is_known(autojump_clock: MockClock) -> None:
    async with world() as w:
        await w.cache.read(VOLUME, FILE, 0, 10, ReadState())
        w.client.write(FILE, b"second")
        await w.settle()
        vnode = w.vnode(2)
        assert w.listener.broken == [vnode]
        assert w.listener.data == [vnode]
        assert vnode.valid(trio.current_time())
        assert vnode.status.length == 6
        assert w.cache.statistics().revalidated == 1


async def test_a_changed_mode_leaves_the_data_alone(autojump_clock: MockClock) -> None:
    async with world() as w:
        await w.cache.read(VOLUME, FILE, 0, 10, ReadState())
        w.client.chmod(FILE, 0o600)
        await w.settle()
        assert w.listener.broken == [w.vnode(2)]
        assert w.listener.data == []
        assert w.vnode(2).status.mode == 0o600
        before = w.client.count("data")
        await w.cache.read(VOLUME, FILE, 0, 10, ReadState())
        assert w.client.count("data") == before


async def test_a_changed_directory_is_fetched_and_compared(autojump_clock: MockClock) -> None:
    async with world() as w:
        await w.cache.directory(VOLUME, ROOT)
        w.client.put_directory(ROOT, many(12))
        await w.settle()
        assert w.listener.names == [(w.vnode(1), {b"file000010", b"file000011"})]
        assert w.vnode(1).valid(trio.current_time())


async def test_a_directory_whose_names_nobody_saw_is_not_fetched(autojump_clock: MockClock) -> None:
    async with world() as w:
        await w.cache.status(VOLUME, ROOT)
        w.client.put_directory(ROOT, many(12))
        await w.settle()
        assert w.client.count("data") == 0
        assert w.listener.names == []
        assert w.vnode(1).data_version == 2


async def test_what_the_kernel_does_not_hold_is_left_alone(autojump_clock: MockClock) -> None:
    async with world() as w:
        w.listener.all = False
        await w.cache.status(VOLUME, FILE)
        calls = len(w.client.calls)
        w.client.write(FILE, b"second")
        await w.settle()
        assert len(w.client.calls) == calls
        assert w.listener.broken == w.listener.data == []


async def test_many_breaks_are_asked_about_in_bulk(autojump_clock: MockClock) -> None:
    async with world() as w:
        fids = [fid(number) for number in range(2, 402, 2)]
        for where in fids:
            w.client.put(where, b"x")
        await w.cache.statuses(VOLUME, ROOT, fids)
        before = w.client.count("bulk")
        w.cache.break_callback(ADDRESS, [fid(0, 0)])
        assert len(w.listener.broken) == 201
        await w.settle()
        assert w.client.count("bulk") == before + 5
        assert all(w.vnode(where.vnode).valid(trio.current_time()) for where in fids)
        assert w.listener.data == []


async def test_a_server_without_room_is_not_asked_about_everything(
    autojump_clock: MockClock,
) -> None:
    """It took all promises back, and would have to again if we had it make them all again."""
    count = 6000
    async with world() as w:
        fids = [fid(number) for number in range(2, 2 * count + 2, 2)]
        for where in fids:
            w.client.put(where, b"")
        folder = fid(2 * count + 3)
        w.client.put_directory(folder, many(10))
        await w.cache.statuses(VOLUME, ROOT, fids)
        await w.cache.status(VOLUME, folder)
        before = w.client.count("bulk")
        w.cache.break_all()
        assert len(w.listener.broken) == count + 2
        assert w.cache.statistics().revalidation_queue <= 4096 + 2
        await w.settle()
        assert w.client.count("bulk") - before <= 4096 // 50 + 2
        now = trio.current_time()
        assert w.vnode(folder.vnode).valid(now)
        left = [vnode for vnode in map(w.vnode, (f.vnode for f in fids)) if not vnode.valid(now)]
        assert 0 < len(left) <= count - 4000
        assert set(left) == set(w.listener.data)
        await w.cache.status(VOLUME, left[0].fid)
        assert left[0].valid(now)


async def test_a_long_queue_gives_its_room_back(autojump_clock: MockClock) -> None:
    def room(revalidator: Any) -> int:
        pace = revalidator._pace
        tables = (revalidator._queue, revalidator._later, revalidator._since, pace._asked)
        return sum(map(sys.getsizeof, tables))

    async with world() as w:
        fids = [fid(number) for number in range(2, 8002, 2)]
        for where in fids:
            w.client.put(where, b"")
        await w.cache.statuses(VOLUME, ROOT, fids)
        w.cache.break_all()
        queued = w.cache.statistics().revalidation_queue
        assert queued > 2000
        w.cache.compact()
        assert w.cache.statistics().revalidation_queue == queued, "what is full is left"
        await w.settle()
        assert not w.cache.statistics().revalidation_queue
        w.listener.all = False
        assert w.cache.leaving.let_go(VOLUME) >= queued
        assert room(w.cache._revalidator) > 200_000
        w.cache.compact()
        assert room(w.cache._revalidator) < 5000


async def test_what_cannot_be_checked_is_dropped(autojump_clock: MockClock) -> None:
    async with world() as w:
        await w.cache.status(VOLUME, FILE)
        await w.cache.directory(VOLUME, ROOT)
        w.client.failures = {FILE: ServerUnreachable("no"), ROOT: ServerUnreachable("no")}
        w.cache.break_callback(ADDRESS, [FILE, ROOT])
        await w.settle()
        assert w.listener.data == [w.vnode(2)]
        assert w.listener.names == [(w.vnode(1), None)]
        assert w.cache.statistics().revalidation_failures == 2


async def test_a_directory_that_turned_to_garbage_is_dropped(autojump_clock: MockClock) -> None:
    async with world() as w:
        await w.cache.directory(VOLUME, ROOT)
        w.client.write(ROOT, b"garbage")
        await w.settle()
        assert w.listener.names == [(w.vnode(1), None)]


async def test_a_break_during_revalidation_starts_another(autojump_clock: MockClock) -> None:
    async with world() as w:
        await w.cache.status(VOLUME, FILE)
        w.client.write(FILE, b"second")
        await trio.sleep(0.005 + 0.006)  # the question has been answered, the answer is under way
        w.client.write(FILE, b"third!!")
        await w.settle()
        assert w.vnode(2).status.length == 7
        assert w.vnode(2).valid(trio.current_time())
        assert set(w.listener.data) == {w.vnode(2)}
        assert len(w.listener.data) == 2


async def test_a_removed_file_is_told(autojump_clock: MockClock) -> None:
    async with world() as w:
        await w.cache.status(VOLUME, FILE)
        w.client.remove(FILE)
        await w.settle()
        assert w.listener.data == [w.vnode(2)]
        assert not w.vnode(2).valid(trio.current_time())


async def test_a_bug_does_not_end_revalidation(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, expected_warnings: object
) -> None:
    expected_warnings("revalidation failed")  # type: ignore[operator]
    async with world() as w:
        await w.cache.status(VOLUME, FILE)

        async def fail(*args: object) -> None:
            raise KeyError

        with monkeypatch.context() as patch:
            patch.setattr(w.cache._statuses, "refresh", fail)
            w.cache.break_callback(ADDRESS, [FILE])
            await w.settle()
        assert w.listener.data == [w.vnode(2)]
        await w.cache.status(VOLUME, FILE)
        w.client.write(FILE, b"second")
        await w.settle()
        assert w.vnode(2).status.length == 6


async def test_vnodes_that_left_are_not_asked_about(autojump_clock: MockClock) -> None:
    client = FakeClient()
    client.put(FILE, b"x")
    cache = make_cache(client, listener=Listener())
    vnode = await cache.status(VOLUME, FILE)
    cache.break_callback(ADDRESS, [FILE])
    assert cache.statistics().revalidation_queue == 1
    cache._table.remove(vnode)
    assert cache.statistics().revalidation_queue == 0


async def test_a_restored_volume_may_have_other_names_under_the_same_version(
    autojump_clock: MockClock,
) -> None:
    async with world() as w:
        await w.cache.directory(VOLUME, ROOT)
        w.client.files[ROOT].data = directory_blob(many(9))
        w.client.creation_time += 1  # restored from a dump of just this version
        await w.cache.status(VOLUME, FILE)
        await w.settle()
        assert w.listener.names == [(w.vnode(1), {b"file000009"})]
        assert w.vnode(1).data_version == 1


async def test_a_restored_volume_when_the_old_names_are_forgotten(
    autojump_clock: MockClock,
) -> None:
    async with world(directory_bytes=1) as w:
        await w.cache.directory(VOLUME, ROOT)
        w.client.put_directory(fid(3), [])
        await w.cache.directory(VOLUME, fid(3))
        w.client.creation_time += 1
        await w.cache.status(VOLUME, FILE)
        await w.settle()
        assert (w.vnode(1), None) in w.listener.names


class Held:
    """A client whose bulk calls about one volume end when they may."""

    def __init__(self, client: FakeClient, number: int) -> None:
        self.asked = 0
        self.may = trio.Event()
        bulk = client.bulk_status

        async def bulk_status(volume: Any, fids: Sequence[Fid], *rest: Any) -> Any:
            if volume.id == number:
                self.asked += 1
                await self.may.wait()
            return await bulk(volume, fids, *rest)

        setattr(client, "bulk_status", bulk_status)  # noqa: B010 - for mypy


async def test_a_busy_volume_holds_up_no_other(autojump_clock: MockClock) -> None:
    """Or the kernel would go on believing names of all others for minutes after their break."""
    async with world() as w:
        number = VOLUME.id + 3
        busy = make_volume(number)
        for each in range(2, 2000, 2):
            w.client.put(fid(each, volume=number), b"")
        await w.cache.directory(VOLUME, ROOT)
        await w.cache.statuses(
            busy, fid(1, volume=number), [fid(each, volume=number) for each in range(2, 2000, 2)]
        )
        held = Held(w.client, number)
        w.cache.break_callback(ADDRESS, [Fid(number, 0, 0)])
        w.client.put_directory(ROOT, many(12))
        await w.settle()
        assert w.listener.names == [(w.vnode(1), {b"file000010", b"file000011"})]
        assert 0 < held.asked <= 4


async def test_what_cannot_be_found_out_soon_is_not_believed_meanwhile(
    autojump_clock: MockClock,
) -> None:
    async with world() as w:
        await w.cache.directory(VOLUME, ROOT)
        await w.cache.status(VOLUME, FILE)
        held = Held(w.client, VOLUME.id)
        w.client.put_directory(ROOT, many(12))
        w.client.write(FILE, b"second")
        await trio.sleep(3)
        assert not w.listener.names
        assert not w.listener.data
        await trio.sleep(4)
        assert w.listener.names == [(w.vnode(1), None)]
        assert w.listener.data == [w.vnode(2)]
        await trio.sleep(60)
        assert len(w.listener.names) == len(w.listener.data) == 1, "said once"
        held.may.set()
        await w.settle()
        assert w.vnode(1).valid(trio.current_time())
        assert w.vnode(1).data_version == 2
        assert w.cache.statistics().revalidation_queue == 0


@pytest.mark.parametrize("at", [1.001, 1.015, 1.017])
async def test_patience_ends_when_it_is_said_to_end(autojump_clock: MockClock, at: float) -> None:
    """Of these times five seconds later, less five seconds, is less: it must not be looked for
    again and again.
    """
    assert at > (at + 5.0) - 5.0
    async with world() as w:
        await w.cache.status(VOLUME, FILE)
        Held(w.client, VOLUME.id)
        await trio.sleep_until(at)
        w.cache.break_callback(ADDRESS, [FILE])
        await trio.sleep(6)
        assert w.listener.data == [w.vnode(2)]
