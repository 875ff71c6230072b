"""Writers, readers, and a server that is late, refuses, and loses replies: against a bytearray."""

from __future__ import annotations

import errno
import os
import random
from typing import TYPE_CHECKING

import pytest
import trio

from afsfuse.auth.identity import Identity
from afsfuse.cache import ReadState, Vnode
from afsfuse.cache import storing as storing_module
from afsfuse.cache.writeback import Writer
from afsfuse.errors import AfsError, ServerUnreachable
from tests.unit.afsfuse.cache.fakes import Line, Listener, random_delays
from tests.unit.afsfuse.cache.reads import FILE, VOLUME, pattern, running
from tests.unit.afsfuse.cache.storage import Store, WritableClient

if TYPE_CHECKING:
    from trio.testing import MockClock

    from afsfuse.cache import CacheManager
    from tests.conftest import ExpectedWarnings

SEEDS = int(os.environ.get("WRITE_SEEDS", "60"))
STEPS = 150
LONGEST = 40_000
CHUNK = 4096
ALICE, BOB = Identity(uid=1), Identity(uid=2)


class World:
    """A file that is written and read, and what must be in it."""

    def __init__(self, rng: random.Random, cache: CacheManager, client: WritableClient) -> None:
        self.rng = rng
        self.cache = cache
        self.client = client
        self.model = bytearray(pattern(20_000))
        self.writers = {who: Writer(who) for who in (ALICE, BOB)}
        self.trouble = 0.0
        client.changes.refuse = self.refuse
        client.changes.lose = self.lose

    def refuse(self, store: Store) -> AfsError | None:
        if self.rng.random() < self.trouble:
            return AfsError("over quota", errno=errno.EDQUOT)
        return None

    def lose(self, store: Store) -> AfsError | None:
        return ServerUnreachable("silent") if self.rng.random() < self.trouble else None

    async def vnode(self) -> Vnode:
        return await self.cache.status(VOLUME, FILE)

    async def write(self) -> None:
        vnode = await self.vnode()
        writer = self.rng.choice(list(self.writers.values()))
        offset = self.rng.randrange(LONGEST)
        if self.rng.random() < 0.4:
            offset = min(len(self.model), LONGEST)  # an append
        data = pattern(self.rng.choice((1, 10, 500, 3000, 9000)), self.rng.randrange(1 << 30))
        try:
            await self.cache.writes.make_room(vnode, len(data), writer.who)
        except AfsError:
            return
        self.cache.writes.write(vnode, offset, data, writer, lambda: "/file")
        if offset > len(self.model):
            self.model.extend(bytes(offset - len(self.model)))
        self.model[offset : offset + len(data)] = data

    async def truncate(self) -> None:
        vnode = await self.vnode()
        writer = self.rng.choice(list(self.writers.values()))
        length = self.rng.choice((0, self.rng.randrange(LONGEST), len(self.model) // 2))
        self.cache.writes.truncate(vnode, length, writer, lambda: "/file")
        del self.model[length:]
        self.model.extend(bytes(length - len(self.model)))

    async def read(self) -> None:
        offset = self.rng.randrange(LONGEST)
        size = self.rng.choice((1, 100, 5000, LONGEST))
        before = bytes(self.model)
        data = await self.cache.read(VOLUME, FILE, offset, size, ReadState())
        assert bytes(data) == before[offset : offset + size]
        vnode = self.cache.peek(VOLUME, FILE)
        assert vnode is not None
        quick = self.cache.peek_data(vnode, offset, size, ReadState())
        assert quick is None or bytes(quick) == before[offset : offset + size]

    async def settle(self) -> None:
        vnode = await self.vnode()
        writer = self.rng.choice(list(self.writers.values()))
        with trio.move_on_after(self.rng.choice((0.0, 0.01, 100.0))):
            try:
                await self.cache.writes.settle(vnode, writer, safe=self.rng.random() < 0.2)
            except AfsError:
                assert self.trouble or vnode.dirty is not None

    async def step(self) -> None:
        match self.rng.randrange(12):
            case 0:
                await self.truncate()
            case 1:
                await self.settle()
            case 2:
                await trio.sleep(self.rng.choice((0.001, 0.05, 3.0)))
            case 3 | 4 | 5 | 6:
                await self.read()
            case 7 if self.rng.random() < 0.3:
                self.trouble = self.rng.choice((0.0, 0.0, 0.3, 1.0))
            case _:
                await self.write()


@pytest.mark.parametrize("seed", range(SEEDS))
async def test_readers_see_what_was_written_and_servers_get_it(
    seed: int,
    autojump_clock: MockClock,
    monkeypatch: pytest.MonkeyPatch,
    expected_warnings: ExpectedWarnings,
) -> None:
    print(f"seed {seed}")
    expected_warnings("cannot be stored, and are kept")
    rng = random.Random(seed)
    monkeypatch.setattr(storing_module, "CALL_SIZE", 6000)
    monkeypatch.setattr("afsfuse.cache.writeback.CALL_SIZE", 6000)
    client = WritableClient(Line(rtt=0.002), delay=random_delays(rng, 0.02))
    client.put(FILE, pattern(20_000))
    async with running(
        client, chunk_size=CHUNK, data_bytes=1 << 16, dirty_bytes=rng.choice((20_000, 1 << 20))
    ) as cache:
        world = World(rng, cache, client)
        for _ in range(STEPS):
            await world.step()
        world.trouble = 0.0
        await trio.sleep(100)  # what failed is tried again by itself
        vnode = await world.vnode()
        for writer in world.writers.values():
            await cache.writes.settle(vnode, writer)
        assert vnode.dirty is None
        assert cache.writes.used == 0
        assert client.files[FILE].data == world.model
        for _ in range(3):
            await world.read()
        assert cache.writes.unstored() == []
    assert client.changes.most_in_flight <= storing_module.IN_FLIGHT


@pytest.mark.parametrize("seed", range(SEEDS))
async def test_beside_another_writer_everybody_ends_with_what_the_server_has(
    seed: int,
    autojump_clock: MockClock,
    monkeypatch: pytest.MonkeyPatch,
    expected_warnings: ExpectedWarnings,
) -> None:
    """Another client stores at any moment, also between our calls and while they are under way."""
    print(f"seed {seed}")
    expected_warnings("another client has changed the file while")
    rng = random.Random(seed)
    monkeypatch.setattr(storing_module, "CALL_SIZE", 6000)
    monkeypatch.setattr("afsfuse.cache.writeback.CALL_SIZE", 6000)
    client = WritableClient(Line(rtt=0.002), delay=random_delays(rng, 0.02))
    client.put(FILE, pattern(20_000))
    async with running(client, chunk_size=CHUNK, data_bytes=1 << 16) as cache:
        cache.listener = listener = Listener()
        world = World(rng, cache, client)
        for _ in range(STEPS):
            match rng.randrange(8):
                case 0:
                    data = bytearray(client.files[FILE].data)
                    offset = rng.randrange(len(data) + 1)
                    data[offset : offset + 3000] = pattern(3000, rng.randrange(1 << 30))
                    client.write(FILE, bytes(data))
                case 1:
                    await world.settle()
                case 2:
                    await trio.sleep(rng.choice((0.001, 0.05, 1.0)))
                case 3:
                    await cache.read(VOLUME, FILE, rng.randrange(LONGEST), 5000, ReadState())
                case 4:
                    await world.truncate()
                case 5:
                    await cache.refetch(VOLUME, FILE)
                case _:
                    await world.write()
        vnode = await world.vnode()
        for writer in world.writers.values():
            await cache.writes.settle(vnode, writer)
        await trio.sleep(1)  # breaks arrive
        assert vnode.dirty is None
        whole = client.files[FILE].data
        assert bytes(await cache.read(VOLUME, FILE, 0, 1 << 20, ReadState())) == whole
        assert vnode.status.length == len(whole)
        assert vnode.status.data_version == client.files[FILE].version
    assert listener.data, "the kernel was told of no foreign version"
