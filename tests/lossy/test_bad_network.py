"""Endpoints over a network that loses, doubles and reorders, under the autojump clock."""

import hashlib
import random

import pytest
import trio
import trio.testing

from rxrpc import NULL, Address, Connection, Endpoint, Parameters, SecurityLevel
from tests.lossy.service import ECHO, GIVE, TAKE, Bytes, Number, make_service, pattern
from tests.net import LossyNetwork
from tests.pair.rxkad_world import Realm

CLIENT: Address = ("192.0.2.1", 7001)
SERVER: Address = ("192.0.2.2", 7000)
PATIENT = Parameters(dead_time=120.0)
"""At 30 % loss each way, half of all exchanges fail: the dead time must outlast some doublings."""


async def start(
    nursery: trio.Nursery,
    net: LossyNetwork,
    executed: list[str] | None = None,
    level: SecurityLevel | None = None,
) -> tuple[Endpoint, Endpoint, Connection]:
    """A server with the test service, a client, and the way between them."""
    await nursery.start(net.run)
    client = Endpoint(socket=net.socket(CLIENT), parameters=PATIENT, rng=random.Random(1))
    server = Endpoint(socket=net.socket(SERVER), parameters=PATIENT, rng=random.Random(2))
    realm = Realm()
    security, identity = (realm.server(), realm.client(level)) if level else (NULL, NULL)
    server.add_service(make_service(executed, security))
    await nursery.start(server.run)
    await nursery.start(client.run)
    return client, server, client.connect(SERVER, 77, security=identity)


@pytest.mark.parametrize(
    ("seed", "level"),
    [
        *((seed, None) for seed in range(25)),
        *((seed, SecurityLevel.AUTH) for seed in range(5)),
        *((seed, SecurityLevel.CRYPT) for seed in range(10)),
    ],
)
async def test_calls_survive_a_bad_network(
    autojump_clock: trio.testing.MockClock,
    nursery: trio.Nursery,
    seed: int,
    level: SecurityLevel | None,
) -> None:
    net = LossyNetwork(random.Random(seed), drop=0.3, duplicate=0.1, max_delay=0.5)
    executed: list[str] = []
    client, server, connection = await start(nursery, net, executed, level)
    with trio.fail_after(3000):  # virtual seconds
        data = pattern(50_000)
        assert (await connection.call(ECHO, Bytes(data))).data == data
        async with connection.stream(GIVE, Number(100_000)) as call:
            buffer = bytearray(100_000)
            await call.receive_into(memoryview(buffer)[:60_000], memoryview(buffer)[60_000:])
            reply = await call.finish()
        assert buffer == pattern(100_000)
        assert reply.data == hashlib.sha256(buffer).digest()
        async with connection.stream(TAKE, Number(100_000)) as call:
            await call.send(buffer)
            assert (await call.finish()).data == reply.data
    assert executed == ["echo", "give", "take"], "each exactly once"
    assert client.statistics().buffered == server.statistics().buffered == 0


@pytest.mark.parametrize("seed", range(5))
async def test_many_calls_at_once_survive_a_bad_network(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, seed: int
) -> None:
    net = LossyNetwork(random.Random(seed), drop=0.1, duplicate=0.1, max_delay=0.1)
    executed: list[str] = []
    client, server, connection = await start(nursery, net, executed)
    done = 0

    async def one(size: int) -> None:
        nonlocal done
        data = pattern(size)
        if size % 2:
            assert (await connection.call(ECHO, Bytes(data))).data == data
        else:
            async with connection.stream(GIVE, Number(10 * size)) as call:
                assert await call.receive_exactly(10 * size) == pattern(10 * size)
                await call.finish()
        done += 1

    with trio.fail_after(3000):
        async with trio.open_nursery() as calls:
            for number in range(64):
                calls.start_soon(one, number * 331)
    assert done == len(executed) == 64
    assert client.statistics().client_connections <= 8
    await trio.sleep(1000)
    assert client.statistics().client_connections == 0
    assert server.statistics().server_connections == 0
