"""A tracer that comes and goes while an endpoint works."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rxrpc import CountingTracer
from rxrpc.trace import CallEnded, CallStarted, Event, PacketReceived, PacketSent
from rxrpc.wire.packet import DATA
from tests.lossy.service import ECHO, GIVE, Bytes, Number, make_service, pattern
from tests.unit.rxrpc.net.world import World

if TYPE_CHECKING:
    import trio
    from trio.testing import MockClock

SIZE = 400_000


async def test_packets_of_a_call_that_has_begun_are_shown_and_then_no_more(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    world = await World(nursery, make_service()).start()
    tracer = CountingTracer(every_packet=True)
    routes = world.client._core.context.routes
    async with world.connection.stream(GIVE, Number(SIZE)) as call:
        start = await call.receive_exactly(SIZE // 4)
        assert tracer.events.total() == 0
        assert routes
        world.client.trace(tracer)
        middle = await call.receive_exactly(SIZE // 2)
        assert tracer.events[PacketReceived] > 10
        assert tracer.events[PacketSent] > 0
        assert not routes
        world.client.trace(None)
        seen = tracer.events.total()
        assert routes, "the rest comes by the fast path again"
        rest = await call.receive_exactly(SIZE // 4)
    assert start + middle + rest == pattern(SIZE)
    assert (await world.connection.call(ECHO, Bytes(b"next"))).data == b"next"
    assert tracer.events.total() == seen


async def test_all_events_of_a_call_name_its_channel(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    class Keeper:
        every_packet = True

        def __init__(self) -> None:
            self.events: list[Event] = []

        def record(self, now: float, event: Event) -> None:
            self.events.append(event)

    world = await World(nursery, make_service()).start()
    keeper = Keeper()
    world.client.trace(keeper)
    async with (
        world.connection.stream(GIVE, Number(SIZE)) as first,
        world.connection.stream(GIVE, Number(SIZE)) as second,
    ):
        await first.receive_exactly(SIZE)
        await second.receive_exactly(SIZE)
    started = {e.cid for e in keeper.events if isinstance(e, CallStarted)}
    ended = {e.cid for e in keeper.events if isinstance(e, CallEnded)}
    received = {
        e.header.cid
        for e in keeper.events
        if isinstance(e, PacketReceived) and e.header.type == DATA
    }
    assert len(started) == 2
    assert started == ended == received
