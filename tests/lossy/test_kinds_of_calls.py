"""Calls of every kind, each on a network that loses, doubles and reorders."""

import random

import pytest
import trio
import trio.testing

from rxrpc import (
    Address,
    ByteService,
    CallTimeouts,
    Endpoint,
    Interface,
    Parameters,
    PhaseError,
    Rpc,
    ServerCall,
    Service,
    Stream,
)
from tests.lossy.service import Bytes, Number, pattern
from tests.net import LossyNetwork

CLIENT: Address = ("192.0.2.1", 7001)
SERVER: Address = ("192.0.2.2", 7000)
PATIENT = Parameters(dead_time=120.0)
ROUND = Rpc("Round", 1, Number, Bytes, stream=Stream.BOTH)
OLD = Interface("OLD", 1, (ROUND,))
BETTER = Interface("BETTER", 2501, (ROUND,))


class World:
    """A server with old and better services of the same RPC, one of bytes, and a client."""

    def __init__(self, seed: int) -> None:
        print(f"seed {seed}")
        self.net = LossyNetwork(random.Random(seed), drop=0.2, duplicate=0.1, max_delay=0.3)
        self.client, self.server = (
            Endpoint(socket=self.net.socket(address), parameters=PATIENT, rng=random.Random(seed))
            for address in (CLIENT, SERVER)
        )
        self.served: list[int] = []
        self.acknowledged = 0
        for interface in (OLD, BETTER):
            self.server.add_service(self._service(interface))
        self.server.add_service(ByteService(3, self._impatient))
        self.server.offer_upgrade(1, 2501)

    def _service(self, interface: Interface) -> Service:
        service = Service(interface)

        @service.handles(ROUND)
        async def back(call: ServerCall, args: Number) -> Bytes:
            self.served.append(call.service_id)
            data = await call.receive_exactly(args.value)
            await call.send(data)
            call.reply(Bytes(b"done"))
            await call.acknowledged()
            self.acknowledged += 1
            return Bytes(b"")

        return service

    async def _impatient(self, call: ServerCall) -> None:
        self.served.append(call.service_id)
        await call.receive_exactly(50_000)
        await call.send(b"enough")

    async def start(self, nursery: trio.Nursery) -> None:
        for run in (self.net.run, self.server.run, self.client.run):
            await nursery.start(run)

    async def finish(self) -> None:
        """All is over and nothing is left."""
        await trio.sleep(2000)
        for statistics in (self.client.statistics(), self.server.statistics()):
            assert statistics.active_calls == statistics.server_calls == statistics.buffered == 0
            assert statistics.client_connections == statistics.server_connections == 0


@pytest.mark.parametrize("seed", range(10))
async def test_upgrades_and_exclusive_connections(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, seed: int
) -> None:
    world = World(seed)
    await world.start(nursery)
    connections = [
        world.client.connect(SERVER, 1, upgrade=True),
        world.client.connect(SERVER, 1, exclusive=True),
        world.client.connect(SERVER, 1),
    ]

    async def one(number: int) -> None:
        size = 997 * number
        connection = connections[number % 3]
        async with connection.stream(ROUND, Number(size), length=size) as call:
            await call.send(pattern(size))
            assert await call.receive_exactly(size) == pattern(size)
            assert (await call.finish()).data == b"done"

    with trio.fail_after(3000):  # virtual seconds
        async with trio.open_nursery() as calls:
            for number in range(30):
                calls.start_soon(one, number)
    assert sorted(world.served) == [1] * 20 + [2501] * 10
    assert [each.service_id for each in connections] == [2501, 1, 1]
    await world.finish()
    # Once in more than 600 runs it was 29. Most likely the last ACK of a connection that its client
    # had let go was lost each time; that was not seen itself.
    assert 28 <= world.acknowledged <= 30


@pytest.mark.parametrize("seed", range(10))
async def test_requests_that_are_answered_before_their_end(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, seed: int
) -> None:
    world = World(seed)
    await world.start(nursery)
    connection = world.client.connect(SERVER, 3)

    async def one() -> None:
        async with connection.begin(timeouts=CallTimeouts(idle=500.0)) as call:
            for _ in range(1000):
                try:
                    await call.send(bytes(5000))
                except PhaseError:
                    break
            else:
                raise AssertionError("nobody stopped the writer")
            assert await call.receive_rest() == b"enough"

    with trio.fail_after(3000):
        async with trio.open_nursery() as calls:
            for _ in range(8):
                calls.start_soon(one)
    assert world.served == [3] * 8
    await world.finish()
