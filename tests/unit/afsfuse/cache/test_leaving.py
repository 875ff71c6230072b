"""Volumes that nobody uses: what is forgotten, what the server is told, and what must not be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import trio

from afsfuse.errors import ServerUnreachable
from afsfuse.interfaces.common import FIDS_MAX, Fid
from tests.unit.afsfuse.cache.fakes import (
    FakeClient,
    Line,
    Listener,
    fid,
    make_cache,
    make_volume,
)

if TYPE_CHECKING:
    from trio.testing import MockClock

    from afsfuse.cache import CacheManager
    from afsfuse.cell.volumes import Volume


class Setting:
    """A cache whose server is half a second away, and a volume of so many files."""

    def __init__(self, files: int, **options: Any) -> None:
        self.client = FakeClient(line=Line(rtt=1.0))
        self.listener = Listener(all=False)
        self.cache: CacheManager = make_cache(self.client, listener=self.listener, **options)
        self.volume: Volume = make_volume()
        self.fids = [self.client.put(fid(2 * number), b"x") for number in range(1, files + 1)]

    async def learn(self) -> None:
        for each in self.fids:
            await self.cache.status(self.volume, each)

    @property
    def given_back(self) -> list[Fid]:
        return [each for call in self.client.returned for each in call]


async def settled() -> None:
    await trio.sleep(60)


@pytest.fixture
async def small(nursery: trio.Nursery) -> Setting:
    setting = Setting(3)
    await nursery.start(setting.cache.run)
    await setting.learn()
    assert setting.client.promised == set(setting.fids)
    return setting


async def test_all_is_forgotten_and_given_back_once(
    autojump_clock: MockClock, small: Setting
) -> None:
    small.cache.leaving.let_go(small.volume)
    assert small.cache.statistics().vnodes == 0
    assert all(small.cache.peek(small.volume, each) is None for each in small.fids)
    assert small.cache.leaving.footprint(small.volume) == (0, 0, 0)
    await settled()
    assert small.client.returned == [small.fids]
    assert small.client.promised == set()
    assert small.cache.statistics().given_up == 3
    small.cache.leaving.let_go(small.volume)
    await settled()
    assert len(small.client.returned) == 1


async def test_what_the_kernel_holds_stays(autojump_clock: MockClock, small: Setting) -> None:
    small.listener.all = True
    small.cache.leaving.let_go(small.volume)
    await settled()
    assert small.cache.statistics().vnodes == 3
    assert small.client.returned == []


async def test_a_call_holds_fifty(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    setting = Setting(2 * FIDS_MAX + 1)
    await nursery.start(setting.cache.run)
    await setting.learn()
    setting.cache.leaving.let_go(setting.volume)
    await settled()
    assert [len(call) for call in setting.client.returned] == [FIDS_MAX, FIDS_MAX, 1]
    assert setting.given_back == setting.fids


async def test_what_ended_already_is_not_given_back(
    autojump_clock: MockClock, small: Setting
) -> None:
    small.cache.break_callback(small.client.server.addresses[0], small.fids[:1])
    small.cache.leaving.let_go(small.volume)
    await settled()
    assert small.given_back == small.fids[1:]


async def test_what_is_known_again_before_the_call_is_not_given_back(
    autojump_clock: MockClock, small: Setting
) -> None:
    first = small.fids[0]
    reply = await small.client.fetch_status(small.volume, first)
    small.cache.leaving.let_go(small.volume)
    vnode = small.cache._statuses.apply(small.volume, first, reply, small.cache._log.begin())
    small.cache._log.end()
    await settled()
    assert small.given_back == small.fids[1:]
    assert vnode.valid(trio.current_time())
    assert first in small.client.promised


@pytest.mark.parametrize("delay", [0.1, 0.4, 0.6, 0.9])
async def test_a_promise_that_crosses_with_its_return_is_not_believed(
    autojump_clock: MockClock, small: Setting, delay: float
) -> None:
    """Whatever order the server takes the two calls in: nobody relies on what it may have lost."""
    small.cache.leaving.let_go(small.volume)
    await trio.sleep(delay)
    vnode = await small.cache.status(small.volume, small.fids[0])
    end = trio.current_time() + 60
    while trio.current_time() < end:  # also as long as the call is under way
        if vnode.valid(trio.current_time()):
            assert small.fids[0] in small.client.promised
        await trio.sleep(0.05)


async def test_a_server_that_does_not_answer_costs_nothing(
    autojump_clock: MockClock, small: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def silent(server: Any, fids: Any) -> None:
        await trio.sleep(3)
        raise ServerUnreachable("no answer")

    monkeypatch.setattr(small.client, "give_up_callbacks", silent)
    small.cache.leaving.let_go(small.volume)
    await settled()
    assert small.cache.statistics().given_up == 0
    vnode = await small.cache.status(small.volume, small.fids[0])
    assert vnode.valid(trio.current_time())


async def test_a_mistake_does_not_end_it(
    autojump_clock: MockClock,
    small: Setting,
    monkeypatch: pytest.MonkeyPatch,
    expected_warnings: Any,
) -> None:
    expected_warnings("callbacks were not given back")

    async def broken(server: Any, fids: Any) -> None:
        raise RuntimeError("a bug")

    with monkeypatch.context() as patched:
        patched.setattr(small.client, "give_up_callbacks", broken)
        small.cache.leaving.let_go(small.volume)
        await settled()
    await small.cache.status(small.volume, small.fids[0])
    small.cache.leaving.let_go(small.volume)
    await settled()
    assert small.given_back == small.fids[:1]


async def test_at_the_end_all_go_in_one_call(autojump_clock: MockClock, small: Setting) -> None:
    small.cache.leaving.let_go(small.volume)
    await small.cache.give_up_all()
    await settled()
    assert small.client.returned == []


async def test_what_leaves_for_want_of_room_is_given_back_together(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    setting = Setting(30, vnode_limit=20)
    await nursery.start(setting.cache.run)
    await setting.learn()
    await settled()
    gone = [each for each in setting.fids if setting.cache.peek(setting.volume, each) is None]
    assert len(gone) == 10
    assert sorted(setting.given_back, key=lambda each: each.vnode) == gone
    assert setting.client.promised == set(setting.fids) - set(gone)
    assert len(setting.client.returned) <= 10
    with trio.fail_after(1):
        await setting.cache.leaving.settled()
