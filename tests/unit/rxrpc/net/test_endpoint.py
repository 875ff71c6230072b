"""Endpoints on a perfect network in memory, and once on real sockets."""

import random

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from rxrpc import (
    Address,
    CallAborted,
    CallTimeout,
    Endpoint,
    EndpointClosed,
    LocalError,
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


async def test_both_roles_on_one_socket(
    autojump_clock: MockClock, net: LossyNetwork, nursery: trio.Nursery
) -> None:
    one, other = (Endpoint(socket=net.socket(address)) for address in (CLIENT, SERVER))
    for endpoint in (one, other):
        endpoint.add_service(make_service())
        await nursery.start(endpoint.run)
    assert (one.local_address, other.local_address) == (CLIENT, SERVER)
    there = one.connect(SERVER, 77)
    back = other.connect(CLIENT, 77)
    assert (await there.call(ECHO, Bytes(b"there"))).data == b"there"
    assert (await back.call(ECHO, Bytes(b"back"))).data == b"back"
    assert (await there.call(ECHO, Bytes(b"again"))).data == b"again"  # strangers get no ACKs
    assert one.connect(SERVER, 77) is there
    assert there.address == SERVER
    assert there.rtt() is not None
    assert there.loss() == 0.0
    assert back.rtt() is not None


async def test_before_and_after_it_runs(
    autojump_clock: MockClock, net: LossyNetwork, nursery: trio.Nursery
) -> None:
    endpoint = Endpoint()
    with pytest.raises(LocalError):
        _ = endpoint.local_address
    connection = endpoint.connect(SERVER, 77)
    with pytest.raises(EndpointClosed):
        await connection.call(ECHO, Bytes(b""))
    running = Endpoint(socket=net.socket(CLIENT))
    async with trio.open_nursery() as inner:
        await inner.start(running.run)
        with pytest.raises(LocalError):
            await running.run()
        calls: list[Exception] = []

        async def call() -> None:
            with trio.CancelScope(shield=True):
                try:
                    await running.connect(SERVER, 77).call(ECHO, Bytes(b""))
                except EndpointClosed as exc:
                    calls.append(exc)

        nursery.start_soon(call)
        await trio.testing.wait_all_tasks_blocked()
        inner.cancel_scope.cancel()
    await trio.testing.wait_all_tasks_blocked()
    assert len(calls) == 1
    with pytest.raises(EndpointClosed):
        await running.connect(SERVER, 77).call(ECHO, Bytes(b""))


async def test_an_unknown_service(
    autojump_clock: MockClock, net: LossyNetwork, nursery: trio.Nursery
) -> None:
    client, server = (Endpoint(socket=net.socket(address)) for address in (CLIENT, SERVER))
    await nursery.start(server.run)
    await nursery.start(client.run)
    with pytest.raises(CallAborted) as caught:
        await client.connect(SERVER, 99).call(ECHO, Bytes(b""))
    assert caught.value.code == -2


async def test_on_real_sockets(nursery: trio.Nursery) -> None:
    server, client = (Endpoint(bind=("127.0.0.1", 0)) for _ in range(2))
    server.add_service(make_service())
    await nursery.start(server.run)
    await nursery.start(client.run)
    connection = client.connect(server.local_address, 77)
    with trio.fail_after(30):
        data = pattern(300_000)
        assert (await connection.call(ECHO, Bytes(data))).data == data
        async with connection.stream(GIVE, Number(3_000_000)) as call:
            buffer = bytearray(3_000_000)
            await call.receive_into(memoryview(buffer))
            await call.finish()
        assert buffer == pattern(3_000_000)


async def test_a_taken_port_is_reported_before_the_start(nursery: trio.Nursery) -> None:
    first = Endpoint(bind=("127.0.0.1", 0))
    await nursery.start(first.run)
    with pytest.RaisesGroup(pytest.RaisesExc(OSError), allow_unwrapped=True):
        await nursery.start(Endpoint(bind=first.local_address).run)


async def test_a_refused_port_on_real_sockets(nursery: trio.Nursery) -> None:
    gone = Endpoint(bind=("127.0.0.1", 0))
    async with trio.open_nursery() as inner:
        await inner.start(gone.run)
        address = gone.local_address
        inner.cancel_scope.cancel()
    client = Endpoint(bind=("127.0.0.1", 0), parameters=Parameters(error_grace=0.0))
    await nursery.start(client.run)
    with trio.fail_after(5), pytest.raises(NetworkError):
        await client.connect(address, 77).call(ECHO, Bytes(b""))


async def test_a_snapshot_of_both_ends(
    autojump_clock: MockClock, net: LossyNetwork, nursery: trio.Nursery
) -> None:
    one, other = (Endpoint(socket=net.socket(address)) for address in (CLIENT, SERVER))
    other.add_service(make_service())
    for endpoint in (one, other):
        await nursery.start(endpoint.run)
    connection = one.connect(SERVER, 77)
    await connection.call(ECHO, Bytes(b"question"))
    mine, its = one.snapshot(), other.snapshot()
    assert [call.is_client for call in (*mine.calls, *its.calls)] == [True, False]
    assert mine.connections[0].cid == its.connections[0].cid
    assert mine.peers[0].address == SERVER
    assert mine.statistics == one.statistics()


async def test_parameters_change_by_name_while_it_runs(
    autojump_clock: MockClock, net: LossyNetwork, nursery: trio.Nursery
) -> None:
    client = Endpoint(socket=net.socket(CLIENT), parameters=Parameters(ping_interval=1.0))
    await nursery.start(client.run)
    assert client.configure(dead_time=3.0) == client.parameters
    assert client.parameters == Parameters(ping_interval=1.0, dead_time=3.0)
    with pytest.raises(LocalError, match="no such parameter: dead"):
        client.configure(dead=1.0)
    start = trio.current_time()
    with pytest.raises(CallTimeout, match="dead peer"):
        await client.connect(SERVER, 77).call(ECHO, Bytes(b""))
    assert trio.current_time() - start == pytest.approx(3.0, abs=0.01)
