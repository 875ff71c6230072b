"""Request, then reply: what a handler may do in which order, and what it knows of the end."""

import pytest
import trio
import trio.testing

from rxrpc import (
    Address,
    ByteService,
    CallError,
    Interface,
    LocalError,
    PhaseError,
    Rpc,
    ServerCall,
    Service,
    Stream,
)
from tests.lossy.service import ECHO, TAKE, TEST, Bytes, Number
from tests.unit.rxrpc.net.world import World

CLIENT: Address = ("192.0.2.1", 7001)
SERVER: Address = ("192.0.2.2", 7000)


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
