"""Services: dispatch, errors, bounds."""

import logging
import random
from typing import TypeVar

import pytest
import trio
import trio.testing

from rxrpc import (
    Address,
    ByteService,
    CallAborted,
    CallError,
    Endpoint,
    Interface,
    LocalError,
    Rpc,
    RxgenCode,
    ServerCall,
    Service,
    Stream,
    Void,
)
from rxrpc.xdr import u32, xdr_struct
from tests.conftest import ExpectedWarnings
from tests.lossy.service import ECHO, TAKE, TEST, Bytes, Number, make_service
from tests.net import LossyNetwork
from tests.unit.rxrpc.net.world import World

A = TypeVar("A")
R = TypeVar("R")

CLIENT: Address = ("192.0.2.1", 7001)
SERVER: Address = ("192.0.2.2", 7000)


@xdr_struct
class Two:
    """More words than `Number` has."""

    one: u32
    two: u32


ODD_ECHO = Rpc("OddEcho", 1, Number, Bytes)
ODD_TAKE = Rpc("OddTake", 3, Void, Bytes, stream=Stream.TO_SERVER)
MISSING = Rpc("Missing", 4711, Void, Void)
WRONG_REPLY = Rpc("WrongReply", 1, Bytes, Two)


async def aborted(world: World, rpc: Rpc[A, R], args: A) -> int:
    with pytest.raises(CallAborted) as caught:
        await world.connection.call(rpc, args)
    assert caught.value.remote
    return caught.value.code


async def test_dispatch_errors(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    world = await World(nursery, make_service()).start()
    assert await aborted(world, MISSING, Void()) == RxgenCode.OPCODE
    assert await aborted(world, ODD_ECHO, Number(5)) == RxgenCode.DECODE
    async with world.connection.stream(ODD_TAKE, Void()) as call:
        with pytest.raises(CallAborted) as caught:
            await call.finish()
    assert caught.value.code == RxgenCode.DECODE
    with pytest.raises(CallAborted) as caught:
        await world.connection.call(WRONG_REPLY, Bytes(b"abcde"))
    assert not caught.value.remote
    assert "WrongReply" in str(caught.value)
    assert (await world.connection.call(ECHO, Bytes(b"fine"))).data == b"fine"


async def test_arguments_in_front_of_a_stream_may_come_in_pieces(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    service = Service(TEST)

    @service.handles(TAKE)
    async def take(call: ServerCall, args: Number) -> Bytes:
        data = await call.receive_exactly(args.value)
        assert not call.at_end
        rest = await call.receive_rest()
        assert call.at_end
        return Bytes(data + rest)

    world = await World(nursery, service).start()
    async with world.connection.stream(TAKE, Number(10)) as call:
        for _ in range(20):
            await call.send(b"x" * 100)
            await trio.sleep(0.1)
        assert (await call.finish()).data == b"x" * 2000


async def test_a_handler_that_aborts_and_one_that_fails(
    autojump_clock: trio.testing.MockClock,
    nursery: trio.Nursery,
    expected_warnings: ExpectedWarnings,
    caplog: pytest.LogCaptureFixture,
) -> None:
    expected_warnings("a call from .* failed")
    service = Service(TEST)

    @service.handles(ECHO)
    async def echo(call: ServerCall, args: Bytes) -> Bytes:
        if args.data == b"abort":
            raise CallAborted(4711, reason="because")
        if args.data == b"bug":
            raise ZeroDivisionError
        if args.data == b"dead":
            raise TimeoutError
        return args

    world = await World(nursery, service).start()
    assert await aborted(world, ECHO, Bytes(b"abort")) == 4711
    with caplog.at_level(logging.ERROR):
        assert await aborted(world, ECHO, Bytes(b"bug")) == RxgenCode.SS_MARSHAL
    assert "ZeroDivisionError" in caplog.text
    assert (await world.connection.call(ECHO, Bytes(b"fine"))).data == b"fine"


async def test_a_handler_knows_who_calls(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    service = Service(TEST)
    seen: list[tuple[Address, int, bool]] = []

    @service.handles(ECHO)
    async def echo(call: ServerCall, args: Bytes) -> Bytes:
        seen.append((call.peer, call.service_id, call.security.transparent))
        assert call.epoch & 0x80000000
        return args

    world = await World(nursery, service).start()
    await world.connection.call(ECHO, Bytes(b""))
    assert seen == [(CLIENT, 77, True)]


async def test_handlers_run_side_by_side_up_to_a_bound(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    service = Service(TEST, max_calls=3)
    running = most = 0

    @service.handles(ECHO)
    async def echo(call: ServerCall, args: Bytes) -> Bytes:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await trio.sleep(1)
        running -= 1
        return args

    world = await World(nursery, service).start()
    async with trio.open_nursery() as calls:
        for number in range(12):
            calls.start_soon(world.connection.call, ECHO, Bytes(b"%d" % number))
    assert most == 3


async def test_a_client_that_vanishes_ends_the_handler_without_a_word(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    service = Service(TEST)
    ended: list[str] = []

    @service.handles(TAKE)
    async def take(call: ServerCall, args: Number) -> Bytes:
        try:
            return Bytes(await call.receive_exactly(args.value))
        except CallError as exc:
            ended.append(str(exc))
            raise

    world = await World(nursery, service).start()
    with trio.move_on_after(1):
        async with world.connection.stream(TAKE, Number(10_000)) as call:
            await call.send(b"x" * 5000)
            await trio.sleep(0.5)
            world.net.partition(CLIENT, SERVER)
            await call.finish()
    await trio.sleep(60)
    assert ended == ["call timed out: dead peer"]
    assert world.server.statistics().active_calls == 0


def test_registration_mistakes() -> None:
    service = make_service()
    with pytest.raises(LocalError, match="not in TEST"):
        service.handles(MISSING)
    with pytest.raises(LocalError, match="has a handler"):
        service.handles(ECHO)
    assert Interface("EMPTY", 1, ()).by_opcode == {}


async def test_a_stopped_endpoint_aborts_running_handlers(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    service = Service(TEST)
    cancelled = False

    @service.handles(ECHO)
    async def echo(call: ServerCall, args: Bytes) -> Bytes:
        nonlocal cancelled
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            cancelled = True
            raise
        raise AssertionError

    net = LossyNetwork(random.Random(1))
    await nursery.start(net.run)
    client, server = (Endpoint(socket=net.socket(address)) for address in (CLIENT, SERVER))
    server.add_service(service)
    await nursery.start(client.run)
    async with trio.open_nursery() as inner:
        await inner.start(server.run)
        codes: list[int] = []

        async def call() -> None:
            try:
                await client.connect(SERVER, 77).call(ECHO, Bytes(b""))
            except CallAborted as exc:
                codes.append(exc.code)

        nursery.start_soon(call)
        await trio.sleep(1)
        inner.cancel_scope.cancel()
    await trio.sleep(1)
    assert cancelled
    assert len(codes) == 1


async def test_a_service_of_bytes(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    async def reverse(call: ServerCall) -> None:
        data = await call.receive_rest()
        assert call.at_end
        assert not call.over
        await call.send(data[::-1])

    world = await World(nursery, ByteService(78, reverse, name="mirror")).start()
    for request in (b"", b"abc", bytes(range(256)) * 100):
        async with world.connection.begin() as call:
            assert not call.at_end
            await call.send(request)
            await call.send_eof()
            assert await call.receive_rest() == request[::-1]
            assert call.at_end
            assert call.over
    assert world.server.statistics().buffered == 0


async def test_several_services_on_one_port(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    async def name(call: ServerCall) -> None:
        await call.send(b"%d" % call.service_id)

    world = await World(nursery, ByteService(100, name)).start()
    for service_id in range(101, 110):
        world.server.add_service(ByteService(service_id, name))
    with pytest.raises(LocalError):
        world.server.add_service(ByteService(105, name))
    for service_id in range(100, 110):
        async with world.client.connect(SERVER, service_id).begin() as call:
            await call.send_eof()
            assert await call.receive_rest() == b"%d" % service_id
