"""Calls from the caller's side."""

import hashlib
import random
from collections.abc import Sequence

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from rxrpc import (
    Address,
    ByteService,
    CallAborted,
    CallBusy,
    CallTimeout,
    CallTimeouts,
    Endpoint,
    LocalError,
    MessageSizeError,
    NetworkError,
    Parameters,
    SecurityLevel,
    SecurityLevelError,
    ServerCall,
    Service,
)
from rxrpc.net.sockets import Datagram
from rxrpc.wire.packet import Header, PacketType
from tests.lossy.service import ECHO, GIVE, TAKE, TEST, Bytes, Number, make_service, pattern
from tests.net import LossyNetwork, MemorySocket
from tests.pair.toy_security import ToyClient, ToyServer
from tests.unit.rxrpc.net.world import World

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


@pytest.mark.parametrize("size", [0, 5, 20_000])
async def test_what_stands_behind_the_arguments_goes_with_them(
    autojump_clock: MockClock, net: LossyNetwork, nursery: trio.Nursery, size: int
) -> None:
    client, server = (Endpoint(socket=net.socket(address)) for address in (CLIENT, SERVER))
    server.add_service(make_service())
    await nursery.start(server.run)
    await nursery.start(client.run)
    connection = client.connect(SERVER, 77)
    data = pattern(size)
    reply = await connection.call(TAKE, Number(size), data=data)
    assert reply.data == hashlib.sha256(data).digest()
    with pytest.raises(LocalError):
        await connection.call(ECHO, Bytes(b""), data=b"more")
    assert client.statistics().active_calls == 0


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


async def test_a_destination_for_each_call(
    autojump_clock: MockClock, net: LossyNetwork, nursery: trio.Nursery
) -> None:
    """From a serving endpoint, and through the address that it serves on."""
    addresses: list[Address] = [(f"192.0.2.{number}", 7000) for number in range(1, 7)]
    callers: list[Address] = []

    async def whoami(call: ServerCall) -> None:
        callers.append(call.peer)
        await call.send(str(call.peer).encode())

    endpoints = [Endpoint(socket=net.socket(address)) for address in addresses]
    for endpoint in endpoints:
        endpoint.add_service(make_service())
        endpoint.add_service(ByteService(78, whoami))
        await nursery.start(endpoint.run)
    for endpoint in endpoints:
        for address in addresses:
            reply = await endpoint.call(address, 77, ECHO, Bytes(b"hello"))
            assert reply.data == b"hello"
            async with endpoint.connect(address, 78).begin() as call:
                await call.send_eof()
                assert await call.receive_rest() == str(endpoint.local_address).encode()
    assert callers == [caller for caller in addresses for _ in addresses]
    assert not net.counts["lost"]


async def test_calls_of_both_kinds_share_connections(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    world = await World(nursery, make_service()).start()
    await world.connection.call(ECHO, Bytes(b"one"))
    await world.client.call(SERVER, 77, ECHO, Bytes(b"two"))
    assert world.client.statistics().client_connections == 1
    await world.client.call(SERVER, 77, ECHO, Bytes(b"three"), exclusive=True)
    assert world.client.statistics().client_connections == 2
    await trio.sleep(25)
    assert world.client.statistics().client_connections == 1
    assert world.client.connect(SERVER, 77) is world.connection
    assert world.client.connect(SERVER, 77, exclusive=True) is not world.connection


async def test_nothing_is_sent_with_too_little_protection(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    seen: list[SecurityLevel] = []
    service = Service(TEST, security=[ToyServer()], min_level=SecurityLevel.CRYPT)

    @service.handles(ECHO)
    async def echo(call: ServerCall, args: Bytes) -> Bytes:
        seen.append(call.security_level)
        return args

    world = await World(nursery, service).start()
    client = world.client
    with pytest.raises(SecurityLevelError):
        client.connect(SERVER, 77, min_level=SecurityLevel.AUTH)
    plain = client.connect(SERVER, 77)
    client.configure(min_security_level=SecurityLevel.CRYPT)
    with pytest.raises(SecurityLevelError):
        await plain.call(ECHO, Bytes(b"plain"))
    assert world.net.counts["sent"] == 0
    reply = await client.call(
        SERVER, 77, ECHO, Bytes(b"x"), security=ToyClient(), min_level=SecurityLevel.CRYPT
    )
    assert reply.data == b"x"
    assert seen == [SecurityLevel.CRYPT]


class Recorder(MemorySocket):
    """Remembers what is sent."""

    sent: list[bytes]

    def send(self, datagrams: Sequence[Datagram]) -> int:
        self.sent = [*getattr(self, "sent", []), *(data for data, _ in datagrams)]
        return super().send(datagrams)


@pytest.mark.parametrize("length", [0, 1, 1411, 1412, 1413, 10_000])
async def test_a_request_of_a_known_length(
    autojump_clock: MockClock, net: LossyNetwork, nursery: trio.Nursery, length: int
) -> None:
    """Nothing wrong leaves: the server never sees the end of a request that is not whole."""
    requests: list[bytes] = []

    async def collect(call: ServerCall) -> None:
        requests.append(await call.receive_rest())

    recorder = Recorder(net, CLIENT)
    net._sockets[CLIENT] = recorder
    client, server = Endpoint(socket=recorder), Endpoint(socket=net.socket(SERVER))
    server.add_service(ByteService(78, collect))
    await nursery.start(server.run)
    await nursery.start(client.run)
    connection = client.connect(SERVER, 78)
    async with connection.begin(length=length) as call:
        await call.send(bytes(length))  # the end goes with the last byte
        assert await call.receive_rest() == b""
    assert requests == [bytes(length)]
    async with connection.begin(length=length) as call:
        with pytest.raises(MessageSizeError):
            await call.send(bytes(length + 1))
        await call.send(bytes(length))
        with pytest.raises(MessageSizeError):
            await call.send(b"x")
        assert await call.receive_rest() == b""
    assert requests == [bytes(length)] * 2
    recorder.sent.clear()
    async with connection.begin(length=length + 1) as call:
        await call.send(bytes(length))
        with pytest.raises(MessageSizeError, match="1 bytes are missing"):
            await call.send_eof()
    await trio.sleep(1)
    assert requests == [bytes(length)] * 2
    data = [Header.parse(each)[0] for each in recorder.sent]
    assert not [header for header in data if header.type is PacketType.DATA and header.flags & 4]


async def test_a_stream_of_a_known_length(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    world = await World(nursery, make_service()).start()
    for size in (0, 5000):
        async with world.connection.stream(TAKE, Number(size), length=size) as call:
            await call.send(bytes(size))
            await call.finish()
    async with world.connection.stream(TAKE, Number(9), length=10) as call:
        with pytest.raises(MessageSizeError):
            await call.finish()
    with pytest.raises(LocalError, match="takes nothing behind"):
        world.connection.stream(ECHO, Bytes(b""), length=1)
    async with world.connection.stream(ECHO, Bytes(b"x"), length=0) as echo:
        assert (await echo.finish()).data == b"x"
    await trio.sleep(1)
    assert world.client.statistics().active_calls == 0


async def test_the_upgraded_service_is_known_from_the_reply(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    async def who(call: ServerCall) -> None:
        await call.receive_rest()
        await trio.sleep(1)
        await call.send(b"%d" % call.service_id)

    world = await World(nursery, ByteService(1, who)).start()
    world.server.add_service(ByteService(2501, who))
    world.server.offer_upgrade(1, 2501)
    with pytest.raises(LocalError):
        world.server.offer_upgrade(1, 99)
    connection = world.client.connect(SERVER, 1, upgrade=True)
    assert connection.service_id == 1
    replies: list[tuple[bytes, float]] = []

    async def ask() -> None:
        async with connection.begin() as call:
            await call.send_eof()
            replies.append((await call.receive_rest(), trio.current_time()))

    async with trio.open_nursery() as calls:
        for _ in range(3):
            calls.start_soon(ask)
    assert connection.service_id == 2501
    assert [reply for reply, _ in replies] == [b"2501"] * 3
    start = replies[0][1]
    assert [round(at - start) for _, at in replies] == [0, 1, 1], "the others have waited"
    async with world.client.connect(SERVER, 1).begin() as call:
        await call.send_eof()
        assert await call.receive_rest() == b"1"


async def test_a_cancelled_call_is_aborted_at_once_with_the_code_of_a_user(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    ended: list[CallAborted] = []

    async def wait(call: ServerCall) -> None:
        try:
            await call.receive_rest()
        except CallAborted as exc:
            ended.append(exc)
            raise

    world = await World(nursery, ByteService(78, wait)).start()
    with trio.move_on_after(5):
        async with world.client.connect(SERVER, 78).begin() as call:
            await call.send(bytes(5000))
            await trio.sleep_forever()
    await trio.sleep(0.01)
    assert [(exc.code, exc.remote) for exc in ended] == [(-6, True)]
    assert isinstance(call.error, CallAborted)
    assert not call.error.remote
    assert call.over
