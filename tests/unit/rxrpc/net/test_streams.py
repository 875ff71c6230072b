"""Calls as streams of bytes."""

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
from tests.lossy.service import GIVE, TEST, Bytes, Number, make_service, pattern
from tests.unit.rxrpc.net.world import World

CLIENT: Address = ("192.0.2.1", 7001)
SERVER: Address = ("192.0.2.2", 7000)


async def test_a_reply_without_end_is_cut(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    service = Service(TEST)

    @service.handles(GIVE)
    async def give(call: ServerCall, args: Number) -> Bytes:
        while True:
            await call.send(bytes(10_000))

    world = World(nursery, service)
    world.client.configure(max_reply=50_000)
    await world.start()
    async with world.connection.stream(GIVE, Number(1)) as call:
        with pytest.raises(CallAborted, match="too long"):
            await call.receive_rest()
    await trio.sleep(5)
    assert world.server.statistics().active_calls == 0


async def test_a_reply_that_ends_early_and_one_that_is_a_little_too_long(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    world = World(nursery, make_service())
    world.client.configure(max_reply=1000)
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


async def test_a_stream_that_fails_never_looks_full(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    service = Service(TEST)

    @service.handles(GIVE)
    async def give(call: ServerCall, args: Number) -> Bytes:
        await call.send(b"x" * 10_000)
        await trio.sleep(1)
        raise CallAborted(4711)

    world = await World(nursery, service).start()
    async with world.connection.stream(GIVE, Number(1)) as call:
        with pytest.raises(CallAborted) as caught:
            await call.receive_exactly(20_000)
        assert caught.value.code == 4711
        with pytest.raises(CallAborted):
            await call.receive_exactly(1)
        with pytest.raises(CallAborted):
            await call.receive_some()
        with pytest.raises(CallAborted):
            await call.receive_rest()
        with pytest.raises(CallAborted):
            await call.send(b"x")
        with pytest.raises(CallAborted):
            await call.finish()


async def test_a_small_window_is_opened_as_the_reader_goes_on(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    world = World(nursery, make_service())
    small = Parameters(receive_window=20, read_ahead=4)
    world.client = Endpoint(socket=world.net.socket(("192.0.2.3", 7001)), parameters=small)
    world.connection = world.client.connect(SERVER, 77)
    await world.start()
    async with world.connection.stream(GIVE, Number(200_000)) as call:
        await trio.sleep(1)
        assert await call.receive_exactly(200_000) == pattern(200_000)
        await call.finish()


async def test_what_has_come_is_given_in_one_piece(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    """The data of many packets is joined; the end is told by an empty piece, and once read."""
    world = await World(nursery, make_service()).start()
    size = 60_000
    async with world.connection.stream(GIVE, Number(size)) as call:
        await trio.sleep(1)
        assert not call.at_end
        assert (await call.receive_some())[:size] == pattern(size)
        assert call.at_end
        assert call.over
        assert call.error is None
        assert await call.receive_some() == b""


async def test_silence_is_told_and_ended_by_pings(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    service = Service(TEST)

    @service.handles(GIVE)
    async def give(call: ServerCall, args: Number) -> Bytes:
        await trio.sleep(60)
        return Bytes(b"late")

    world = await World(nursery, service).start()
    async with world.connection.stream(GIVE, Number(1)) as call:
        await trio.sleep(3)
        assert 2.5 < call.silence < 3.5
        await trio.sleep(30)
        assert call.silence < 4.5
        world.net.partition(CLIENT, SERVER)
        await trio.sleep(10)
        assert call.silence >= 10
