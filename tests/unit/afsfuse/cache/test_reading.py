"""Reading: the right bytes in few calls, at every offset."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
import trio

from afsfuse.cache import ReadState
from afsfuse.errors import AfsError
from afsfuse.fileserver.replies import ChangeReply
from afsfuse.interfaces.fileserver import VolSync
from afsfuse.model import VolumeType
from tests.unit.afsfuse.cache.fakes import (
    ADDRESS,
    FakeClient,
    Line,
    StoredFile,
    fid,
    make_cache,
    make_volume,
)

if TYPE_CHECKING:
    from trio.testing import MockClock

    from afsfuse.interfaces.common import Fid

from tests.unit.afsfuse.cache.reads import (
    BIG,
    CHUNK,
    FILE,
    VOLUME,
    data_calls,
    pattern,
    read_all,
    running,
)


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 1_000_003])
@pytest.mark.parametrize("step", [4096, 100_000, 1 << 20])
async def test_files_are_read_whole(autojump_clock: MockClock, size: int, step: int) -> None:
    client = FakeClient(Line(rtt=0.001))
    client.put(FILE, pattern(size))
    async with running(client) as cache:
        assert await read_all(cache, FILE, step) == pattern(size)
        assert await read_all(cache, FILE, step) == pattern(size)
        assert sum(size for _, size in data_calls(client)) == size


@pytest.mark.parametrize("seed", range(10))
async def test_random_reads_are_right(autojump_clock: MockClock, seed: int) -> None:
    client = FakeClient(Line(rtt=0.001))
    data = pattern(700_001)
    client.put(FILE, data)
    rng = random.Random(seed)
    async with running(client, data_bytes=8 * CHUNK) as cache:
        stream = ReadState()
        for _ in range(200):
            offset = rng.randrange(len(data) + 10_000)
            size = rng.choice((1, 100, 4096, CHUNK, 200_000))
            read = await cache.read(VOLUME, FILE, offset, size, stream)
            assert read == data[offset : offset + size]


async def test_a_small_file_takes_one_call(autojump_clock: MockClock) -> None:
    client = FakeClient(Line(rtt=0.001))
    client.put(FILE, pattern(100_000))
    async with running(client) as cache:
        await read_all(cache, FILE, 4096)
        assert data_calls(client) == [(0, 100_000)]


async def test_random_small_reads_fetch_only_their_chunk(autojump_clock: MockClock) -> None:
    client = FakeClient(Line(rtt=0.0125))
    client.files[BIG] = StoredFile(size=256 << 20)
    rng = random.Random(5)
    async with running(client) as cache:
        stream = ReadState()
        began = trio.current_time()
        for _ in range(200):
            await cache.read(VOLUME, BIG, rng.randrange(1, 65536) * 4096, 4096, stream)
        assert {size for _, size in data_calls(client)} == {CHUNK}
        assert trio.current_time() - began < 200 * 0.0126 * 2  # request and data


async def test_reading_a_directory_is_refused(autojump_clock: MockClock) -> None:
    client = FakeClient()
    client.put_directory(fid(1), [])
    with pytest.raises(AfsError, match="directory"):
        await make_cache(client).read(VOLUME, fid(1), 0, 10, ReadState())


async def test_reads_work_without_background_tasks(autojump_clock: MockClock) -> None:
    client = FakeClient(Line(rtt=0.001))
    client.put(FILE, pattern(1_000_000))
    cache = make_cache(client)
    assert await read_all(cache, FILE) == pattern(1_000_000)
    cache.prefetch([await cache.status(VOLUME, FILE)])


@pytest.mark.parametrize("border", [2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**32 + 5])
async def test_around_the_borders_of_large_files(autojump_clock: MockClock, border: int) -> None:
    client = FakeClient()
    client.files[BIG] = StoredFile(size=5 << 30)
    cache = make_cache(client)
    data = await cache.read(VOLUME, BIG, border - 3, 6, ReadState())
    assert data == bytes(6)
    assert all(start <= border + 3 <= start + size + CHUNK for start, size in data_calls(client))
    assert await cache.read(VOLUME, BIG, (5 << 30) - 2, 100, ReadState()) == bytes(2)
    assert await cache.read(VOLUME, BIG, 5 << 30, 100, ReadState()) == b""
    assert await cache.read(VOLUME, BIG, 6 << 30, 100, ReadState()) == b""


async def test_what_lies_in_one_chunk_needs_no_waiting(autojump_clock: MockClock) -> None:
    client = FakeClient()
    client.put(FILE, pattern(40_000))
    cache = make_cache(client)
    vnode = await cache.status(VOLUME, FILE)
    stream = cache.open_stream(vnode)
    assert cache.peek_data(vnode, 0, 10, stream) is None, "nothing is there yet"
    await cache.read(VOLUME, FILE, 0, 40_000, stream)
    for offset, size in ((0, 32_768), (32_768, 60_000), (5, 7)):
        known = cache.peek_data(vnode, offset, size, stream)
        assert known is not None
        assert bytes(known) == pattern(40_000)[offset : offset + size]
    assert cache.peek_data(vnode, 32_767, 2, stream) is None, "two chunks"
    assert cache.peek_data(vnode, 40_000, 10, stream) is None, "the end"
    assert cache.statistics().chunk_hits >= 3
    cache.break_callback(ADDRESS, [FILE])
    assert cache.peek_data(vnode, 0, 10, stream) is None, "it may have changed"


@pytest.mark.parametrize("type", [VolumeType.RO, VolumeType.RW])
async def test_no_read_joins_what_is_of_before_and_after_a_restore(
    autojump_clock: MockClock, type: VolumeType
) -> None:
    """The data version can be the same, and some of the old data is in memory."""
    client = FakeClient(Line(rtt=0.001))
    client.put(FILE, b"a" * (20 * CHUNK))
    volume = make_volume(type=type)
    async with running(client) as cache:
        await cache.read(volume, FILE, 10 * CHUNK, CHUNK, ReadState())
        stored = client.files[FILE]
        stored.data, stored.mtime = b"b" * (20 * CHUNK), stored.mtime + 1
        client.creation_time += 100
        data = await cache.read(volume, FILE, 10 * CHUNK, 2 * CHUNK, ReadState())
        assert bytes(data) == b"b" * (2 * CHUNK)


async def test_what_was_read_before_a_store_of_ours_is_not_kept(autojump_clock: MockClock) -> None:
    """It comes after the store, and the file is the same one in its next version."""
    client = FakeClient(Line(rtt=0.001))
    client.put(FILE, b"a" * (20 * CHUNK))
    async with running(client) as cache:

        def store(where: Fid) -> None:
            client.during_transfer = None
            stored = client.files[FILE]
            stored.data, stored.version = b"b" * (20 * CHUNK), 2
            vnode = cache.peek(VOLUME, FILE)
            assert vnode is not None
            assert vnode.data is not None
            cache._store.advance(vnode.data, 2, 20 * CHUNK, [], (0, 20 * CHUNK))
            reply = ChangeReply(client._status(FILE), VolSync(client.creation_time), client.server)
            cache._statuses.changed(VOLUME, FILE, reply, cache._log.begin())
            cache._log.end()

        client.during_transfer = store
        for _ in range(2):
            data = await cache.read(VOLUME, FILE, 0, CHUNK, ReadState())
            assert bytes(data) == b"b" * CHUNK
