"""Reading: right bytes of one version, shared fetches, few calls, bounded memory."""

from __future__ import annotations

import random
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio

from afsfuse.cache import CacheManager, ReadState
from afsfuse.errors import AfsError, DataCorrupt, ServerUnreachable
from afsfuse.model import FileKind
from tests.unit.afsfuse.cache.fakes import (
    FakeClient,
    Line,
    StoredFile,
    fid,
    make_cache,
    make_volume,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from trio.testing import MockClock

    from afsfuse.interfaces.fileserver import Fid

VOLUME = make_volume()
CHUNK = 32 << 10
FILE = fid(2)
BIG = fid(4)


def pattern(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


@asynccontextmanager
async def running(client: FakeClient, **options: int) -> AsyncIterator[CacheManager]:
    """A cache with its background tasks."""
    cache = make_cache(client, **options)
    async with trio.open_nursery() as nursery:
        client.nursery = nursery
        await nursery.start(cache.run)
        yield cache
        nursery.cancel_scope.cancel()


async def read_all(
    cache: CacheManager, where: Fid, step: int = 128 << 10, stream: ReadState | None = None
) -> bytes:
    """Read a file in sequence."""
    stream = stream or ReadState()
    parts = []
    offset = 0
    while data := await cache.read(VOLUME, where, offset, step, stream):
        parts.append(bytes(data))
        offset += len(data)
    return b"".join(parts)


def data_calls(client: FakeClient) -> list[tuple[int, int]]:
    """Position and size of each data call."""
    return [(call[2], call[3]) for call in client.calls if call[0] == "data"]


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


async def test_readers_of_one_chunk_share_one_fetch(autojump_clock: MockClock) -> None:
    client = FakeClient(Line(rtt=0.01))
    client.put(FILE, pattern(CHUNK))
    async with running(client) as cache:
        found: list[bytes] = []

        async def read() -> None:
            found.append(bytes(await cache.read(VOLUME, FILE, 0, CHUNK, ReadState())))

        async with trio.open_nursery() as nursery:
            for _ in range(30):
                nursery.start_soon(read)
        assert found == [pattern(CHUNK)] * 30
        assert client.count("data") == 1
        assert cache.statistics().chunk_waits == 29


async def test_a_cancelled_reader_does_not_hurt_others(autojump_clock: MockClock) -> None:
    client = FakeClient(Line(rtt=0.01))
    client.put(FILE, pattern(CHUNK))
    async with running(client) as cache:
        await cache.status(VOLUME, FILE)
        found: list[bytes] = []

        async def read() -> None:
            found.append(bytes(await cache.read(VOLUME, FILE, 0, CHUNK, ReadState())))

        async with trio.open_nursery() as nursery:
            with trio.move_on_after(0.005):
                nursery.start_soon(_later, read)
                await read()
        assert found == [pattern(CHUNK)]
        assert client.count("data") == 2
        assert cache.statistics().data_bytes == CHUNK


async def _later(read: object) -> None:
    await trio.sleep(0.002)
    await read()  # type: ignore[operator]


async def test_an_error_reaches_all_who_wait_and_is_not_kept(autojump_clock: MockClock) -> None:
    client = FakeClient(Line(rtt=0.01))
    client.put(FILE, pattern(CHUNK))
    async with running(client) as cache:
        await cache.status(VOLUME, FILE)
        client.failures[FILE] = ServerUnreachable("no answer")
        failed = 0

        async def read() -> None:
            nonlocal failed
            with pytest.raises(ServerUnreachable):
                await cache.read(VOLUME, FILE, 0, 10, ReadState())
            failed += 1

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(read)
        assert failed == 5
        client.failures.clear()
        assert await cache.read(VOLUME, FILE, 0, 10, ReadState()) == pattern(CHUNK)[:10]
        assert cache.statistics().data_bytes == CHUNK


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
    cache.prefetch(await cache.status(VOLUME, FILE))


async def test_a_version_that_moves_during_the_transfer(autojump_clock: MockClock) -> None:
    client = FakeClient(Line(rtt=0.01))
    old, new = b"o" * 300_000, b"n" * 400_000
    client.put(FILE, old)
    async with running(client) as cache:
        stream = ReadState()
        assert await cache.read(VOLUME, FILE, 0, CHUNK, stream) == old[:CHUNK]
        client.nursery = None  # no break arrives
        client.write(FILE, new)
        assert await cache.read(VOLUME, FILE, 290_000, 100_000, stream) == new[290_000:390_000]
        assert await cache.read(VOLUME, FILE, 0, CHUNK, stream) == new[:CHUNK]
        assert cache.statistics().read_restarts == 1


async def test_a_file_that_changes_with_every_call_is_read_all_the_same(
    autojump_clock: MockClock,
) -> None:
    client = FakeClient(Line(rtt=0.01))
    client.put(FILE, b"\0" * 200_000)
    written = 0

    def change(where: Fid) -> None:
        nonlocal written
        written += 1
        client.write(where, bytes([written % 256]) * 200_000)

    async with running(client) as cache:
        for offset in (0, 100_000, 150_000):
            client.during_transfer = change
            data = bytes(await cache.read(VOLUME, FILE, offset, 90_000, ReadState()))
            assert len(data) == min(90_000, 200_000 - offset)
            assert data.count(data[:1]) == len(data), "bytes of two versions"
        assert client.count("data") < 20
        client.during_transfer = None
        assert cache._store.used == sum(len(c.buffer) for c in cache._store._order)


async def test_a_short_reply_is_an_error_of_that_file_only(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = FakeClient()
    client.put(FILE, pattern(CHUNK))
    client.put(BIG, pattern(CHUNK))
    monkeypatch.setattr(client.files[FILE], "cut", lambda position, size: b"short")
    cache = make_cache(client)
    with pytest.raises(DataCorrupt, match="sent 5 bytes"):
        await cache.read(VOLUME, FILE, 0, 100, ReadState())
    assert await cache.read(VOLUME, BIG, 0, 100, ReadState()) == pattern(CHUNK)[:100]
    assert cache.statistics().data_bytes == CHUNK


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


async def _speed(client: FakeClient, cache: CacheManager, size: int) -> float:
    began = trio.current_time()
    stream = ReadState()
    offset = 0
    while data := await cache.read(VOLUME, BIG, offset, 128 << 10, stream):
        offset += len(data)
    assert offset == size
    cache.close_stream(stream)
    return size / (trio.current_time() - began) / (1 << 20)


@pytest.mark.parametrize(
    ("rtt", "rate", "least"),
    [(0.0002, 140.0, 130), (0.001, 140.0, 125), (0.0125, 140.0, 60), (0.0125, 2.0, 1.9)],
)
async def test_speed_on_lines_of_all_lengths(
    autojump_clock: MockClock, rtt: float, rate: float, least: float
) -> None:
    size = 128 << 20 if rate > 10 else 16 << 20
    client = FakeClient(Line(rtt=rtt, rate=rate * (1 << 20)))
    client.files[BIG] = StoredFile(size=size)
    async with running(client) as cache:
        assert await _speed(client, cache, size) > least
        assert client.most_in_flight <= 25  # the channels of a server are not for one reader
        if rate < 10:
            assert cache._fetcher.pace(client.server).calls < 6  # more would only queue


async def test_memory_stays_within_its_bound_while_reading_ahead(
    autojump_clock: MockClock,
) -> None:
    client = FakeClient(Line(rtt=0.0125))
    client.files[BIG] = StoredFile(size=64 << 20)
    async with running(client, data_bytes=16 << 20) as cache:
        stream = ReadState()
        offset = 0
        while data := await cache.read(VOLUME, BIG, offset, 128 << 10, stream):
            offset += len(data)
            assert cache.statistics().data_bytes <= 16 << 20
        assert cache.statistics().chunks_evicted >= 1536
        assert sum(size for _, size in data_calls(client)) <= (64 << 20) * 1.01


async def test_many_sequential_readers_share_the_memory(autojump_clock: MockClock) -> None:
    client = FakeClient(Line(rtt=0.001, rate=140e6))
    for number in range(64):
        client.files[fid(2 + 2 * number)] = StoredFile(size=4 << 20)
    async with running(client, data_bytes=32 << 20) as cache:

        async def read(where: Fid) -> None:
            assert len(await read_all(cache, where)) == 4 << 20

        async with trio.open_nursery() as nursery:
            for number in range(64):
                nursery.start_soon(read, fid(2 + 2 * number))
        fetched = cache.statistics().fetched_bytes
        assert fetched <= 1.05 * (64 * 4 << 20), "chunks were evicted before they were read"


async def test_a_stat_is_not_held_up_by_read_ahead(autojump_clock: MockClock) -> None:
    client = FakeClient(Line(rtt=0.0125))
    client.files[BIG] = StoredFile(size=64 << 20)
    client.put(FILE, b"")
    async with running(client) as cache, trio.open_nursery() as nursery:
        nursery.start_soon(_speed, client, cache, 64 << 20)
        await trio.sleep(0.5)
        assert client.in_flight > 15
        assert client.in_flight <= 25


async def test_seeking_stops_reading_ahead(autojump_clock: MockClock) -> None:
    client = FakeClient(Line(rtt=0.0002))
    client.files[BIG] = StoredFile(size=256 << 20)
    async with running(client) as cache:
        stream = ReadState()
        for number in range(40):
            await cache.read(VOLUME, BIG, number << 17, 1 << 17, stream)
        await trio.sleep(1)
        before = client.count("data")
        await cache.read(VOLUME, BIG, 200 << 20, 4096, stream)
        await trio.sleep(1)
        assert client.count("data") == before + 1


async def test_reads_out_of_order_still_count_as_sequential(autojump_clock: MockClock) -> None:
    client = FakeClient(Line(rtt=0.0002, rate=140e6))
    client.files[BIG] = StoredFile(size=16 << 20)
    rng = random.Random(3)
    async with running(client) as cache:
        stream = ReadState()
        numbers = list(range(128))
        for start in range(0, 128, 3):  # the kernel has several requests under way
            part = numbers[start : start + 3]
            rng.shuffle(part)
            for number in part:
                await cache.read(VOLUME, BIG, number << 17, 1 << 17, stream)
        assert client.count("data") < 40


async def test_prefetch_fetches_small_files_before_they_are_read(
    autojump_clock: MockClock,
) -> None:
    client = FakeClient(Line(rtt=0.01))
    client.put(FILE, pattern(50_000))
    client.put_directory(fid(1), [])
    client.files[BIG] = StoredFile(size=1 << 20)
    client.put(fid(6), b"")
    async with running(client) as cache:
        for where in (FILE, BIG, fid(1), fid(6)):
            cache.prefetch(await cache.status(VOLUME, where))
            cache.prefetch(await cache.status(VOLUME, where))
        await trio.sleep(1)
        assert data_calls(client) == [(0, 50_000)]
        began = trio.current_time()
        assert await cache.read(VOLUME, FILE, 0, 60_000, ReadState()) == pattern(50_000)
        assert trio.current_time() == began


async def test_a_failed_prefetch_is_forgotten(autojump_clock: MockClock) -> None:
    client = FakeClient(Line(rtt=0.01))
    client.put(FILE, pattern(100))
    async with running(client) as cache:
        vnode = await cache.status(VOLUME, FILE)
        client.failures[FILE] = ServerUnreachable("no answer")
        cache.prefetch(vnode)
        await trio.sleep(1)
        client.failures.clear()
        assert await cache.read(VOLUME, FILE, 0, 200, ReadState()) == pattern(100)


async def test_links_are_read_once_for_each_version(autojump_clock: MockClock) -> None:
    client = FakeClient(Line(rtt=0.01))
    client.put(FILE, b"target", FileKind.SYMLINK)
    client.put(BIG, b"#volume.", FileKind.MOUNTPOINT)
    async with running(client) as cache:
        for _ in range(3):
            assert await cache.readlink(VOLUME, FILE) == b"target"
            assert await cache.readlink(VOLUME, BIG) == b"#volume."
        assert client.count("data") == 2
        assert cache.statistics().data_bytes == 0
        client.write(FILE, b"other target")
        await trio.sleep(1)
        assert await cache.readlink(VOLUME, FILE) == b"other target"


async def test_an_endless_link_is_refused(autojump_clock: MockClock) -> None:
    client = FakeClient()
    client.put(FILE, b"x" * 1025, FileKind.SYMLINK)
    with pytest.raises(DataCorrupt, match="1025"):
        await make_cache(client).readlink(VOLUME, FILE)
