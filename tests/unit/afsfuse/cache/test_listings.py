"""Whole directories: sharing, versions, bounds, and what is told of differences."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest
import trio

from afsfuse.cache import Directory
from afsfuse.errors import AfsError, DataCorrupt
from afsfuse.fileserver.replies import StatusReply
from afsfuse.interfaces.fileserver import VolSync
from afsfuse.model import FileKind
from tests.unit.afsfuse.cache.blobs import directory_blob, many
from tests.unit.afsfuse.cache.fakes import (
    FakeClient,
    Line,
    Listener,
    StoredFile,
    fid,
    make_cache,
    make_volume,
)

if TYPE_CHECKING:
    from trio.testing import MockClock

    from afsfuse.cache import CacheManager
    from afsfuse.interfaces.fileserver import Fid

VOLUME = make_volume()
ROOT = fid(1)


def make(entries: int = 10, **options: int) -> tuple[FakeClient, CacheManager, Listener]:
    client = FakeClient(Line(rtt=0.01))
    client.put_directory(ROOT, many(entries))
    listener = Listener()
    return client, make_cache(client, listener=listener, **options), listener


async def test_a_directory_is_fetched_once(autojump_clock: MockClock) -> None:
    client, cache, _ = make(1000)
    found: list[Directory] = []

    async def ask() -> None:
        found.append(await cache.directory(VOLUME, ROOT))

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(ask)
    assert client.count("data") == 1
    assert len(set(map(id, found))) == 1
    assert len(found[0]) == 1002
    assert found[0].data_version == 1


async def test_what_comes_late_of_before_a_restore_is_not_kept(autojump_clock: MockClock) -> None:
    """It is of the version that is known now, and is another directory."""
    client, cache, _ = make(10)
    other = client.put(fid(2), b"x")
    await cache.status(VOLUME, ROOT)

    def restore(where: Fid) -> None:
        client.during_transfer = None
        client.files[ROOT].data = directory_blob(many(5))
        client.files[ROOT].mtime += 1
        client.creation_time += 100
        reply = StatusReply(
            client._status(other), None, VolSync(client.creation_time), client.server
        )
        cache._statuses.apply(VOLUME, other, reply, cache._log.begin())
        cache._log.end()

    client.during_transfer = restore
    assert len(await cache.directory(VOLUME, ROOT)) == 7
    assert len(await cache.directory(VOLUME, ROOT)) == 7
    assert client.count("data") == 2


async def test_a_cancelled_leader_does_not_hurt_others(autojump_clock: MockClock) -> None:
    client, cache, _ = make()
    await cache.status(VOLUME, ROOT)
    found: list[Directory] = []

    async def ask() -> None:
        found.append(await cache.directory(VOLUME, ROOT))

    async with trio.open_nursery() as nursery:
        with trio.move_on_after(0.005):
            nursery.start_soon(ask)
            await cache.directory(VOLUME, ROOT)
    assert len(found) == 1
    assert client.count("data") == 2


async def test_a_file_is_no_directory(autojump_clock: MockClock) -> None:
    client, cache, _ = make()
    client.put(fid(2), b"x")
    with pytest.raises(AfsError, match="not a directory") as caught:
        await cache.directory(VOLUME, fid(2))
    assert caught.value.errno == errno.ENOTDIR


async def test_a_new_version_is_compared_with_the_old(autojump_clock: MockClock) -> None:
    client, cache, listener = make(10)
    await cache.directory(VOLUME, ROOT)
    assert listener.names == []
    client.put_directory(ROOT, [*many(9), (b"new", 50, 1)])
    cache.break_callback(("192.0.2.1", 7000), [ROOT])
    directory = await cache.directory(VOLUME, ROOT)
    assert directory.find(b"new") == (50, 1)
    vnode = cache.peek(VOLUME, ROOT)
    assert vnode is not None
    assert listener.names == [(vnode, {b"new", b"file000009"})]


async def test_a_new_version_with_the_same_names_is_no_news(autojump_clock: MockClock) -> None:
    client, cache, listener = make(10)
    await cache.directory(VOLUME, ROOT)
    client.put_directory(ROOT, many(10))
    cache.break_callback(("192.0.2.1", 7000), [ROOT])
    assert (await cache.directory(VOLUME, ROOT)).data_version == 2
    assert listener.names == []


async def test_nothing_is_told_of_what_the_kernel_does_not_hold(autojump_clock: MockClock) -> None:
    client, cache, listener = make(10)
    listener.all = False
    await cache.directory(VOLUME, ROOT)
    client.put_directory(ROOT, many(9))
    cache.break_callback(("192.0.2.1", 7000), [ROOT])
    await cache.directory(VOLUME, ROOT)
    assert listener.names == []


async def test_a_directory_that_changes_while_it_is_fetched(autojump_clock: MockClock) -> None:
    client, cache, _ = make(10)
    await cache.status(VOLUME, ROOT)
    client.put_directory(ROOT, many(3000))  # known to nobody, and far longer
    directory = await cache.directory(VOLUME, ROOT)
    assert len(directory) == 3002
    assert client.count("data") == 2  # the first one learnt the length


async def test_a_little_growth_costs_no_second_call(autojump_clock: MockClock) -> None:
    client, cache, _ = make(10)
    await cache.status(VOLUME, ROOT)
    client.put_directory(ROOT, many(300))
    assert len(await cache.directory(VOLUME, ROOT)) == 302
    assert client.count("data") == 1


async def test_an_endlessly_changing_directory_is_given_up(autojump_clock: MockClock) -> None:
    client, cache, _ = make(10)
    size = 100

    def grow(where: Fid) -> None:
        nonlocal size
        size += 2000
        client.put_directory(ROOT, many(size))

    await cache.status(VOLUME, ROOT)
    grow(ROOT)
    original = client.fetch_data

    async def fetch(*args: object) -> object:
        grow(ROOT)
        return await original(*args)  # type: ignore[arg-type]

    client.fetch_data = fetch  # type: ignore[assignment]
    with pytest.raises(AfsError, match="faster") as caught:
        await cache.directory(VOLUME, ROOT)
    assert caught.value.errno == errno.EAGAIN
    assert client.count("data") <= 6


@pytest.mark.parametrize("data", [b"", b"garbage", bytes(2048), b"x" * 4096])
async def test_garbage_is_an_error_not_an_empty_directory(
    autojump_clock: MockClock, data: bytes
) -> None:
    client, cache, _ = make()
    client.put(fid(3), data, FileKind.DIRECTORY)
    for _ in range(2):
        with pytest.raises(DataCorrupt) as caught:
            await cache.directory(VOLUME, fid(3))
        error = caught.value
        assert (error.cell, error.volume, error.server) == ("test.afs", "test", "192.0.2.1")


async def test_an_impossible_length_is_not_even_asked_for(autojump_clock: MockClock) -> None:
    client, cache, _ = make()
    client.files[fid(3)] = StoredFile(kind=FileKind.DIRECTORY, size=1 << 40)
    with pytest.raises(DataCorrupt, match="is said to have"):
        await cache.directory(VOLUME, fid(3))
    assert client.count("data") == 0


async def test_a_short_directory_is_an_error(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, cache, _ = make(300)
    blob = client.files[ROOT].data
    monkeypatch.setattr(client.files[ROOT], "cut", lambda position, size: blob[:2048])
    with pytest.raises(DataCorrupt, match="sent 2048 of"):
        await cache.directory(VOLUME, ROOT)


async def test_directories_are_bounded_by_their_memory(autojump_clock: MockClock) -> None:
    client, cache, listener = make(10, directory_bytes=100_000)
    for number in range(3, 41, 2):
        client.put_directory(fid(number), many(100))
        await cache.directory(VOLUME, fid(number))
    statistics = cache.statistics()
    assert statistics.directory_bytes <= 100_000
    assert 3 <= statistics.directories < 10
    client.put_directory(fid(101), many(5000))
    await cache.directory(VOLUME, fid(101))
    assert cache.statistics().directories == 1  # one that is larger than the bound still counts
    assert listener.names == []


async def test_names_of_an_evicted_directory_cannot_be_compared(autojump_clock: MockClock) -> None:
    client, cache, listener = make(100, directory_bytes=1)
    client.put_directory(fid(3), many(100))
    await cache.directory(VOLUME, ROOT)
    await cache.directory(VOLUME, fid(3))  # drops the other one
    await cache.directory(VOLUME, ROOT)  # the same version: nothing to tell
    assert listener.names == []
    await cache.directory(VOLUME, fid(3))
    client.put_directory(ROOT, many(99))
    cache.break_callback(("192.0.2.1", 7000), [ROOT])
    await cache.directory(VOLUME, ROOT)
    vnode = cache.peek(VOLUME, ROOT)
    assert vnode is not None
    assert listener.names == [(vnode, None)]


async def test_a_directory_older_than_its_status_is_fetched_again(
    autojump_clock: MockClock,
) -> None:
    client, cache, _ = make(10)
    await cache.status(VOLUME, ROOT)
    found: list[Directory] = []

    async def ask() -> None:
        found.append(await cache.directory(VOLUME, ROOT))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await trio.sleep(0.006)  # the directory is on its way
        client.put_directory(ROOT, many(11))
        cache.break_callback(("192.0.2.1", 7000), [ROOT])
        # The line is slow for data only: the new status is here first.
        await cache.status(VOLUME, ROOT)
    assert len(found) == 1
    directory = await cache.directory(VOLUME, ROOT)
    assert len(directory) == 13


async def test_what_an_edit_adds_counts_against_the_bound(autojump_clock: MockClock) -> None:
    _, cache, _ = make(10)
    directory = await cache.directory(VOLUME, ROOT)
    listings, vnode = cache._listings, cache.peek(VOLUME, ROOT)
    assert vnode is not None
    before = listings.used
    assert before == directory.cost
    for number in range(200):
        directory.add(b"new-%d" % number, 2, 2)
    listings.edited(vnode)
    assert listings.used == directory.cost > before
    listings.drop(vnode)
    assert listings.used == 0


async def test_a_directory_that_was_just_made_is_taken_over_once(
    autojump_clock: MockClock,
) -> None:
    _, cache, listener = make(10)
    vnode = await cache.status(VOLUME, ROOT)
    fresh = Directory.empty((1, 1), (1, 1), 1)
    cache._listings.adopt(vnode, fresh)
    assert await cache.directory(VOLUME, ROOT) is fresh
    cache._listings.adopt(vnode, Directory.empty((1, 1), (1, 1), 1))
    assert vnode.directory is fresh
    assert (listener.broken, listener.data, listener.names) == ([], [], [])
