"""A server that breaks each promise as soon as it has given it: how often it is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from afsfuse.cache import ReadState
from tests.unit.afsfuse.cache.blobs import many
from tests.unit.afsfuse.cache.fakes import FakeClient, Line, Listener, fid, make_cache, make_volume

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from afsfuse.cache import CacheManager
    from afsfuse.fileserver.replies import Promise
    from afsfuse.interfaces.common import Fid

VOLUME = make_volume()
ROOT = fid(1)
FILE = fid(2)
SECONDS = 100


class Breaker(FakeClient):
    """The server that does this; with `stores`, somebody writes each time, too."""

    stores = False

    def _promise(self, where: Fid, before: float) -> Promise | None:
        promise = super()._promise(where, before)
        if self.stores and where in self.files:
            self.files[where].version += 1
        self.break_promise(where)
        return promise


STEPS: dict[str, Callable[[CacheManager], Awaitable[object]]] = {
    "stat": lambda cache: cache.status(VOLUME, FILE),
    "read": lambda cache: cache.read(VOLUME, FILE, 0, 200_000, ReadState()),
    "list": lambda cache: cache.directory(VOLUME, ROOT),
    "stat of many": lambda cache: cache.statuses(VOLUME, ROOT, [fid(2 * n) for n in range(1, 51)]),
}


@pytest.mark.parametrize("stores", [False, True])
@pytest.mark.parametrize("step", STEPS)
async def test_the_calls_of_one_request_are_bounded(
    autojump_clock: object, step: str, stores: bool
) -> None:
    client = Breaker(Line(rtt=0.01))
    client.stores = stores
    client.put_directory(ROOT, many(10))
    for number in range(1, 51):
        client.put(fid(2 * number), bytes(300_000))
    cache = make_cache(client)
    async with trio.open_nursery() as nursery:
        client.nursery = nursery
        await STEPS[step](cache)
    assert len(client.calls) <= 2 * 5 * 8, client.calls  # restarts, and calls for 200,000 bytes


async def test_questions_in_the_background_have_a_pace(autojump_clock: object) -> None:
    client = Breaker(Line(rtt=0.01))
    client.put_directory(ROOT, many(10))
    client.put(FILE, b"first")
    cache = make_cache(client, listener=Listener())
    async with trio.open_nursery() as nursery:
        client.nursery = nursery
        await nursery.start(cache.run)
        await cache.directory(VOLUME, ROOT)
        await cache.status(VOLUME, FILE)
        await trio.sleep(SECONDS)
        assert SECONDS / 2 < len(client.calls) < 2 * SECONDS + 40, client.calls
        client.promising = False  # it was mended: one more question, and rest
        await trio.sleep(2)
        before = len(client.calls)
        await trio.sleep(SECONDS)
        assert len(client.calls) == before
        assert cache.statistics().revalidation_queue == 0
        nursery.cancel_scope.cancel()


async def test_a_file_that_others_store_to_all_the_time_is_shown_each_second(
    autojump_clock: object,
) -> None:
    client = FakeClient(Line(rtt=0.01))
    client.put(FILE, b"")
    cache = make_cache(client, listener=Listener())
    async with trio.open_nursery() as nursery:
        client.nursery = nursery
        await nursery.start(cache.run)
        await cache.status(VOLUME, FILE)
        for number in range(500):
            client.write(FILE, bytes(number))
            await trio.sleep(0.02)
        await trio.sleep(1.1)
        vnode = cache.peek(VOLUME, FILE)
        assert vnode is not None
        assert vnode.status.length == 499
        assert len(client.calls) < 40
        nursery.cancel_scope.cancel()


async def test_the_kernel_is_left_with_nothing_old_however_often_a_promise_breaks(
    autojump_clock: object,
) -> None:
    client, listener = FakeClient(Line(rtt=0.01)), Listener()
    client.put(FILE, b"")
    cache = make_cache(client, listener=listener)
    async with trio.open_nursery() as nursery:
        client.nursery = nursery
        await nursery.start(cache.run)
        for number in range(1, 30):  # more than need not wait
            await cache.status(VOLUME, FILE)
            listener.data.clear()
            client.write(FILE, bytes(number))
            await trio.sleep(0.05)
            assert listener.data
        nursery.cancel_scope.cancel()
