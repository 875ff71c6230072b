"""Services: dispatch, errors, bounds."""

import logging
import random
from functools import partial
from typing import TypeVar

import pytest
import trio
import trio.testing

from rxrpc import (
    Address,
    ByteService,
    CallAborted,
    CallBusy,
    CallError,
    CallTimeout,
    CallTimeouts,
    Endpoint,
    Interface,
    LocalError,
    PhaseError,
    Rpc,
    RxCode,
    RxgenCode,
    SecurityLevel,
    ServerCall,
    Service,
    Stream,
    Void,
)
from rxrpc.wire.packet import Header, PacketType
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
NOTHING = Rpc("Nothing", 1, Void, Void)
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


async def test_what_exceeds_the_backlog_is_told_busy_and_not_begun(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    begun = 0

    async def slow(call: ServerCall) -> None:
        nonlocal begun
        begun += 1
        await trio.sleep(5)

    world = await World(nursery, ByteService(78, slow, max_calls=2, backlog=3)).start()
    outcomes: list[str] = []

    async def one() -> None:
        async with world.connection.begin(timeouts=CallTimeouts(busy=0.0)) as call:
            await call.send_eof()
            try:
                await call.receive_rest()
            except CallBusy:
                outcomes.append("busy")
            else:
                outcomes.append(f"served at {round(trio.current_time() - start)}")

    world.client.configure(introduction_time=0.0)
    start = trio.current_time()
    async with trio.open_nursery() as calls:
        for _ in range(8):
            calls.start_soon(one)
            await trio.sleep(0.01)
    assert outcomes == ["busy"] * 3 + ["served at 5"] * 2 + ["served at 10"] * 2 + ["served at 15"]
    assert begun == 5
    async with trio.open_nursery() as calls:
        for _ in range(5):
            calls.start_soon(one)
    assert outcomes.count("busy") == 3, "there is room again"
    patient = CallTimeouts(busy=60.0)
    async with trio.open_nursery() as calls:
        for _ in range(12):
            call = partial(world.connection.call, NOTHING, Void(), timeouts=patient)
            calls.start_soon(call)
    assert world.service.entry.calls == 0


async def test_calls_whose_clients_give_up_leave_the_queue(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    begun = 0

    async def slow(call: ServerCall) -> None:
        nonlocal begun
        begun += 1
        await trio.sleep(100)

    world = await World(nursery, ByteService(78, slow, max_calls=1, backlog=2)).start()
    for _ in range(20):
        with trio.move_on_after(0.5):
            await world.client.call(SERVER, 78, NOTHING, Void())
        await trio.sleep(0.01)
        assert world.service.entry.calls <= 1, "only the one at which its handler still is"
    assert begun == 1
    await trio.sleep(200)
    assert world.service.entry.calls == 0
    assert begun == 1


async def test_a_service_rejects_calls_before_it_reads_them(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    shown: list[tuple[Address, int, bool, SecurityLevel]] = []

    def accept(call: ServerCall) -> None:
        shown.append((call.peer, call.service_id, bool(call.epoch), call.security_level))
        if len(shown) % 2 == 0:
            raise CallAborted(4711, reason="every second one")

    async def serve(call: ServerCall) -> None:
        await call.receive_rest()

    world = await World(nursery, ByteService(78, serve, accept=accept)).start()
    for _ in range(2):
        await world.client.call(SERVER, 78, NOTHING, Void())
        with pytest.raises(CallAborted) as caught:
            await world.client.call(SERVER, 78, NOTHING, Void())
        assert (caught.value.code, caught.value.remote) == (4711, True)
    assert shown == [(CLIENT, 78, True, SecurityLevel.CLEAR)] * 4
    async with world.connection.begin() as call:  # a request that is not even whole
        await call.send(bytes(5000))
        await trio.sleep(1)
    async with world.connection.begin() as call:
        await call.send(bytes(5000))
        await trio.sleep(1)
        with pytest.raises(CallAborted, match="4711"):
            await call.send_eof()


TRANSFORM = Rpc("Transform", 9, Number, Bytes, stream=Stream.BOTH)


async def test_a_stream_to_the_server_and_then_from_it(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    service = Service(Interface("BOTH", 78, (TRANSFORM,)))

    @service.handles(TRANSFORM)
    async def transform(call: ServerCall, args: Number) -> Bytes:
        data = await call.receive_exactly(args.value)
        await call.send(data[::-1])
        return Bytes(b"done")

    world = await World(nursery, service).start()
    data = bytes(range(256)) * 1000
    async with world.connection.stream(TRANSFORM, Number(len(data))) as call:
        await call.send(data)
        await call.send_eof()
        assert await call.receive_exactly(len(data)) == data[::-1]
        assert (await call.finish()).data == b"done"


async def test_a_reply_may_begin_before_the_request_has_ended_and_ends_it(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    service = Service(TEST)
    told: list[type[Exception]] = []

    @service.handles(TAKE)
    async def take(call: ServerCall, args: Number) -> Bytes:
        await call.receive_exactly(args.value)
        await call.send(b"enough")
        try:
            await call.receive_some()
        except PhaseError as exc:
            told.append(type(exc))
        return Bytes(b"")

    world = await World(nursery, service).start()
    sent = 0
    async with world.connection.stream(TAKE, Number(50_000)) as call:
        while True:
            try:
                await call.send(bytes(10_000))
            except PhaseError:
                break
            sent += 10_000
        assert await call.receive_exactly(6) == b"enough"
        assert (await call.finish()).data == b""
    assert told == [PhaseError]
    assert 50_000 <= sent < 50_000 + 2 * 256 * 1416, "the writer was stopped by the window"
    await trio.sleep(5)
    for statistics in (world.client.statistics(), world.server.statistics()):
        assert statistics.active_calls == statistics.buffered == 0


async def test_a_handler_that_does_not_read_leaves_nothing_behind(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    async def deaf(call: ServerCall) -> None:
        await trio.sleep(1)

    world = await World(nursery, ByteService(78, deaf)).start()
    async with world.connection.begin() as call:
        await call.send(bytes(50_000))
        await call.send_eof()
        await trio.sleep(0.5)
        assert world.server.statistics().buffered > 30
        assert await call.receive_rest() == b""
    assert world.server.statistics().buffered == 0


async def test_a_handler_may_wait_for_the_final_ack(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    service = Service(TEST)
    story: list[str] = []

    @service.handles(ECHO)
    async def echo(call: ServerCall, args: Bytes) -> Bytes:
        with pytest.raises(LocalError, match="end was not sent"):
            await call.acknowledged()
        call.reply(args)
        try:
            await call.acknowledged()
        except CallError as exc:
            story.append(str(exc))
            raise
        story.append("acknowledged")
        return args

    world = await World(nursery, service).start()
    assert (await world.connection.call(ECHO, Bytes(b"x" * 5000))).data == b"x" * 5000
    assert not story
    await trio.sleep(0.2)
    assert story == ["acknowledged"]
    world.net.cut = {(SERVER, CLIENT)}
    with trio.move_on_after(5):
        await world.connection.call(ECHO, Bytes(b"lost"))
    await trio.sleep(60)
    assert len(story) == 2
    assert "abort" in story[1]


async def test_a_client_that_stalls_within_its_request_is_given_up(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    ended: list[str] = []

    async def collect(call: ServerCall) -> None:
        try:
            await call.receive_rest()
            await trio.sleep(3)  # its own time is not the client's
        except CallTimeout as exc:
            ended.append(exc.what)
            raise

    timeouts = CallTimeouts(idle=1.0)
    world = await World(nursery, ByteService(78, collect, timeouts=timeouts)).start()
    async with world.connection.begin() as call:
        for _ in range(5):
            await call.send(bytes(1500))
            await trio.sleep(0.8)
        await call.send_eof()
        await call.receive_rest()
    assert not ended
    async with world.connection.begin() as call:
        await call.send(bytes(1500))
        await trio.sleep(1.5)
        with pytest.raises(CallAborted) as caught:
            await call.send_eof()
    assert caught.value.code == RxCode.CALL_TIMEOUT
    assert ended == ["idle"]


async def test_a_handler_may_give_its_call_more_time(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    async def slow(call: ServerCall) -> None:
        if call.epoch:
            call.set_timeouts(CallTimeouts(hard=20.0))
        await trio.sleep(10)
        assert call.silence < 5.0, "the client pings"

    timeouts = CallTimeouts(hard=2.0)
    world = await World(nursery, ByteService(78, slow, timeouts=timeouts)).start()
    await world.client.call(SERVER, 78, NOTHING, Void())


def test_impossible_bounds() -> None:
    async def handler(call: ServerCall) -> None:
        raise AssertionError

    for max_calls, backlog in ((0, None), (1, -1)):
        with pytest.raises(LocalError):
            ByteService(78, handler, max_calls=max_calls, backlog=backlog)


async def test_unproven_callers_do_not_fill_the_backlog(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    async def serve(call: ServerCall) -> None:
        await call.receive_rest()

    world = await World(nursery, ByteService(78, serve, max_calls=1, backlog=0)).start()
    packet = Header(
        0x80000001, 4, 1, 1, 1, PacketType.DATA, 5, 0, 0, 0, 78
    ).build()  # fmt: skip
    server = world.net._sockets[SERVER]
    for number in range(30):
        server.put((packet, (f"198.51.100.{number}", 7001)))
    await trio.sleep(0.1)
    assert world.server.statistics().server_calls == 30
    await world.client.call(SERVER, 78, NOTHING, Void(), timeouts=CallTimeouts(busy=0.0))
