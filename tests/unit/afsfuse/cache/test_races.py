"""Breaks against fetches, in thousands of random orders: nothing old is read after a break.

Requests, replies and breaks each take a random time, so they overtake one another in every way.
Each version of a file is made of one number only. A read that begins after the break of a write
was delivered must return that version or a later one, all of it of one version.
"""

from __future__ import annotations

import os
import random
import struct
from typing import TYPE_CHECKING

import pytest
import trio

from afsfuse.cache import CacheManager, ReadState, Vnode
from afsfuse.interfaces.fileserver import Fid
from tests.unit.afsfuse.cache.fakes import (
    ADDRESS,
    VOLUME_ID,
    FakeClient,
    Line,
    Listener,
    fid,
    make_cache,
    make_volume,
    random_delays,
)

if TYPE_CHECKING:
    from trio.testing import MockClock

VOLUME = make_volume()
ROOT = fid(1)
FILES = [fid(number) for number in (2, 4, 6)]
SIZE = 100_000
SEEDS = int(os.environ.get("RACE_SEEDS", "100"))
READS = 120  # a seed


def content(version: int) -> bytes:
    """A file made of its version."""
    return struct.pack("!Q", version) * (SIZE // 8 + version % 3)


class World(FakeClient):
    """A server that keeps book of what must be visible."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__(Line(rtt=0.002), delay=random_delays(rng, 0.02))
        self.rng = rng
        self.floor = dict.fromkeys(FILES, 1)  # versions that reads beginning now must see
        self.pending = dict.fromkeys(FILES, 0)  # breaks under way
        self.put_directory(ROOT, [])
        for where in FILES:
            self.put(where, content(1))

    def change(self, where: Fid) -> None:
        """Another client writes."""
        promised = where in self.promised
        self.write(where, content(self.files[where].version + 1))
        if not promised and not self.pending[where]:
            self.floor[where] = self.files[where].version

    def break_promise(self, where: Fid) -> None:
        if where in self.promised:
            self.promised.discard(where)
            self.pending[where] += 1
            assert self.nursery is not None
            self.nursery.start_soon(self.deliver, where, self.files[where].version)

    async def deliver(self, where: Fid, version: int) -> None:
        """A break arrives some time later, alone, for the volume, or with others."""
        await trio.sleep(self.delay() + self.delay())
        assert self.cache is not None
        match self.rng.randrange(10):
            case 0:
                self.cache.break_callback(ADDRESS, [Fid(VOLUME_ID, 0, 0)])
            case 1:
                self.cache.break_callback(ADDRESS, [where, *FILES])
            case 2:
                self.cache.break_server(ADDRESS)
            case _:
                self.cache.break_callback(ADDRESS, [where])
        self.pending[where] -= 1
        self.floor[where] = max(self.floor[where], version)


async def reader(world: World, cache: CacheManager, reads: int) -> None:
    """Read, stat and list at random; check every answer."""
    rng = world.rng
    stream = ReadState()
    for _ in range(reads):
        await trio.sleep(rng.choice((0.0, 0.001, 0.02)))
        where = rng.choice(FILES)
        floor = world.floor[where]
        match rng.randrange(4):
            case 0:
                vnode = await cache.status(VOLUME, where)
                assert vnode.data_version >= floor
            case 1:
                (found,) = await cache.statuses(VOLUME, ROOT, [where])
                assert isinstance(found, Vnode)
                assert found.data_version >= floor
            case _:
                offset = 8 * rng.randrange(SIZE // 8 - 20)
                size = 8 * rng.randrange(1, 12_000)
                data = bytes(await cache.read(VOLUME, where, offset, size, stream))
                versions = {value for (value,) in struct.iter_unpack("!Q", data)}
                assert len(versions) == 1, "bytes of two versions in one read"
                (version,) = versions
                assert version >= floor, f"{version} was read after the break of {floor}"
                assert data == content(version)[offset : offset + size]


async def writer(world: World) -> None:
    """Write now and then until cancelled."""
    while True:
        await trio.sleep(world.rng.choice((0.0, 0.005, 0.05)))
        world.change(world.rng.choice(FILES))


@pytest.mark.parametrize("seed", range(SEEDS))
async def test_nothing_old_is_read_after_a_break(autojump_clock: MockClock, seed: int) -> None:
    rng = random.Random(seed)
    world = World(rng)
    cache = make_cache(
        world,
        listener=Listener(all=rng.random() < 0.5),
        data_bytes=rng.choice((4, 64)) * 32768,
        chunk_size=rng.choice((4096, 32768)),
        vnode_limit=rng.choice((2, 1000)),
    )
    async with trio.open_nursery() as nursery:
        world.nursery = nursery
        await nursery.start(cache.run)
        nursery.start_soon(writer, world)
        async with trio.open_nursery() as readers:
            for _ in range(4):
                readers.start_soon(reader, world, cache, READS // 4)
        nursery.cancel_scope.cancel()
    assert cache._log._flights == 0
    assert cache._store.used == sum(len(chunk.buffer) for chunk in cache._store._order)
    assert not cache._statuses._flights
