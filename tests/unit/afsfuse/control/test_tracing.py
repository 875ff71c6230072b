"""Tracing: who may, what a filter lets through, and that nothing is left when nobody looks."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import trio

from afsfuse.auth.identity import NOBODY
from afsfuse.control.outlets import Outlet
from afsfuse.control.tracing import Tracing
from afsfuse.control.verbs import Peer
from afsfuse.errors import ControlRefused
from afsfuse.fileserver.figures import Operations
from afsfuse.fileserver.health import ServerStatus
from afsfuse.fileserver.operation import Operation
from rxrpc.trace import CallEnded, CallStarted, PeerUnreachable, Tracer

if TYPE_CHECKING:
    from trio.testing import MockClock

OWNER = Peer(os.geteuid(), os.getegid(), 1)
HOST, TWIN, OTHER = "192.0.2.1", "192.0.2.2", "192.0.2.3"
CELL = SimpleNamespace(name="example.org")
SERVERS = [ServerStatus("example.org", "u", ((HOST, 1, None), (TWIN, 1, None)), HOST, True, None)]


def volume(name: str) -> Any:
    return SimpleNamespace(name=name, cell=CELL)


async def unused(site: object) -> None:
    raise AssertionError


class Parts:
    """What a tracing is attached to."""

    def __init__(self) -> None:
        self.tracers: list[Tracer | None] = []
        self.watchers: list[Any] = []
        self.operations = Operations()
        self.volume = volume("one")
        self.tracing = Tracing(
            SimpleNamespace(trace=self.tracers.append),  # type: ignore[arg-type]
            self.operations,
            SimpleNamespace(watch=self.watchers.append),
            lambda request, peer: self.volume,
            lambda: SERVERS,
            lambda thread: 100 if thread == 101 else thread,
        )

    def operation(self, on: Any, thread: int, address: str, cid: int) -> None:
        """A request of a thread leads to an operation with one call."""
        self.watchers[-1].asked(thread)
        running = self.operations.begin(Operation("FetchStatus", on, unused, NOBODY))
        running.server = SimpleNamespace(host=address)  # type: ignore[assignment]
        self.tracing.record(1.0, CallStarted((address, 7000), cid, 1))
        self.tracing.record(2.0, CallEnded((address, 7000), cid, 1, "complete"))
        self.operations.end(running, None)


async def traced(parts: Parts, nursery: trio.Nursery, **wanted: Any) -> Outlet:
    outlet = Outlet()

    async def trace() -> None:
        await parts.tracing.streams["trace"](wanted, OWNER, outlet)

    nursery.start_soon(trace)
    assert (await outlet.take())[0]["event"] == "trace started"
    return outlet


@pytest.mark.parametrize(
    ("wanted", "seen"),
    [
        ({}, {HOST, OTHER}),
        ({"hosts": [TWIN]}, {HOST}),
        ({"pid": 101}, {HOST}),
        ({"pid": 100}, {HOST}),
        ({"pid": 7}, {OTHER}),
        ({"pid": 8}, set()),
        ({"path": "/one"}, {HOST}),
    ],
)
async def test_filters(autojump_clock: MockClock, wanted: dict[str, Any], seen: set[str]) -> None:
    parts = Parts()
    async with trio.open_nursery() as nursery:
        outlet = await traced(parts, nursery, **wanted)
        parts.operation(parts.volume, 101, HOST, 16)
        parts.operation(volume("two"), 7, OTHER, 32)
        outlet.close()
        lines = await outlet.take()
        nursery.cancel_scope.cancel()
    calls = [one for one in lines if one["event"] in ("call started", "call ended")]
    assert {one["peer"].partition(":")[0] for one in calls} == seen
    assert len(calls) == 2 * len(seen)
    assert {one["server"] for one in lines if one["event"] == "operation ended"} == seen
    assert all(one["operation"] == "FetchStatus" for one in calls if "began" in one["event"])


async def test_nothing_is_left_when_nobody_looks(autojump_clock: MockClock) -> None:
    parts = Parts()
    async with trio.open_nursery() as nursery:
        await traced(parts, nursery, packets=False)
        assert parts.tracers == [parts.tracing]
        assert not parts.tracing.every_packet
        await traced(parts, nursery)
        assert parts.tracing.every_packet
        nursery.cancel_scope.cancel()
    assert parts.tracers[-1] is None
    assert parts.watchers[-1] is None


async def test_what_belongs_to_no_call_is_for_who_looks_at_all(autojump_clock: MockClock) -> None:
    parts = Parts()
    async with trio.open_nursery() as nursery:
        everything = await traced(parts, nursery)
        one = await traced(parts, nursery, path="/one")
        parts.tracing.record(1.0, PeerUnreachable((HOST, 7000), 111))
        for outlet in (everything, one):
            outlet.close()
        assert [line["event"] for line in await everything.take()] == ["peer unreachable"]
        assert await one.take() == []
        nursery.cancel_scope.cancel()


async def test_others_may_not_look(autojump_clock: MockClock) -> None:
    parts = Parts()
    with pytest.raises(ControlRefused, match="only root"):
        await parts.tracing.streams["trace"]({}, Peer(1001, 1001, 1), Outlet())
    with pytest.raises(ControlRefused, match="number of a process"):
        await parts.tracing.streams["trace"]({"pid": "1"}, OWNER, Outlet())
    assert parts.tracers == []
