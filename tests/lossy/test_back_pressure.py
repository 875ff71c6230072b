"""Whoever is slow makes the other wait, at either end, and nothing grows meanwhile."""

import random

import pytest
import trio
import trio.testing

from rxrpc import Address, ByteService, Endpoint, Parameters, ServerCall
from tests.lossy.service import pattern
from tests.net import LossyNetwork

CLIENT: Address = ("192.0.2.1", 7001)
SERVER: Address = ("192.0.2.2", 7000)
SIZE = 3_000_000
RECEIVED = Parameters().read_ahead + Parameters().receive_window
"""Packets that wait at a receiver at most."""
QUEUED = Parameters().send_buffer + 100
"""Packets that wait at a sender at most: what a writer gives at once fills less than a hundred."""


class World:
    """A client, a server with one service of bytes, and a bad network between them."""

    def __init__(self, nursery: trio.Nursery, seed: int, service: ByteService) -> None:
        print(f"seed {seed}")
        self._nursery = nursery
        self.net = LossyNetwork(random.Random(seed), drop=0.05, duplicate=0.05, max_delay=0.02)
        self.client = Endpoint(socket=self.net.socket(CLIENT))
        self.server = Endpoint(socket=self.net.socket(SERVER))
        self.server.add_service(service)
        self.connection = self.client.connect(SERVER, service.service_id)

    async def start(self) -> None:
        for run in (self.net.run, self.server.run, self.client.run):
            await self._nursery.start(run)

    def queued(self) -> int:
        """Packets that wait to be sent or acknowledged, at either end."""
        queued = [
            call.sending.queued
            for endpoint in (self.client, self.server)
            for connection in endpoint._core._connections.values()
            for call in connection.calls
            if call is not None
        ]
        return max(queued, default=0)

    def check(self) -> None:
        assert self.client.statistics().buffered <= RECEIVED
        assert self.server.statistics().buffered <= RECEIVED
        assert self.queued() <= QUEUED

    async def quiet(self) -> None:
        """Until nothing but pings is sent: the window is shut."""
        await trio.sleep(10)
        self.check()
        before = self.net.counts["sent"]
        await trio.sleep(20)
        assert self.net.counts["sent"] - before < 60
        self.check()


@pytest.mark.parametrize("seed", range(3))
async def test_a_slow_reader_of_a_reply(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, seed: int
) -> None:
    given = 0

    async def give(call: ServerCall) -> None:
        nonlocal given
        data = pattern(SIZE)
        while given < SIZE:
            await call.send(data[given : given + 10_000])
            given += 10_000

    world = World(nursery, seed, ByteService(78, give))
    await world.start()
    async with world.connection.begin() as call:
        await call.send_eof()
        await world.quiet()
        assert given < (RECEIVED + QUEUED) * 1416, "the writer has to wait"
        received = bytearray()
        while len(received) < SIZE:
            received += await call.receive_exactly(50_000)
            world.check()
            await trio.sleep(0.1)
        assert await call.receive_some() == b""
    assert received == pattern(SIZE)
    assert world.client.statistics().buffered == 0


@pytest.mark.parametrize("seed", range(3))
async def test_a_slow_reader_of_a_request(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, seed: int
) -> None:
    received = bytearray()
    go_on = trio.Event()

    async def take(call: ServerCall) -> None:
        await go_on.wait()
        while chunk := await call.receive_some():
            received.extend(chunk)
            world.check()
            await trio.sleep(0.1)

    world = World(nursery, seed, ByteService(78, take))
    await world.start()
    sent = 0

    async with world.connection.begin(length=SIZE) as call:

        async def write() -> None:
            nonlocal sent
            data = pattern(SIZE)
            while sent < SIZE:
                await call.send(data[sent : sent + 10_000])
                sent += 10_000

        async with trio.open_nursery() as writer:
            writer.start_soon(write)
            await world.quiet()
            assert sent < (RECEIVED + QUEUED) * 1416, "the writer has to wait"
            go_on.set()
        assert await call.receive_rest() == b""
    assert received == pattern(SIZE)
    assert world.server.statistics().buffered == 0


async def test_reading_and_writing_may_be_two_tasks(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    """One waits for room, one for data, one for the ACK, all in one call."""

    async def mirror(call: ServerCall) -> None:
        data = await call.receive_rest()
        await call.send(data)

    world = World(nursery, 1, ByteService(78, mirror))
    await world.start()
    data = pattern(900_000)
    story: list[str] = []
    async with world.connection.begin(length=len(data)) as call:

        async def write() -> None:
            await call.send(data)
            story.append("sent")
            await call.acknowledged()
            story.append("acknowledged")

        async with trio.open_nursery() as tasks:
            tasks.start_soon(write)
            assert await call.receive_rest() == data
            story.append("received")
    assert story == ["sent", "acknowledged", "received"]
