"""What a service refuses: too many calls, callers that it does not want, clients that stall."""

from contextlib import AsyncExitStack
from functools import partial

import pytest
import trio
import trio.testing

from rxrpc import (
    Address,
    ByteService,
    CallAborted,
    CallBusy,
    CallTimeout,
    CallTimeouts,
    Interface,
    LocalError,
    Rpc,
    RxCode,
    SecurityLevel,
    ServerCall,
    Service,
    Void,
)
from rxrpc.wire.packet import Header, PacketType
from tests.unit.rxrpc.net.world import World

CLIENT: Address = ("192.0.2.1", 7001)
SERVER: Address = ("192.0.2.2", 7000)

NOTHING = Rpc("Nothing", 1, Void, Void)


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


async def test_a_service_may_want_whole_requests(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    """Handlers were taken by whoever began a call and did not go on."""
    begun = 0

    service = Service(Interface("Whole", 79, (NOTHING,)), max_calls=1, whole=True)

    @service.handles(NOTHING)
    async def serve(call: ServerCall, args: Void) -> Void:
        nonlocal begun
        begun += 1
        return Void()

    world = await World(nursery, service).start()
    async with AsyncExitStack() as stalled:
        for _ in range(4):
            call = await stalled.enter_async_context(world.connection.begin())
            await call.send(NOTHING.opcode.to_bytes(4, "big") + bytes(5000))
        await trio.sleep(1)
        assert begun == 0
        with trio.fail_after(5):
            await world.connection.call(NOTHING, Void())
        assert begun == 1
