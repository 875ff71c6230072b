"""Services: dispatch, errors, bounds."""

import logging
import random
from typing import TypeVar

import pytest
import trio
import trio.testing

from rxrpc import (
    Address,
    CallAborted,
    Endpoint,
    LocalError,
    Parameters,
    ServerCall,
    Service,
)
from rxrpc.rpc import Interface, Rpc, RxgenCode, Stream, Void
from rxrpc.xdr import u32, xdr_struct
from tests.conftest import ExpectedWarnings
from tests.lossy.service import ECHO, GIVE, TAKE, TEST, Bytes, Number, make_service, pattern
from tests.net import LossyNetwork

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


class World:
    """A service, its endpoint, a client."""

    def __init__(self, nursery: trio.Nursery, service: Service) -> None:
        self.nursery = nursery
        self.net = LossyNetwork(random.Random(1))
        self.server = Endpoint(socket=self.net.socket(SERVER))
        self.client = Endpoint(socket=self.net.socket(CLIENT))
        self.server.add_service(service)
        self.connection = self.client.connect(SERVER, service.interface.service_id)

    async def start(self) -> "World":
        for run in (self.net.run, self.server.run, self.client.run):
            await self.nursery.start(run)
        return self


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


async def test_a_reply_without_end_is_cut(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    service = Service(TEST)

    @service.handles(GIVE)
    async def give(call: ServerCall, args: Number) -> Bytes:
        while True:
            await call.send(bytes(10_000))

    world = World(nursery, service)
    world.client.parameters = Parameters(max_reply=50_000)
    await world.start()
    async with world.connection.stream(GIVE, Number(1)) as call:
        with pytest.raises(CallAborted, match="does not end"):
            await call.receive_rest()
    await trio.sleep(5)
    assert world.server.statistics().active_calls == 0


async def test_a_reply_that_ends_early_and_one_that_is_a_little_too_long(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    world = World(nursery, make_service())
    world.client.parameters = Parameters(max_reply=1000)
    await world.start()
    async with world.connection.stream(GIVE, Number(100)) as call:
        with pytest.raises(CallAborted, match="ended early"):
            await call.receive_exactly(10_000)
    async with world.connection.stream(GIVE, Number(1100)) as call:
        with pytest.raises(CallAborted, match="too long"):
            await call.receive_rest()


async def test_streams_piece_by_piece(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    world = await World(nursery, make_service()).start()
    async with world.connection.stream(GIVE, Number(500_000)) as call:
        got = b""
        while len(got) < 499_000:
            got += await call.receive_some()
            await trio.sleep(0.001)
        while not call.at_end:
            got += await call.receive_some()
        assert await call.receive_some() == b""
    assert got[:500_000] == pattern(500_000)


async def test_a_slow_reader_loses_nothing(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    world = await World(nursery, make_service()).start()
    async with world.connection.stream(GIVE, Number(2_000_000)) as call:
        await trio.sleep(5)
        assert world.client.statistics().buffered <= 64 + 255
        got = b""
        while len(got) < 2_000_000:
            got += await call.receive_exactly(20_000)
            await trio.sleep(0.01)
        await call.finish()
    assert got == pattern(2_000_000)


async def test_two_tasks_cannot_wait_for_one_call(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    service = Service(TEST)

    @service.handles(GIVE)
    async def give(call: ServerCall, args: Number) -> Bytes:
        await trio.sleep(10)
        return Bytes(b"late")

    world = await World(nursery, service).start()
    async with world.connection.stream(GIVE, Number(1)) as call:
        nursery.start_soon(call.receive_exactly, 1)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(LocalError):
            await call.receive_exactly(1)
        await trio.sleep(20)


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
