"""The tasks between core and socket."""

import random
from collections.abc import Sequence

import trio
import trio.testing

from rxrpc import Address, Endpoint
from rxrpc.net.sockets import Datagram
from tests.lossy.service import ECHO, Bytes, make_service, pattern
from tests.net import LossyNetwork, MemorySocket

CLIENT: Address = ("192.0.2.1", 7001)
SERVER: Address = ("192.0.2.2", 7000)


class FullSocket(MemorySocket):
    """Takes two datagrams a call, and nothing at all every third time."""

    calls = 0

    async def wait_writable(self) -> None:
        await trio.sleep(0.001)

    def send(self, datagrams: Sequence[Datagram]) -> int:
        self.calls += 1
        room = 0 if self.calls % 3 == 0 else 2
        return super().send(datagrams[:room])


async def test_what_the_kernel_does_not_take_is_sent_later_in_order(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    net = LossyNetwork(random.Random(1), max_delay=0.0)
    await nursery.start(net.run)
    socket = FullSocket(net, CLIENT)
    net._sockets[CLIENT] = socket
    client = Endpoint(socket=socket)
    server = Endpoint(socket=net.socket(SERVER))
    server.add_service(make_service())
    await nursery.start(server.run)
    await nursery.start(client.run)
    data = pattern(200_000)
    with trio.fail_after(60):
        assert (await client.connect(SERVER, 77).call(ECHO, Bytes(data))).data == data
    assert client.statistics().resent == 0
    assert socket.calls > 100


async def test_what_waits_for_a_kernel_that_takes_nothing_is_bounded(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    """A peer that sends as fast as it can, over a line that takes no answers."""

    class Stuck(MemorySocket):
        async def wait_writable(self) -> None:
            await trio.sleep_forever()

        def send(self, datagrams: Sequence[Datagram]) -> int:
            return 0

    net = LossyNetwork(random.Random(1))
    socket = Stuck(net, CLIENT)
    endpoint = Endpoint(socket=socket)
    await nursery.start(endpoint.run)
    driver = endpoint.driver
    assert driver is not None
    for _ in range(100):
        driver._send([(b"answer", SERVER)] * 1000)
    assert len(driver._backlog) < 10_000


async def test_a_flood_lets_other_tasks_run(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    net = LossyNetwork(random.Random(1))
    socket = net.socket(CLIENT)
    endpoint = Endpoint(socket=socket)
    await nursery.start(endpoint.run)
    for _ in range(10_000):
        socket.put((b"garbage", SERVER))
    turns = 0
    while socket.inbox:
        await trio.lowlevel.checkpoint()
        turns += 1
    assert turns >= 10_000 // 128
    assert sum(endpoint.statistics().drops.values()) == 10_000


async def test_the_timer_moves_earlier_and_later(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    net = LossyNetwork(random.Random(1))
    await nursery.start(net.run)
    server = Endpoint(socket=net.socket(SERVER))
    server.add_service(make_service())
    client = Endpoint(socket=net.socket(CLIENT))
    await nursery.start(server.run)
    await nursery.start(client.run)
    connection = client.connect(SERVER, 77)
    for pause in (0.0, 50.0, 0.5, 130.0, 0.0):
        await trio.sleep(pause)
        with trio.fail_after(1):
            assert (await connection.call(ECHO, Bytes(b"x"))).data == b"x"
