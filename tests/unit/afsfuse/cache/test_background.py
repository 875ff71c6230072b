"""Read-ahead and prefetch: speed on lines of all lengths, bounds, who shares what."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
import trio

from afsfuse.cache import CacheManager, ReadState
from afsfuse.errors import NotPermitted, ServerUnreachable
from tests.unit.afsfuse.cache.fakes import (
    FakeClient,
    Line,
    StoredFile,
    fid,
)

if TYPE_CHECKING:
    from trio.testing import MockClock

    from afsfuse.interfaces.fileserver import Fid
from tests.unit.afsfuse.cache.reads import BIG, FILE, VOLUME, data_calls, pattern, read_all, running

MIB = 1 << 20


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


async def test_read_ahead_leaves_channels_to_others(autojump_clock: MockClock) -> None:
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
            cache.prefetch([await cache.status(VOLUME, where)])
            cache.prefetch([await cache.status(VOLUME, where)])
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
        cache.prefetch([vnode])
        await trio.sleep(1)
        client.failures.clear()
        assert await cache.read(VOLUME, FILE, 0, 200, ReadState()) == pattern(100)


async def test_small_files_are_prefetched_together(autojump_clock: MockClock) -> None:
    client = FakeClient(Line(rtt=0.01))
    files = [client.put(fid(2 * number), pattern(100 * number)) for number in range(1, 40)]
    large = client.put(fid(98), pattern(40_000))
    async with running(client) as cache:
        vnodes = [await cache.status(VOLUME, where) for where in (large, *files)]
        cache.prefetch(vnodes)
        cache.prefetch(vnodes)
        began = trio.current_time()
        # As many as leave channels for others; a file that is not small goes by itself.
        assert cache.statistics().ahead_fetches == 24
        await trio.sleep(0.02)
        assert client.count("data") == 24
        assert client.most_in_flight == 24
        for number, where in enumerate(files[:23], 1):
            read = await cache.read(VOLUME, where, 0, 60_000, ReadState())
            assert read == pattern(100 * number)
        assert trio.current_time() == pytest.approx(began + 0.02)
        cache.prefetch(vnodes)  # the channels are free again
        assert cache.statistics().ahead_fetches == 24 + 16
        await trio.sleep(1)
    assert cache.statistics().data_bytes == sum(100 * number for number in range(1, 40)) + 40_000


async def test_one_of_many_that_fails_does_not_hurt_the_others(
    autojump_clock: MockClock,
) -> None:
    client = FakeClient(Line(rtt=0.01))
    files = [client.put(fid(2 * number), pattern(100)) for number in range(1, 6)]
    async with running(client) as cache:
        vnodes = [await cache.status(VOLUME, where) for where in files]
        client.failures[files[2]] = NotPermitted("no")
        cache.prefetch(vnodes)
        with pytest.raises(NotPermitted):
            await cache.read(VOLUME, files[2], 0, 200, ReadState())
        for where in (*files[:2], *files[3:]):
            assert await cache.read(VOLUME, where, 0, 200, ReadState()) == pattern(100)
        assert client.count("data") == 5
        assert cache.statistics().data_bytes == 400


async def test_a_volume_that_cannot_be_had_fails_all_of_them(autojump_clock: MockClock) -> None:
    client = FakeClient(Line(rtt=0.01))
    files = [client.put(fid(2 * number), pattern(100)) for number in range(1, 6)]
    async with running(client) as cache:
        vnodes = [await cache.status(VOLUME, where) for where in files]
        client.volume_failure = ServerUnreachable("no answer")
        cache.prefetch(vnodes)
        with pytest.raises(ServerUnreachable):
            await cache.read(VOLUME, files[4], 0, 200, ReadState())
        client.volume_failure = None
        assert cache.statistics().data_bytes == 0
        for where in files:
            assert await cache.read(VOLUME, where, 0, 200, ReadState()) == pattern(100)


@pytest.mark.parametrize(("lost", "size", "ahead"), [(0.2, MIB, 16), (0.0, MIB, 0), (0.2, 4096, 0)])
async def test_a_large_first_read_is_not_waited_for_where_packets_are_lost(
    autojump_clock: MockClock, lost: float, size: int, ahead: int
) -> None:
    client = FakeClient(Line(rtt=0.0002), lost=lost, delay=lambda: 2.0)
    client.files[BIG] = StoredFile(size=64 * MIB)
    async with running(client) as cache, trio.open_nursery() as nursery:
        await cache.status(VOLUME, BIG)
        stream = ReadState()
        nursery.start_soon(cache.read, VOLUME, BIG, 0, size, stream)
        await trio.sleep(1)
        assert client.in_flight == (25 if ahead else 1)
        await trio.sleep(60)
        assert sum(size for at, size in data_calls(client) if at) == ahead * MIB


async def test_a_read_is_shared_out_where_many_packets_are_lost(
    autojump_clock: MockClock,
) -> None:
    client = FakeClient(Line(rtt=0.0002), lost=0.1, delay=lambda: 1.0)
    client.files[BIG] = StoredFile(size=8 * MIB)
    async with running(client) as cache:
        await cache.read(VOLUME, BIG, 0, 64 << 10, ReadState())
        client.calls.clear()
        data = await cache.read(VOLUME, BIG, 4 * MIB, MIB, ReadState())
        assert data == client.files[BIG].cut(4 * MIB, MIB)
        assert sorted(data_calls(client)) == [
            (4 * MIB + at, 256 << 10) for at in range(0, MIB, 256 << 10)
        ]
        client.calls.clear()
        await cache.read(VOLUME, BIG, 6 * MIB, 256 << 10, ReadState())
        assert len(data_calls(client)) == 1


async def test_many_calls_where_packets_are_lost(autojump_clock: MockClock) -> None:
    client = FakeClient(Line(rtt=0.0002), lost=0.2, delay=lambda: 1.0)
    client.files[BIG] = StoredFile(size=64 * MIB)
    async with running(client) as cache:
        began = trio.current_time()
        assert len(await read_all(cache, BIG, MIB)) == 64 * MIB
        assert trio.current_time() - began < 64 * 2 / 4, "some twenty at a time"
        assert client.most_in_flight <= 25


async def test_a_bug_does_not_end_read_ahead(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, expected_warnings: object
) -> None:
    expected_warnings("in the background failed")  # type: ignore[operator]
    client = FakeClient(Line(rtt=0.001))
    client.put(FILE, pattern(100))
    client.put(BIG, pattern(200))
    async with running(client) as cache:
        vnodes = [await cache.status(VOLUME, where) for where in (FILE, BIG)]
        with monkeypatch.context() as patch:
            patch.setattr(client, "fetch_data", None)
            cache.prefetch([vnodes[0]])
            await trio.sleep(1)
        cache.prefetch([vnodes[1]])
        await trio.sleep(1)
        assert client.count("data") == 1
        assert await cache.read(VOLUME, FILE, 0, 200, ReadState()) == pattern(100)
