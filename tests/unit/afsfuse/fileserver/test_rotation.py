"""Which server is tried, what failures lead to, and that every wait has a bound."""

from __future__ import annotations

import errno
from ipaddress import IPv4Network
from math import inf
from typing import TYPE_CHECKING
from uuid import UUID

import pytest
import trio

from afsfuse.cell.servers import ServerRegistry
from afsfuse.cell.volumes import Site, Volume
from afsfuse.errors import (
    AfsError,
    DataCorrupt,
    NotPermitted,
    ServerError,
    ServerUnreachable,
    StaleInode,
    VolumeBusy,
    VolumeOffline,
)
from afsfuse.fileserver import RetryLimits
from afsfuse.fileserver.preferences import Preferences
from tests.unit.afsfuse.fileserver.servers import FILE, World, world

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trio.testing import MockClock

    from afsfuse.cell.servers import FileServer


async def timed(w: World) -> float:
    """How long one status takes, in virtual seconds."""
    began = trio.current_time()
    await w.client.fetch_status(w.volume, FILE)
    return trio.current_time() - began


async def failing(w: World, kind: type[AfsError]) -> tuple[AfsError, float]:
    """How one status fails, and after how long."""
    began = trio.current_time()
    with pytest.raises(kind) as caught:
        await w.client.fetch_status(w.volume, FILE)
    return caught.value, trio.current_time() - began


def cut_off(w: World, *numbers: int) -> None:
    """Nothing passes to and from these hosts."""
    for number in numbers:
        for address in w.hosts[number].listening:
            w.network.partition(("192.0.2.250", 7001), address)


async def test_the_next_server_stands_in_for_a_silent_one(autojump_clock: MockClock) -> None:
    async with world(hosts=3) as w:
        assert await timed(w) < 1
        cut_off(w, 0)
        assert await timed(w) < 8
        assert w.hosts[1].calls["FetchStatus"] == 1
        assert await timed(w) < 0.01  # the silent one is not asked again
        w.network.heal()
        await trio.sleep(10)
        assert not w.client._rotation.health.is_down(w.hosts[0].server)
        await timed(w)
        assert w.hosts[1].calls["FetchStatus"] == 3  # it holds the promises now


async def test_the_preferred_server_is_returned_to(autojump_clock: MockClock) -> None:
    moves: list[FileServer] = []
    preferences = Preferences([(IPv4Network("192.0.2.1"), 1)])
    async with world(hosts=3, preferences=preferences) as w:
        w.client.on_server_changed(lambda volume, before: moves.append(before))
        await timed(w)
        assert w.hosts[0].calls["FetchStatus"] == 1
        cut_off(w, 0)
        await timed(w)
        assert moves == [w.hosts[0].server]
        w.network.heal()
        await trio.sleep(10)
        await timed(w)
        assert w.hosts[0].calls["FetchStatus"] == 2
        assert len(moves) == 2
        preferences.set(IPv4Network("192.0.2.3"), 0)
        await timed(w)
        assert w.hosts[2].calls["FetchStatus"] == 1


async def test_all_replicas_are_measured_and_the_near_one_is_used(
    autojump_clock: MockClock,
) -> None:
    async with world(hosts=2) as w:
        await timed(w)
        first = next(host for host in w.hosts if host.calls["FetchStatus"])
        other = next(host for host in w.hosts if host is not first)
        await trio.sleep(10)
        assert other.calls["GetCapabilities"] == 1
        assert other.server.rtt is not None
        statuses = {status.uuid: status for status in w.client.servers()}
        assert statuses[str(other.server.uuid)].addresses[0][2] is not None


async def test_the_next_server_stands_in_for_a_refusing_host(autojump_clock: MockClock) -> None:
    async with world(hosts=2, icmp=True) as w:
        w.hosts[0].stop()
        await trio.sleep(0.1)
        assert await timed(w) < 2


async def test_a_dead_server_is_given_up_in_time_and_then_at_once(
    autojump_clock: MockClock,
) -> None:
    async with world() as w:
        await timed(w)
        cut_off(w, 0)
        error, elapsed = await failing(w, ServerUnreachable)
        assert elapsed <= 20 + 3 + 1
        assert error.errno == errno.ETIMEDOUT
        assert (error.cell, error.volume, error.server) == ("test.afs", "test.volume", "192.0.2.1")
        _, elapsed = await failing(w, ServerUnreachable)
        assert elapsed == 0
        w.network.heal()
        await trio.sleep(9)  # found by the probe, without anybody asking
        assert await timed(w) < 0.1


@pytest.mark.parametrize("minutes", [10.0, 10.1, 10.2, 10.3, 10.4])
async def test_who_cannot_wait_for_a_server_that_was_long_down_has_it_looked_at(
    autojump_clock: MockClock, minutes: float
) -> None:
    async with world() as w:
        await timed(w)
        cut_off(w, 0)
        await failing(w, ServerUnreachable)
        await trio.sleep(minutes * 60)
        w.network.heal()
        healed = trio.current_time()
        while True:
            try:
                await timed(w)
            except ServerUnreachable:
                await trio.sleep(1)
            else:
                break
        assert trio.current_time() - healed < 10


async def test_after_a_sleep_servers_are_looked_at_over_new_connections(
    autojump_clock: MockClock,
) -> None:
    async with world(hosts=2) as w:
        await timed(w)
        await trio.sleep(10)
        before = [host.calls["GetCapabilities"] for host in w.hosts]
        old = {connection.cid for connection in w.endpoint.snapshot().connections}
        w.client.slept()
        await trio.sleep(1)
        assert [host.calls["GetCapabilities"] for host in w.hosts] == [n + 1 for n in before]
        used = [c for c in w.endpoint.snapshot().connections if c.idle <= 1.0]
        assert len(used) == 2
        assert old.isdisjoint(connection.cid for connection in used)


@pytest.mark.parametrize(("code", "kind"), [(110, VolumeBusy), (106, VolumeOffline)])
async def test_a_shorter_time_bounds_every_wait(
    autojump_clock: MockClock, code: int, kind: type[AfsError]
) -> None:
    async with world(limits=RetryLimits.within(2.0)) as w:
        await timed(w)
        w.hosts[0].abort = lambda: code
        _, elapsed = await failing(w, kind)
        assert 1 < elapsed < 4
        cut_off(w, 0)
        _, elapsed = await failing(w, ServerUnreachable)
        assert elapsed < 8


def test_a_longer_time_is_not_that_of_one_try() -> None:
    assert RetryLimits.within(3600) == RetryLimits()


async def test_a_server_that_came_back_at_another_address(autojump_clock: MockClock) -> None:
    """It is silent at the old one; the record, asked for again, has the new one."""
    async with world(hosts=2) as w:
        moved, stand_in = w.hosts
        w.volume.sites = (Site(moved.server, 0),)
        await timed(w)
        cut_off(w, 0)

        def look(volume: Volume) -> None:
            moved.server.addresses = tuple(stand_in.listening)
            moved.server.down_until = -inf

        w.locator.on_refresh = look
        assert await timed(w) < 20 + 3 + 1
        assert stand_in.calls["FetchStatus"] == 1
        assert w.locator.refreshes == 1


async def test_a_server_that_got_a_second_address(autojump_clock: MockClock) -> None:
    """The first one falls silent, and is not waited for once more when the second one is known."""
    registry = ServerRegistry()
    async with world(hosts=2) as w:
        moved, stand_in = w.hosts
        moved.server = registry.update("test.afs", UUID(int=9), 1, moved.listening)
        w.volume.sites = (Site(moved.server, 0),)
        await timed(w)
        cut_off(w, 0)

        def look(volume: Volume) -> None:
            both = [*moved.listening, *stand_in.listening]
            registry.update("test.afs", UUID(int=9), 2, both)

        w.locator.on_refresh = look
        assert await timed(w) < 20 + 3 + 3
        assert stand_in.calls["FetchStatus"] == 1


async def test_a_dead_cell_does_not_hold_up_who_finds_a_server_dead(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does what is said of locations hide that a file server is silent."""
    async with world() as w:
        cut_off(w, 0)

        async def silent(volume: Volume, who: object, *, since: float) -> None:
            await trio.sleep_forever()

        monkeypatch.setattr(w.locator, "refresh", silent)
        _, elapsed = await failing(w, ServerUnreachable)
        assert elapsed <= 20 + 3 + 3 + 1


async def test_the_waiters_of_a_dead_server_are_freed_together(autojump_clock: MockClock) -> None:
    async with world() as w:
        await timed(w)
        cut_off(w, 0)
        began = trio.current_time()
        ended: list[float] = []

        async def ask(delay: float) -> None:
            await trio.sleep(delay)
            with pytest.raises(ServerUnreachable):
                await w.client.fetch_status(w.volume, FILE)
            ended.append(trio.current_time() - began)

        async with trio.open_nursery() as nursery:
            for number in range(40):
                nursery.start_soon(ask, number * 0.5)
        assert max(ended) <= 25
        assert w.hosts[0].server.waiting == 0


async def test_a_silent_server_cannot_take_everybody(autojump_clock: MockClock) -> None:
    async with world() as w:
        await timed(w)
        cut_off(w, 0)
        refused = 0

        async def ask() -> None:
            nonlocal refused
            began = trio.current_time()
            with pytest.raises(ServerUnreachable):
                await w.client.fetch_status(w.volume, FILE)
            refused += trio.current_time() == began

        async with trio.open_nursery() as nursery:
            for _ in range(256):
                nursery.start_soon(ask)
            await trio.sleep(5)
            assert w.hosts[0].server.waiting == 256
            for _ in range(100):
                nursery.start_soon(ask)
            await trio.sleep(0.1)
            assert refused == 100
            nursery.cancel_scope.cancel()
        assert w.hosts[0].server.waiting == 0


async def test_a_busy_living_server_may_have_many_waiters(autojump_clock: MockClock) -> None:
    async with world() as w:
        w.hosts[0].delay = 0.05
        async with trio.open_nursery() as nursery:
            for _ in range(600):
                nursery.start_soon(w.client.fetch_status, w.volume, FILE)


async def test_a_cancelled_operation_leaves_nothing_behind(autojump_clock: MockClock) -> None:
    async with world() as w:
        cut_off(w, 0)
        with trio.move_on_after(1) as scope:
            await w.client.fetch_status(w.volume, FILE)
        assert scope.cancelled_caught
        assert w.hosts[0].server.waiting == 0


async def test_a_restarted_server_is_asked_anew(autojump_clock: MockClock) -> None:
    """Calls under way die with the old process; the new one knows nothing of them."""
    async with world() as w, trio.open_nursery() as nursery:
        await timed(w)
        host = w.hosts[0]
        host.delay = 1e9

        async def restart() -> None:
            await trio.sleep(1)
            cut_off(w, 0)  # a crash says nothing
            host.stop()
            await trio.sleep(1)
            w.network.heal()
            host.delay = 0.0
            await host.start(nursery)

        nursery.start_soon(restart)
        assert await timed(w) < 25
        nursery.cancel_scope.cancel()


async def test_one_dead_address_of_several(autojump_clock: MockClock) -> None:
    async with world(addresses=3) as w:
        w.network.partition(("192.0.2.250", 7001), w.hosts[0].listening[0])
        w.network.partition(("192.0.2.250", 7001), w.hosts[0].listening[1])
        assert await timed(w) < 4  # a probe of all three finds the third
        assert await timed(w) < 0.1
        w.network.heal()
        w.network.partition(("192.0.2.250", 7001), w.hosts[0].listening[2])
        assert await timed(w) < 25
        assert await timed(w) < 0.1


async def test_all_addresses_dead(autojump_clock: MockClock) -> None:
    async with world(addresses=15) as w:
        cut_off(w, 0)
        _, elapsed = await failing(w, ServerUnreachable)
        assert elapsed < 10


async def test_a_server_without_addresses(autojump_clock: MockClock) -> None:
    async with world() as w:
        w.hosts[0].server.addresses = ()
        await failing(w, ServerUnreachable)
        with pytest.raises(ServerUnreachable):
            await w.client.give_up_all_callbacks(w.hosts[0].server)


def sequence(*codes: int) -> Iterator[int]:
    """Abort codes one after the other; then calls are served."""
    yield from codes
    while True:
        yield 0


@pytest.mark.parametrize("code", [110, 113, -100])
async def test_a_busy_volume_is_waited_for(autojump_clock: MockClock, code: int) -> None:
    async with world() as w:
        codes = sequence(*[code] * 20)
        w.hosts[0].abort = lambda: next(codes)
        assert 15 < await timed(w) < 18


async def test_a_volume_that_stays_busy_is_given_up(autojump_clock: MockClock) -> None:
    async with world(hosts=2) as w:
        for host in w.hosts:
            host.abort = lambda: 110
        error, elapsed = await failing(w, VolumeBusy)
        assert 29 < elapsed < 33
        assert error.errno == errno.EBUSY
        assert w.hosts[0].calls == w.hosts[1].calls


async def test_a_copy_stands_in_for_a_busy_volume(autojump_clock: MockClock) -> None:
    for code in (110, 106, 101):
        async with world(hosts=2) as w:
            w.hosts[0].abort = lambda code=code: code  # type: ignore[misc]
            assert await timed(w) < 0.1


async def test_an_offline_volume_is_given_up_soon(autojump_clock: MockClock) -> None:
    async with world() as w:
        w.hosts[0].abort = lambda: 106
        error, elapsed = await failing(w, VolumeOffline)
        assert elapsed < 5
        assert error.code == 106


@pytest.mark.parametrize(
    ("code", "kind", "number"),
    [
        (102, StaleInode, errno.ESTALE),
        (13, NotPermitted, errno.EACCES),
        (49733376 + 12, NotPermitted, errno.EACCES),
        (-455, ServerError, errno.EOPNOTSUPP),
        (2**31 - 1, ServerError, errno.EREMOTEIO),
        (-(2**31), ServerError, errno.EREMOTEIO),
    ],
)
async def test_other_refusals_end_the_operation_at_once(
    autojump_clock: MockClock, code: int, kind: type[AfsError], number: int
) -> None:
    async with world(hosts=2) as w:
        for host in w.hosts:
            host.abort = lambda: code
        error, elapsed = await failing(w, kind)
        assert error.errno == number
        assert elapsed < 0.1
        assert sum(host.calls["FetchStatus"] for host in w.hosts) == 1


async def test_the_weightier_failure_is_told(autojump_clock: MockClock) -> None:
    async with world(hosts=2) as w:
        await timed(w)
        w.hosts[1].abort = lambda: 106
        cut_off(w, 0)
        await failing(w, VolumeOffline)


async def test_a_stopped_endpoint_ends_operations(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world() as w:
        monkeypatch.setattr(w.endpoint, "driver", None)
        error, elapsed = await failing(w, AfsError)
        assert "stopping" in str(error)
        assert elapsed == 0


async def test_a_call_about_a_server_itself(autojump_clock: MockClock) -> None:
    async with world() as w:
        w.hosts[0].lacks.add("GiveUpAllCallBacks")
        with pytest.raises(ServerError) as caught:
            await w.client.give_up_all_callbacks(w.hosts[0].server)
        assert caught.value.code == -455
        cut_off(w, 0)
        began = trio.current_time()
        with pytest.raises(ServerUnreachable):
            await w.client.get_capabilities(w.hosts[0].server)
        assert trio.current_time() - began < 5


async def test_a_broken_reply_is_the_server_s_fault(autojump_clock: MockClock) -> None:
    async with world() as w:
        w.hosts[0].data = b""
        w.hosts[0].announced = 5
        with pytest.raises(DataCorrupt) as caught:
            await w.client.fetch_data(w.volume, FILE, 0, [memoryview(bytearray(500))])
        assert caught.value.server == "192.0.2.1"
        assert w.hosts[0].server.last_seen > 0
