"""Calls from the caller's side."""

import random

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from rxrpc import (
    Address,
    CallBusy,
    CallTimeout,
    CallTimeouts,
    Endpoint,
    NetworkError,
    Parameters,
)
from tests.lossy.service import ECHO, GIVE, Bytes, Number, make_service, pattern
from tests.net import LossyNetwork

CLIENT: Address = ("192.0.2.1", 7001)
SERVER: Address = ("192.0.2.2", 7000)


@pytest.fixture
async def net(autojump_clock: MockClock, nursery: trio.Nursery) -> LossyNetwork:
    net = LossyNetwork(random.Random(1))
    await nursery.start(net.run)
    return net


async def test_a_cancelled_call_is_aborted_on_the_wire(
    autojump_clock: MockClock, net: LossyNetwork, nursery: trio.Nursery
) -> None:
    client, server = (Endpoint(socket=net.socket(address)) for address in (CLIENT, SERVER))
    server.add_service(make_service())
    await nursery.start(server.run)
    await nursery.start(client.run)
    connection = client.connect(SERVER, 77)
    await connection.call(ECHO, Bytes(b"warm"))
    with trio.move_on_after(0.01):
        async with connection.stream(GIVE, Number(5_000_000)) as call:
            await call.receive_exactly(5_000_000)
    assert client.statistics().active_calls == 0
    await trio.sleep(1)
    assert server.statistics().active_calls == 0
    assert (await connection.call(ECHO, Bytes(b"next"))).data == b"next"


async def test_several_calls_begin_together(
    autojump_clock: MockClock, net: LossyNetwork, nursery: trio.Nursery
) -> None:
    client, server = (Endpoint(socket=net.socket(address)) for address in (CLIENT, SERVER))
    server.add_service(make_service())
    await nursery.start(server.run)
    await nursery.start(client.run)
    connection = client.connect(SERVER, 77)
    sizes = [10 * number for number in range(20)]
    calls = connection.streams(GIVE, [Number(size) for size in sizes])
    for size, call in zip(sizes, calls, strict=True):
        assert (await call.receive_rest())[:size] == pattern(size)
        call.close()
    assert client.statistics().active_calls == 0
    assert connection.streams(GIVE, []) == []


async def test_of_too_many_calls_none_begins(
    autojump_clock: MockClock, net: LossyNetwork, nursery: trio.Nursery
) -> None:
    parameters = Parameters(max_waiting_calls=5)
    client = Endpoint(socket=net.socket(CLIENT), parameters=parameters)
    await nursery.start(client.run)
    connection = client.connect(SERVER, 77)
    with pytest.raises(CallBusy):
        connection.streams(GIVE, [Number(1)] * 20)
    statistics = client.statistics()
    assert (statistics.active_calls, statistics.waiting_calls) == (0, 0)


async def test_leaving_a_stream_early_aborts_the_call(
    autojump_clock: MockClock, net: LossyNetwork, nursery: trio.Nursery
) -> None:
    client, server = (Endpoint(socket=net.socket(address)) for address in (CLIENT, SERVER))
    server.add_service(make_service())
    await nursery.start(server.run)
    await nursery.start(client.run)
    connection = client.connect(SERVER, 77)
    async with connection.stream(GIVE, Number(1_000_000)) as call:
        assert await call.receive_exactly(1000) == pattern(1000)
    await trio.sleep(1)
    assert server.statistics().active_calls == 0
    assert client.statistics().buffered == 0


async def test_errors_of_the_network_reach_the_call(
    autojump_clock: MockClock, net: LossyNetwork, nursery: trio.Nursery
) -> None:
    net.icmp = True
    client = Endpoint(socket=net.socket(CLIENT))
    await nursery.start(client.run)
    start = trio.current_time()
    with pytest.raises(NetworkError, match="refused"):
        await client.connect(SERVER, 77).call(ECHO, Bytes(b""))
    assert trio.current_time() - start < 1.0
    net.icmp = False
    with pytest.raises(CallTimeout, match="dead peer"):
        await client.connect(SERVER, 77).call(ECHO, Bytes(b""))
    assert trio.current_time() - start == pytest.approx(20.0, abs=1.0)


async def test_timeouts_of_a_call(
    autojump_clock: MockClock, net: LossyNetwork, nursery: trio.Nursery
) -> None:
    client = Endpoint(socket=net.socket(CLIENT))
    await nursery.start(client.run)
    start = trio.current_time()
    with pytest.raises(CallTimeout, match="hard"):
        await client.connect(SERVER, 77).call(ECHO, Bytes(b""), timeouts=CallTimeouts(hard=3.0))
    assert trio.current_time() - start == pytest.approx(3.0, abs=0.01)


async def test_after_a_partition_it_goes_on(
    autojump_clock: MockClock, net: LossyNetwork, nursery: trio.Nursery
) -> None:
    client, server = (Endpoint(socket=net.socket(address)) for address in (CLIENT, SERVER))
    server.add_service(make_service())
    await nursery.start(server.run)
    await nursery.start(client.run)
    connection = client.connect(SERVER, 77)
    await connection.call(ECHO, Bytes(b"warm"))
    net.partition(CLIENT, SERVER)

    async def heal() -> None:
        await trio.sleep(10)
        net.heal()

    nursery.start_soon(heal)
    assert (await connection.call(ECHO, Bytes(b"through"))).data == b"through"
