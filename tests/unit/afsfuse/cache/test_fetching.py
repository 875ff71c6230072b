"""Fetches: shared, cancelled, failing, and of a version that moves meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

import pytest
import trio

from afsfuse.cache import ReadState
from afsfuse.cell.servers import FileServer
from afsfuse.errors import DataCorrupt, ServerUnreachable
from tests.unit.afsfuse.cache.fakes import (
    FakeClient,
    Line,
    make_cache,
)

if TYPE_CHECKING:
    from trio.testing import MockClock

    from afsfuse.interfaces.fileserver import Fid
from tests.unit.afsfuse.cache.reads import BIG, CHUNK, FILE, VOLUME, pattern, running


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


async def test_the_paces_that_are_remembered_are_bounded(autojump_clock: MockClock) -> None:
    fetcher = make_cache(FakeClient())._fetcher
    for number in range(1000):
        fetcher.pace(FileServer("test.afs", UUID(int=number), 1, []))
    assert len(fetcher._paces) <= 256
