"""What is on the disk of files, directories and symbolic links: used again, and only if it is
right.
"""

from __future__ import annotations

import random
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
import trio

from afsfuse.auth.identity import NOBODY, Identity
from afsfuse.cache.disk.files import DiskFile
from afsfuse.cache.readahead import ReadState
from afsfuse.cache.writeback import Writer
from afsfuse.errors import NotPermitted
from afsfuse.model import FileKind, Rights
from tests.unit.afsfuse.cache.blobs import many
from tests.unit.afsfuse.cache.disk.desk import CHUNK, Desk
from tests.unit.afsfuse.cache.fakes import FakeClient, Line, Listener, fid, make_cache, make_volume
from tests.unit.afsfuse.cache.storage import WritableClient

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from trio.testing import MockClock

    from afsfuse.cache import CacheManager
    from tests.conftest import ExpectedWarnings

ROOT, LINK = fid(1), fid(2)
VOLUME = make_volume()
ALICE = Identity(uid=1000)


@contextmanager
def day(client: FakeClient, folder: Path) -> Iterator[tuple[CacheManager, Listener]]:
    """A daemon's life. What it did is on the disk at the end."""
    desk = Desk(folder)
    try:
        listener = Listener()
        yield make_cache(client, disk=desk.cache, listener=listener), listener
        desk.settle()
    finally:
        desk.close()


def make_client(entries: int = 3000) -> FakeClient:
    client = FakeClient()
    client.put_directory(ROOT, many(entries))
    client.put(LINK, b"where/it/leads", FileKind.SYMLINK)
    return client


async def look(cache: CacheManager, who: Identity = NOBODY) -> list[tuple[object, ...]]:
    return [tuple(entry) for entry in await cache.directory(VOLUME, ROOT, who)]


async def test_another_daemon_fetches_nothing_again(tmp_path: Path) -> None:
    client = make_client()
    with day(client, tmp_path) as (cache, _):
        seen = await look(cache)
        assert await cache.readlink(VOLUME, LINK) == b"where/it/leads"
    assert client.count("data") == 2
    with day(client, tmp_path) as (cache, listener):
        assert await look(cache) == seen
        assert await cache.readlink(VOLUME, LINK) == b"where/it/leads"
        assert cache.statistics().directory_disk_hits == 1
        assert listener.names == []
        vnode = cache.peek(VOLUME, ROOT)
        assert vnode is not None
        assert vnode.directory is await cache.directory(VOLUME, ROOT), "it is in memory now"
    assert client.count("data") == 2


async def test_another_version_is_fetched(tmp_path: Path) -> None:
    client = make_client()
    with day(client, tmp_path) as (cache, _):
        await look(cache)
    client.put_directory(ROOT, many(2999))
    with day(client, tmp_path) as (cache, _):
        assert len(await look(cache)) == 2999 + 2
    assert client.count("data") == 2


async def test_the_same_version_in_a_restored_volume_is_fetched(tmp_path: Path) -> None:
    client = make_client()
    with day(client, tmp_path) as (cache, _):
        await look(cache)
        await cache.readlink(VOLUME, LINK)
    client.creation_time += 100
    version = client.files[ROOT].version
    client.put_directory(ROOT, [*many(2999), (b"fileotherx", 6000, 1)])
    client.files[ROOT].version = version
    client.files[LINK].data = b"leads/it/where"
    with day(client, tmp_path) as (cache, _):
        assert (await cache.directory(VOLUME, ROOT)).find(b"fileotherx") == (6000, 1)
        assert await cache.readlink(VOLUME, LINK) == b"leads/it/where"


async def test_whoever_may_not_look_is_told_nothing(tmp_path: Path) -> None:
    client = make_client()
    client.tokens.add(ALICE)
    client.rights = {ALICE: Rights.LOOKUP | Rights.READ, NOBODY: Rights.NONE}
    for _ in range(2):
        with day(client, tmp_path) as (cache, _):
            assert len(await look(cache, ALICE)) == 3002
            with pytest.raises(NotPermitted):
                await look(cache)
    with day(client, tmp_path) as (cache, _), pytest.raises(NotPermitted):
        await look(cache)
    assert client.count("data") == 1


def damage(folder: Path) -> None:
    (part,) = folder.glob("0/parts/*/*")
    with part.open("r+b") as file:
        file.seek(50_000)
        file.write(b"damaged")


async def test_a_damaged_copy_is_noticed(
    tmp_path: Path, expected_warnings: ExpectedWarnings
) -> None:
    expected_warnings("a checksum is wrong: fetched again")
    client = make_client()
    with day(client, tmp_path) as (cache, _):
        seen = await look(cache)
    damage(tmp_path)
    with day(client, tmp_path) as (cache, _):
        assert await look(cache) == seen
    assert client.count("data") == 2
    with day(client, tmp_path) as (cache, _):
        assert await look(cache) == seen
    assert client.count("data") == 2, "it was written anew"


async def test_what_is_pressed_out_of_memory_is_read_from_the_disk(tmp_path: Path) -> None:
    client = make_client()
    other = fid(3)
    client.put_directory(other, many(3000))
    desk = Desk(tmp_path)
    try:
        listener = Listener()
        cache = make_cache(client, disk=desk.cache, listener=listener, directory_bytes=1000)
        for _ in range(3):
            await look(cache)
            assert len(await cache.directory(VOLUME, other)) == 3002
            desk.settle()
        assert cache.statistics().directories == 1
        assert listener.names == []
    finally:
        desk.close()
    assert client.count("data") == 2


async def test_a_change_while_the_disk_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = make_client()
    with day(client, tmp_path) as (cache, _):
        await look(cache)
    read = DiskFile.read

    async def slow(self: DiskFile, offset: int, end: int) -> memoryview | None:
        monkeypatch.setattr(DiskFile, "read", read)
        client.put_directory(ROOT, many(10))
        cache.break_callback(("192.0.2.1", 7000), [ROOT])
        await cache.status(VOLUME, ROOT)
        return await read(self, offset, end)

    monkeypatch.setattr(DiskFile, "read", slow)
    with day(client, tmp_path) as (cache, _):
        assert len(await look(cache)) == 12
        assert cache.statistics().directory_disk_hits == 0


async def test_a_server_that_promises_nothing(tmp_path: Path) -> None:
    client = make_client()
    client.promising = False
    for _ in range(2):
        with day(client, tmp_path) as (cache, _):
            for _ in range(2):
                assert len(await look(cache)) == 3002
    assert client.count("data") == 1


async def test_a_file_that_was_written_over_while_memory_was_short(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    """Of what was read, the first part has left the memory, as ever; the rest is in the way when
    the whole is written over in place.
    """
    file, size = fid(4), 8 * CHUNK
    client = WritableClient(Line(rtt=0.01))
    client.put(file, bytes(size))
    new = random.Random(1).randbytes(size)
    desk = Desk(tmp_path)
    try:
        cache = make_cache(client, disk=desk.cache, data_bytes=4 * CHUNK)
        async with trio.open_nursery() as nursery:
            client.nursery = nursery
            await nursery.start(cache.writes.run)
            assert bytes(await cache.read(VOLUME, file, 0, size, ReadState(NOBODY))) == bytes(size)
            vnode = await cache.status(VOLUME, file)
            writer = Writer(NOBODY)
            cache.writes.write(vnode, 0, new, writer, lambda: "file")
            await cache.writes.settle(vnode, writer)
            for _ in range(2):
                assert bytes(await cache.read(VOLUME, file, 0, size, ReadState(NOBODY))) == new
                desk.settle()
            nursery.cancel_scope.cancel()
    finally:
        desk.close()
    assert client.files[file].data == new
    with day(client, tmp_path) as (cache, _):
        assert bytes(await cache.read(VOLUME, file, 0, size, ReadState(NOBODY))) == new
