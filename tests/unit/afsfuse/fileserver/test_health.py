"""Who counts as down, how often such a server is probed, and which address is used."""

from __future__ import annotations

import itertools
from ipaddress import IPv4Network
from typing import TYPE_CHECKING
from uuid import UUID

import trio

from afsfuse.cell.servers import SERVERS_MAX, FileServer
from afsfuse.fileserver.health import Health, HealthLimits

if TYPE_CHECKING:
    import pytest
    from trio.testing import MockClock

ADDRESSES = [("192.0.2.1", 7000), ("192.0.2.2", 7000), ("192.0.2.3", 7000)]


class Prober:
    """Notes when it was asked about what; `alive` addresses answer after a while."""

    def __init__(self) -> None:
        self.asked: list[tuple[float, tuple[str, int]]] = []
        self.alive: set[tuple[str, int]] = set()

        self.rtts: dict[tuple[str, int], float] = {}

    async def __call__(self, server: FileServer, address: tuple[str, int]) -> float | None:
        self.asked.append((trio.current_time(), address))
        alive = address in self.alive
        await trio.sleep(0.01 if alive else 3.0)
        return self.rtts.get(address, 0.01) if alive else None


def make(addresses: int = 1) -> tuple[Prober, Health, FileServer]:
    prober = Prober()
    server = FileServer("test.afs", UUID(int=1), 1, ADDRESSES[:addresses])
    return prober, Health(prober, HealthLimits()), server


async def test_a_server_that_went_down_is_probed_often_then_seldom(
    autojump_clock: MockClock,
) -> None:
    prober, health, server = make()
    async with trio.open_nursery() as nursery:
        await nursery.start(health.run)
        health.heard(server, ADDRESSES[0], 0.01)
        began = trio.current_time()
        await trio.sleep(1)
        health.silent(server, trio.current_time())
        assert health.is_down(server)
        await trio.sleep(600)
        times = [when - began for when, _ in prober.asked]
        pauses = [b - a for a, b in itertools.pairwise(times)]
        assert times[0] < 7
        assert all(pause < 9 for pause, when in zip(pauses, times, strict=False) if when < 100)
        assert all(pause > 29 for pause, when in zip(pauses, times, strict=False) if when > 125)
        assert health.is_down(server)
        prober.alive.add(ADDRESSES[0])
        await trio.sleep(40)
        assert not health.is_down(server)
        count = len(prober.asked)
        await trio.sleep(600)
        assert len(prober.asked) - count == 2  # every four minutes, while it answers
        nursery.cancel_scope.cancel()


async def test_a_server_that_is_wanted_is_probed_often_however_long_it_is_down(
    autojump_clock: MockClock,
) -> None:
    prober, health, server = make()

    async def want() -> None:
        while health.is_down(server):
            health.wanted(server)
            await trio.sleep(0.5)

    async with trio.open_nursery() as nursery:
        await nursery.start(health.run)
        health.silent(server, trio.current_time())
        await trio.sleep(600)
        for _ in range(50):
            nursery.start_soon(want)
        before = len(prober.asked)
        await trio.sleep(600)
        times = [when for when, _ in prober.asked[before:]]
        pauses = [b - a for a, b in itertools.pairwise(times)]
        assert 5 <= min(pauses) <= max(pauses) < 9, "as often as that, and not once for each"
        prober.alive.add(ADDRESSES[0])
        await trio.sleep(9)
        assert not health.is_down(server)
        count = len(prober.asked)
        await trio.sleep(470)
        assert len(prober.asked) - count == 1
        nursery.cancel_scope.cancel()


async def test_a_server_that_is_wanted_at_last_is_probed_at_once(
    autojump_clock: MockClock,
) -> None:
    prober, health, server = make()
    async with trio.open_nursery() as nursery:
        await nursery.start(health.run)
        health.silent(server, trio.current_time())
        await trio.sleep(615)  # in the middle of a long pause
        prober.alive.add(ADDRESSES[0])
        health.wanted(server)
        await trio.sleep(0.1)
        assert not health.is_down(server)
        nursery.cancel_scope.cancel()


async def test_a_look_that_waits_for_a_probe_that_is_given_up_is_made_again(
    autojump_clock: MockClock,
) -> None:
    prober, health, server = make()
    async with trio.open_nursery() as nursery:
        await nursery.start(health.run)
        health.silent(server, trio.current_time())
        await trio.sleep(62)  # a second before the second look, of 30 s after the end of the first
        with trio.move_on_after(2):  # somebody asks, and loses his patience
            await health.probe([server])
        prober.alive.add(ADDRESSES[0])
        await trio.sleep(9)
        assert not health.is_down(server)
        nursery.cancel_scope.cancel()


async def test_silence_of_one_server_does_not_hold_up_the_look_at_another(
    autojump_clock: MockClock,
) -> None:
    prober, health, one = make()
    two = FileServer("test.afs", UUID(int=2), 1, [ADDRESSES[1]])
    async with trio.open_nursery() as nursery:
        await nursery.start(health.run)
        health.look_soon(one)
        await trio.sleep(0.1)
        health.look_soon(two)
        await trio.sleep(0.1)
        assert [address for _, address in prober.asked] == [ADDRESSES[0], ADDRESSES[1]]
        nursery.cancel_scope.cancel()


async def test_a_server_of_which_nothing_is_in_use_is_let_be(autojump_clock: MockClock) -> None:
    prober, health, server = make()
    prober.alive.add(ADDRESSES[0])
    used = {server}
    health.in_use = lambda: used
    async with trio.open_nursery() as nursery:
        await nursery.start(health.run)
        health.watch(server)
        await trio.sleep(10)
        assert len(prober.asked) == 1
        used.clear()
        await trio.sleep(3000)
        assert len(prober.asked) == 1
        used.add(server)
        await trio.sleep(200)
        assert len(prober.asked) == 2
        used.clear()
        prober.alive.clear()
        health.silent(server, trio.current_time())  # whoever asked waits until it is back
        await trio.sleep(60)
        assert len(prober.asked) > 4
        prober.alive.add(ADDRESSES[0])
        await trio.sleep(60)
        assert not health.is_down(server)
        count = len(prober.asked)
        await trio.sleep(3000)
        assert len(prober.asked) == count
        nursery.cancel_scope.cancel()


async def test_a_look_that_is_asked_for_is_taken_at_servers_that_are_let_be_too(
    autojump_clock: MockClock,
) -> None:
    """After a move to another network the old measures would say who is asked first."""
    prober, health, server = make()
    prober.alive.add(ADDRESSES[0])
    health.in_use = set
    async with trio.open_nursery() as nursery:
        await nursery.start(health.run)
        health.watch(server)
        await trio.sleep(1000)
        assert prober.asked == []
        health.look_soon(server)
        await trio.sleep(1000)
        assert len(prober.asked) == 1
        nursery.cancel_scope.cancel()


async def test_all_addresses_are_probed_at_once_and_measured(autojump_clock: MockClock) -> None:
    prober, health, server = make(addresses=3)
    prober.alive = {ADDRESSES[0], ADDRESSES[2]}
    prober.rtts = {ADDRESSES[0]: 0.030, ADDRESSES[2]: 0.004}
    async with trio.open_nursery() as nursery:
        await nursery.start(health.run)
        health.watch(server)
        await trio.sleep(10)
        assert {address for _, address in prober.asked} == set(ADDRESSES)
        assert len({when for when, _ in prober.asked}) == 1
        (status,) = health.statuses()
        assert [rtt for _, _, rtt in status.addresses] == [0.030, None, 0.004]
        assert status.up
        assert (status.used, health.address(server)) == (ADDRESSES[2][0], ADDRESSES[2])
        prober.rtts[ADDRESSES[0]] = 0.003  # a little nearer: not worth a move
        await trio.sleep(310)
        assert health.address(server) == ADDRESSES[2]
        health.preferences.set(IPv4Network(ADDRESSES[0][0]), 10)
        await trio.sleep(310)
        assert health.address(server) == ADDRESSES[0]
        prober.alive = {ADDRESSES[1]}
        await trio.sleep(310)
        assert health.address(server) == ADDRESSES[1]
        nursery.cancel_scope.cancel()


async def test_contact_is_lost_after_two_probes_and_told_once(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    prober, health, server = make()
    prober.alive = {ADDRESSES[0]}
    async with trio.open_nursery() as nursery:
        await nursery.start(health.run)
        health.watch(server)
        await trio.sleep(10)
        prober.alive = set()
        await trio.sleep(239)
        assert not health.is_down(server)  # one probe was lost: it may be the network's humour
        await trio.sleep(10)
        assert health.is_down(server)
        await trio.sleep(1000)
        prober.alive = {ADDRESSES[0]}
        await trio.sleep(40)
        assert not health.is_down(server)
        await trio.sleep(1000)
        nursery.cancel_scope.cancel()
    assert [record.getMessage() for record in caplog.records] == [
        "lost contact with file server 192.0.2.1 of cell test.afs",
        "file server 192.0.2.1 of cell test.afs answers again",
    ]


async def test_each_of_several_servers_is_probed(autojump_clock: MockClock) -> None:
    prober, health, one = make()
    two = FileServer("test.afs", UUID(int=2), 1, [ADDRESSES[1]])
    async with trio.open_nursery() as nursery:
        await nursery.start(health.run)
        for server in (one, two):
            health.heard(server, server.addresses[0], 0.01)
        await trio.sleep(1)
        health.silent(one, trio.current_time())
        await trio.sleep(2)
        health.silent(two, trio.current_time())
        prober.alive = set(ADDRESSES)
        await trio.sleep(10)
        assert not health.is_down(one)
        assert not health.is_down(two)
        nursery.cancel_scope.cancel()


async def test_who_was_heard_of_meanwhile_is_not_down(autojump_clock: MockClock) -> None:
    _, health, server = make()
    began = trio.current_time()
    await trio.sleep(1)
    health.heard(server, ADDRESSES[0], None)
    health.silent(server, began)
    assert not health.is_down(server)


async def test_probes_at_the_same_time_are_one(autojump_clock: MockClock) -> None:
    prober, health, server = make()
    answers: list[bool] = []

    async def ask() -> None:
        answers.append(await health.probe([server]))

    for alive in (False, True):
        prober.alive = set(ADDRESSES) if alive else set()
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(ask)
    assert answers == [False] * 20 + [True] * 20
    assert len(prober.asked) == 2


async def test_a_probe_that_is_given_up_is_no_answer_to_others(autojump_clock: MockClock) -> None:
    """Whoever interrupts his own request is not to have others told that a server is silent."""
    prober, health, server = make()
    answers: list[bool] = []

    async def ask() -> None:
        answers.append(await health.probe([server]))

    async with trio.open_nursery() as nursery:
        with trio.move_on_after(1):
            async with trio.open_nursery() as impatient:
                impatient.start_soon(health.probe, [server])
                await trio.sleep(0.1)
                nursery.start_soon(ask)
                nursery.start_soon(ask)
                await trio.sleep(0.4)
                prober.alive.add(ADDRESSES[0])
    assert answers == [True, True]
    assert len(prober.asked) == 2


async def test_the_first_address_that_answers_is_used_from_then_on(
    autojump_clock: MockClock,
) -> None:
    prober, health, server = make(addresses=3)
    assert health.address(server) == ADDRESSES[0]
    prober.alive = {ADDRESSES[2]}
    began = trio.current_time()
    assert await health.probe([server])
    assert trio.current_time() - began < 0.1  # the silent ones are not waited for
    assert health.address(server) == ADDRESSES[2]
    server.addresses = (ADDRESSES[0],)  # registered anew
    assert health.address(server) == ADDRESSES[0]
    server.addresses = ()
    assert health.address(server) is None


async def test_a_crowd_is_one_only_before_a_silent_server(autojump_clock: MockClock) -> None:
    _, health, server = make()
    health.heard(server, ADDRESSES[0], None)
    await trio.sleep(100)
    with health.waiting(server):
        server.waiting = 256
        assert not health.is_crowded(server)  # it may still answer
        await trio.sleep(2)
        health.heard(server, ADDRESSES[0], None)
        await trio.sleep(2)
        assert not health.is_crowded(server)
        await trio.sleep(2)
        assert health.is_crowded(server)
    assert server.waiting == 255


async def test_waiting_ends_when_the_server_goes_down(autojump_clock: MockClock) -> None:
    _, health, server = make()
    began = trio.current_time()
    async with trio.open_nursery() as nursery:

        async def wait() -> None:
            with health.waiting(server):
                await trio.sleep(1000)

        nursery.start_soon(wait)
        nursery.start_soon(wait)
        await trio.sleep(1)
        assert server.waiting == 2
        health.silent(server, trio.current_time())
    assert trio.current_time() - began == 1
    assert server.waiting == 0


async def test_no_more_servers_are_watched_than_are_known(autojump_clock: MockClock) -> None:
    """Those that a location service invents push each other out, and are not asked for ever."""
    prober, health, live = make()
    prober.alive.add(ADDRESSES[0])
    health.heard(live, ADDRESSES[0], 0.01)
    idle = FileServer("test.afs", UUID(int=2), 1, ADDRESSES[1:2])
    health.watch(idle)
    with health.waiting(idle):
        for number in range(3, 3 * SERVERS_MAX):
            health.watch(FileServer("evil.afs", UUID(int=number), 1, [("192.0.2.9", 7000)]))
        assert {live, idle} < {*health.servers()}, "one that was heard of, one that is asked now"
    assert len(health.servers()) <= SERVERS_MAX
    async with trio.open_nursery() as nursery:
        await nursery.start(health.run)
        await trio.sleep(20)
        nursery.cancel_scope.cancel()
    assert len(health.servers()) <= SERVERS_MAX
    assert len({address for _, address in prober.asked}) == 3


async def test_a_server_that_had_to_go_is_a_new_one_when_it_is_used_again() -> None:
    _, health, server = make()
    health.watch(server)
    for number in range(3, 3 + SERVERS_MAX):
        health.watch(FileServer("evil.afs", UUID(int=number), 1, [("192.0.2.9", 7000)]))
    assert server not in health.servers()
    assert health.address(server) == ADDRESSES[0]
    assert server in health.servers()


async def test_thousands_of_silent_servers_are_asked_in_turn(autojump_clock: MockClock) -> None:
    """What a location service invents costs little time, and few packets to whoever lives there."""
    prober, health, live = make()
    prober.alive.add(ADDRESSES[0])
    invented = [(f"198.51.100.{number}", 7000) for number in range(16)]
    for number in range(2, 1500):
        health.watch(FileServer("evil.afs", UUID(int=number), 1, invented))
    async with trio.open_nursery() as nursery:
        await nursery.start(health.run)
        await trio.sleep(100)
        assert len(prober.asked) < 256 + 16 + 100 * 32
        health.heard(live, ADDRESSES[0], 0.01)
        for _ in range(3):
            prober.asked.clear()
            health.look_soon(live)
            await trio.sleep(3)
            assert ADDRESSES[0] in {address for _, address in prober.asked}
        nursery.cancel_scope.cancel()
