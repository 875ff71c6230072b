"""What the control socket tells by and by: its end, and readers who are slow."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import trio

from afsfuse.control.protocol import request_line
from afsfuse.control.server import ControlLimits, ControlServer
from afsfuse.control.verbs import Peer, Verbs
from afsfuse.errors import ControlRefused
from tests.unit.afsfuse.control.test_server import connected, line

if TYPE_CHECKING:
    from pathlib import Path

    from trio.testing import MockClock

    from afsfuse.auth.store import TokenStore
    from afsfuse.control.outlets import Outlet
    from afsfuse.control.verbs import Request


class Teller:
    """Tells lines by and by, as many as are wanted, and knows whether anybody listens."""

    def __init__(self, lines: int) -> None:
        self.lines = lines
        self.begun, self.over = trio.Event(), trio.Event()

    async def tell(self, request: Request, peer: Peer, outlet: Outlet) -> dict[str, Any]:
        if request.get("refuse"):
            raise ControlRefused("not to you")
        self.begun.set()
        try:
            for number in range(self.lines):
                outlet.put({"n": number, "text": "x" * 200})
            if request.get("end"):
                return {"told": self.lines}
            await trio.sleep_forever()
        finally:
            self.over.set()
        raise AssertionError


async def telling(
    nursery: trio.Nursery, store: TokenStore, lines: int, limits: ControlLimits | None = None
) -> tuple[Path, Teller]:
    teller = Teller(lines)
    verbs = Verbs(store)
    verbs.streams["tell"] = teller.tell
    path: Path = await nursery.start(ControlServer(store, limits, verbs).run)
    return path, teller


async def heard(stream: trio.SocketStream) -> list[dict[str, Any]]:
    """All lines to the end."""
    data = b""
    with suppress(trio.BrokenResourceError):
        async for chunk in stream:
            data += chunk
    return [json.loads(one) for one in data.splitlines()]


async def test_what_is_told_by_and_by_has_an_end(nursery: trio.Nursery, store: TokenStore) -> None:
    path, _ = await telling(nursery, store, 3)
    async with connected(path) as stream:
        await stream.send_all(request_line("tell", end=True))
        *more, last = await heard(stream)
        assert [one["more"]["n"] for one in more] == [0, 1, 2]
        assert last["ok"] == {"told": 3}
    async with connected(path) as stream:
        await stream.send_all(request_line("tell", refuse=True))
        assert (await heard(stream))[-1]["error"] == "not to you"


async def test_who_has_heard_enough_ends_it(nursery: trio.Nursery, store: TokenStore) -> None:
    path, teller = await telling(nursery, store, 1)
    async with connected(path) as stream:
        await stream.send_all(request_line("tell"))
        assert json.loads(await line(stream))["more"]["n"] == 0
        await stream.send_all(b"\n")
        assert (await heard(stream))[-1] == {"v": 1, "ok": {}}
    path, teller = await telling(nursery, store, 1)
    async with connected(path) as stream:
        await stream.send_all(request_line("tell"))
        await line(stream)
        assert teller.begun.is_set()
    with trio.fail_after(10):
        await teller.over.wait()


async def test_a_slow_reader_loses_lines_and_one_that_sleeps_is_let_go(
    nursery: trio.Nursery, store: TokenStore
) -> None:
    lines = 20_000
    path, teller = await telling(nursery, store, lines)
    async with connected(path) as stream:
        await stream.send_all(request_line("tell", end=True))
        *more, last = await heard(stream)
        dropped = sum(one["more"].get("dropped", 0) for one in more)
        assert 0 < dropped < lines
        assert len(more) - 1 + dropped == lines
        assert last["ok"] == {"told": lines}
    path, teller = await telling(nursery, store, lines, ControlLimits(seconds=0.2))
    async with connected(path) as stream:
        await stream.send_all(request_line("tell"))
        with trio.fail_after(10):
            await teller.begun.wait()
            await teller.over.wait()


async def test_there_is_a_bound_to_how_many_look_on(
    nursery: trio.Nursery, store: TokenStore
) -> None:
    path, _ = await telling(nursery, store, 1, ControlLimits(streams_of_user=1))
    async with connected(path) as first, connected(path) as second:
        await first.send_all(request_line("tell"))
        await line(first)
        await second.send_all(request_line("tell"))
        assert "too many look on" in (await heard(second))[-1]["error"]


async def test_who_does_not_read_that_it_is_too_many_is_left(
    store: TokenStore, autojump_clock: MockClock
) -> None:
    """His buffer can be full by then of answers that he has not read."""

    class Full:
        async def send(self, data: memoryview) -> int:
            await trio.sleep_forever()
            raise AssertionError

    control = ControlServer(store, ControlLimits(streams_of_user=0))
    full: Any = Full()
    with trio.fail_after(60):
        await control._tell(full, {"do": "tell"}, Peer.here())
