"""A stretch of a file that several calls bring, where packets are lost."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
import trio

from rxrpc.core.losses import Losses
from rxrpc.wire.packet import DATA, Header
from tests.unit.afsfuse.fileserver.servers import FILE, world

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio.testing import MockClock

    from rxrpc.wire.packet import Address
    from tests.unit.afsfuse.fileserver.servers import World

SIZE = 200_000
CONTENT = random.Random(1).randbytes(SIZE + 5000)


PAYLOAD = 1416  # of a packet; eight bytes of the first one are the length


class Line:
    """A server's packets on the way, of which some are lost, and are lost again."""

    def __init__(self, w: World, loses: Callable[[int, int], bool]) -> None:
        """`loses` is asked with the number of the call, from 0, and of the packet in it."""
        self._pass_on = w.network.route
        self._loses = loses
        self._calls: list[tuple[int, int]] = []
        w.network.route = self._route  # type: ignore[method-assign]

    def _route(self, data: bytes, source: Address, target: Address) -> None:
        header, _ = Header.parse(data)
        if header.type == DATA and source == ("192.0.2.1", 7000):
            call = header.cid, header.call_number
            if call not in self._calls:
                self._calls.append(call)
            if self._loses(self._calls.index(call), header.seq):
                return
        self._pass_on(data, source, target)


async def fetch(w: World, *, size: int = SIZE, versioned: bool = True) -> tuple[bytes, float]:
    """Fetch the beginning of a file on a line that is known to lose packets. -> bytes, seconds"""
    w.hosts[0].data = CONTENT
    await w.client.fetch_status(w.volume, FILE)  # measures the round trip
    w.hosts[0].fetched.clear()
    data = bytearray(size)
    view = memoryview(data)
    buffers = [view[at : at + 65536] for at in range(0, size, 65536)]
    began = trio.current_time()
    reply = await w.client.fetch_data(w.volume, FILE, 0, buffers, versioned=versioned)
    assert reply.length == size
    return bytes(data), trio.current_time() - began


@pytest.fixture
def _lossy(monkeypatch: pytest.MonkeyPatch) -> None:
    """So many packets have been lost before."""
    monkeypatch.setattr(Losses, "share", lambda self, rtt, now: 0.05)
    monkeypatch.setattr(Losses, "seen", lambda self, now: True)


LAST = (SIZE + 8) // PAYLOAD + 1  # the end of the data, with the status behind it


@pytest.mark.usefixtures("_lossy")
@pytest.mark.parametrize(
    ("loses", "came"),
    [
        (lambda seq: seq == 1, 0),
        (lambda seq: seq > 50, 50 * PAYLOAD - 8),
        (lambda seq: seq == LAST, (LAST - 1) * PAYLOAD - 8),
    ],
    ids=["the first", "from the middle on", "the last"],
)
async def test_what_has_come_is_not_fetched_again(
    autojump_clock: MockClock, loses: Callable[[int], bool], came: int
) -> None:
    async with world() as w:
        Line(w, lambda call, seq: call == 1 and loses(seq))
        data, seconds = await fetch(w)
        assert data == CONTENT[:SIZE]
        assert w.hosts[0].fetched == [(0, SIZE), (came, SIZE - came)]
        assert seconds < 0.2, "before the server's timeout"


@pytest.mark.usefixtures("_lossy")
async def test_where_only_the_status_is_missing_a_byte_is_fetched_with_it(
    autojump_clock: MockClock,
) -> None:
    size = 50 * PAYLOAD - 8
    async with world() as w:
        Line(w, lambda call, seq: call == 1 and seq > 50)
        data, _ = await fetch(w, size=size)
        assert data == CONTENT[:size]
        assert w.hosts[0].fetched == [(0, size), (size - 1, 1)]


@pytest.mark.usefixtures("_lossy")
async def test_who_does_not_know_the_version_waits_for_one_call(autojump_clock: MockClock) -> None:
    async with world() as w:
        left = [3]

        def loses(call: int, seq: int) -> bool:
            left[0] -= call == 1 and seq > 50
            return call == 1 and seq > 50 and left[0] >= 0

        Line(w, loses)
        data, _ = await fetch(w, versioned=False)
        assert data == CONTENT[:SIZE]
        assert w.hosts[0].fetched == [(0, SIZE)]


@pytest.mark.usefixtures("_lossy")
async def test_a_server_that_sends_nothing_is_not_asked_for_ever(autojump_clock: MockClock) -> None:
    async with world() as w:
        Line(w, lambda call, seq: 0 < call < 30)
        with trio.move_on_after(3):
            await fetch(w)
        assert len(w.hosts[0].fetched) == 4


@pytest.mark.usefixtures("_lossy")
async def test_a_packet_a_call_is_not_taken_for_ever(autojump_clock: MockClock) -> None:
    async with world() as w:
        Line(w, lambda call, seq: 0 < call < 100 and seq > 1)
        with trio.move_on_after(10):
            await fetch(w)
        assert len(w.hosts[0].fetched) == 17
