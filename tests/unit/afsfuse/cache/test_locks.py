"""Locks of several processes and machines on one file."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest
import trio

from afsfuse.cache import locks
from afsfuse.cache.locks import END, Blocker, LockMode
from afsfuse.errors import NotPermitted, ServerUnreachable
from afsfuse.interfaces.fileserver import LOCK_SECONDS
from afsfuse.model import VolumeType
from tests.unit.afsfuse.cache.lockworld import (
    ALICE,
    BOB,
    FID,
    READ,
    WRITE,
    LockServer,
    Machine,
    here,
    machine,
    quiet,
    refused,
    server,
    there,
)

if TYPE_CHECKING:
    from trio.testing import MockClock

    from tests.conftest import ExpectedWarnings

__all__ = ["here", "server", "there"]  # fixtures

# What the server hears


async def test_whole_files_are_locked_at_the_server(
    autojump_clock: MockClock, server: LockServer, here: Machine, there: Machine
) -> None:
    await here.flock(1, READ)
    await here.flock(2, READ)
    assert (server.count, server.calls["set"]) == (1, 1)  # one for all who are here
    await there.fcntl(1, READ)
    assert server.count == 2
    assert await refused(there.fcntl(1, WRITE))
    await here.flock(1, None)
    assert server.count == 2
    await here.flock(2, None)
    assert server.count == 1
    await there.fcntl(1, WRITE)
    assert server.count == -1
    assert await refused(here.flock(1, READ))
    await there.fcntl(1, None)
    assert server.count == 0
    await here.flock(1, READ)


async def test_ranges_are_local(
    autojump_clock: MockClock, server: LockServer, here: Machine, there: Machine
) -> None:
    await here.fcntl(1, WRITE, 10, 20)
    await there.fcntl(1, WRITE, 10, 20)
    assert await refused(here.fcntl(2, READ, 19, 30))
    assert not server.calls
    assert here.locks.posix
    await here.fcntl(1, None, 10, 20)
    assert not here.locks.posix


async def test_strict_ranges_are_whole_files_to_others(
    autojump_clock: MockClock, server: LockServer
) -> None:
    async with machine(server, LockMode.STRICT) as here, machine(server) as there:
        await here.fcntl(1, READ, 10, 20)
        assert server.count == 1
        await here.fcntl(2, WRITE, 30, 40)
        assert server.count == -1
        assert await refused(there.flock(1, READ))
        await here.fcntl(2, None)
        assert server.count == -1  # it does not become weaker while it is needed
        await here.fcntl(1, None)
        assert server.count == 0


async def test_write_mode_takes_ranges_for_writers(
    autojump_clock: MockClock, server: LockServer
) -> None:
    async with machine(server, LockMode.WRITE) as here:
        await here.fcntl(1, READ, 10, 20)
        assert server.count == -1
        await here.fcntl(1, None)
        await here.fcntl(1, READ)
        assert server.count == 1


async def test_local_mode_asks_nobody(autojump_clock: MockClock, server: LockServer) -> None:
    async with machine(server, LockMode.LOCAL) as here:
        await here.flock(1, WRITE)
        assert await refused(here.flock(2, READ))
    assert not server.calls


async def test_read_only_volumes_have_local_locks(
    autojump_clock: MockClock, server: LockServer
) -> None:
    async with machine(server, type=VolumeType.RO) as here:
        await here.flock(1, WRITE)
        assert await refused(here.flock(2, READ))
        for process in range(2):  # there are no POSIX locks for writing, so none is in the way
            await here.fcntl(process, READ)
        assert not here.locks.posix
        assert await here.locks.blocker(here.volume, FID, here.request(9, WRITE)) is None
    assert not server.calls


async def test_data_is_stored_before_others_get_the_lock(
    autojump_clock: MockClock, server: LockServer, here: Machine
) -> None:
    order: list[str] = []
    server.before = order.append

    async def store(*_: object) -> None:
        await trio.sleep(1)
        order.append("store")

    here.locks.store = store
    await here.flock(1, WRITE)
    await here.flock(1, None)
    assert order == ["set", "store", "release"]


async def test_who_comes_while_data_is_stored_keeps_the_lock(
    autojump_clock: MockClock, server: LockServer, here: Machine
) -> None:
    async def store(*_: object) -> None:
        await trio.sleep(1)

    here.locks.store = store
    await here.flock(1, WRITE)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(here.flock, 1, None)
        await trio.sleep(0.5)
        await here.flock(2, WRITE)
    assert (server.count, server.calls["set"], server.calls["release"]) == (-1, 1, 0)


async def test_locks_are_asked_for_in_the_name_of_their_owners(
    autojump_clock: MockClock, server: LockServer, here: Machine
) -> None:
    await here.flock(1, READ, who=BOB)
    await here.flock(1, None)
    server.forbidden.add(ALICE)
    assert await refused(here.flock(2, READ, who=ALICE), errno.EACCES)
    assert server.speakers == [("set", BOB), ("release", BOB), ("set", ALICE)]


async def test_without_the_right_ranges_are_local_in_every_mode(
    autojump_clock: MockClock, server: LockServer
) -> None:
    server.forbidden.add(ALICE)
    async with machine(server, LockMode.STRICT) as here:
        await here.fcntl(1, READ, 5, 6)
        assert await refused(here.fcntl(2, WRITE, 5, 6))
        assert await refused(here.fcntl(3, READ), errno.EACCES)
        assert server.count == 0


# Waiting


async def test_processes_get_their_turns_in_order(autojump_clock: MockClock, here: Machine) -> None:
    await here.flock(0, WRITE)
    turns: list[int] = []

    async def take(number: int) -> None:
        await here.flock(number, WRITE, wait=True)
        turns.append(number)
        await here.flock(number, None)

    async with trio.open_nursery() as nursery:
        for number in range(1, 10):
            nursery.start_soon(take, number)
            await trio.sleep(0.1)
        await here.flock(0, None)
    assert turns == list(range(1, 10))


async def test_who_gives_up_leaves_the_turn_to_the_next(
    autojump_clock: MockClock, here: Machine
) -> None:
    """Woken and cancelled in the same moment: the next one must not wait for ever."""
    await here.flock(0, WRITE)
    impatient = trio.CancelScope()

    async def give_up() -> None:
        with impatient:
            await here.flock(1, WRITE, wait=True)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(give_up)
        await trio.sleep(0.1)
        nursery.start_soon(_lock, here, 2)
        await trio.sleep(0.1)
        impatient.cancel()
        await here.flock(0, None)
    assert await refused(here.flock(3, READ))


async def _lock(machine: Machine, file: int) -> None:
    await machine.flock(file, WRITE, wait=True)


async def test_a_lock_of_another_machine_is_had_when_it_is_free(
    autojump_clock: MockClock, server: LockServer, here: Machine, there: Machine
) -> None:
    await there.flock(1, WRITE)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_lock, here, 1)
        await trio.sleep(20)
        attempts = server.calls["set"]
        assert 5 <= attempts <= 8  # pauses grow to 5 s
        before = trio.current_time()
        await there.flock(1, None)
    assert trio.current_time() - before < 0.1  # the server said that it is free
    assert server.count == -1


async def test_a_lock_that_expires_is_had_too(
    autojump_clock: MockClock,
    server: LockServer,
    here: Machine,
    there: Machine,
    expected_warnings: ExpectedWarnings,
) -> None:
    expected_warnings("did not hold")
    await there.flock(1, WRITE)
    begin = trio.current_time()
    there.locks.broken = lambda fid: None  # type: ignore[method-assign]
    server.failing["extend"] = ServerUnreachable("dead to that machine")
    with trio.fail_after(2 * LOCK_SECONDS):
        await _lock(here, 1)
    assert LOCK_SECONDS - 1 <= trio.current_time() - begin <= LOCK_SECONDS + 6


async def test_giving_up_leaves_no_lock_behind(
    autojump_clock: MockClock, server: LockServer, here: Machine
) -> None:
    server.rtt = 2.0
    with trio.move_on_after(1.5):
        await here.flock(1, WRITE)  # the server has it done, but its answer is on the way
    assert server.count == -1
    server.rtt = 0.01
    await quiet()
    assert (server.count, server.calls["release"]) == (0, 1)
    await here.flock(2, WRITE)


async def test_two_that_wait_for_each_other_are_told(
    autojump_clock: MockClock, here: Machine
) -> None:
    await here.fcntl(1, WRITE, 0, 1)
    await here.fcntl(2, WRITE, 1, 2)
    await here.fcntl(3, WRITE, 2, 3)

    async def wait(process: int, byte: int) -> None:
        await here.fcntl(process, WRITE, byte, byte + 1, wait=True)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait, 1, 1)
        nursery.start_soon(wait, 2, 2)
        await trio.sleep(0.1)
        assert await refused(wait(3, 0), errno.EDEADLK)
        await here.fcntl(3, None)
        await trio.sleep(0.1)
        await here.fcntl(2, None)


# Who is in the way


async def test_it_is_told_who_is_in_the_way(
    autojump_clock: MockClock, server: LockServer, here: Machine, there: Machine
) -> None:
    async def blocker(type: int, start: int = 0, end: int = END) -> Blocker | None:
        request = here.request(9, (READ, WRITE)[type], start, end)
        return await here.locks.blocker(here.volume, FID, request)

    assert await blocker(WRITE) is None
    await here.fcntl(1, READ, 5, 8)
    assert await blocker(READ) is None
    assert await blocker(WRITE) == Blocker(READ, 5, 8, 1)
    await here.fcntl(1, None)
    await there.flock(1, READ)
    assert await blocker(READ) is None
    assert await blocker(WRITE) == Blocker(READ, 0, END, 0)
    assert await blocker(WRITE, 0, 5) is None  # which others would not see
    await here.fcntl(9, READ)
    assert await blocker(WRITE) == Blocker(READ, 0, END, 0)
    await there.flock(1, None)
    assert await blocker(WRITE) is None
    await here.fcntl(9, None)
    await there.flock(1, WRITE)
    assert await blocker(READ) == Blocker(WRITE, 0, END, 0)


# Ends


async def test_closing_ends_locks(
    autojump_clock: MockClock, server: LockServer, here: Machine
) -> None:
    await here.flock(1, WRITE)
    await here.fcntl(5, WRITE)
    here.locks.released(here.volume, FID, 1)
    await quiet()
    assert server.count == -1  # for the process that has it still
    here.locks.released(here.volume, FID, 105)
    await quiet()
    assert server.count == 0
    assert not here.locks.posix


async def test_an_unlock_waits_for_a_silent_server_for_a_bounded_time(
    autojump_clock: MockClock, server: LockServer, here: Machine
) -> None:
    await here.flock(1, WRITE)
    server.rtt = 60.0
    begin = trio.current_time()
    await here.flock(1, None)
    assert trio.current_time() - begin == 10
    server.rtt = 0.01
    await here.flock(2, WRITE)  # once the server has answered
    assert server.count == -1


async def test_the_end_gives_locks_back(
    autojump_clock: MockClock, server: LockServer, here: Machine
) -> None:
    await here.flock(1, WRITE)
    await here.locks.give_up_all()
    assert server.count == 0
    server.rtt = 60.0
    begin = trio.current_time()
    await here.locks.give_up_all()
    assert trio.current_time() == begin  # there is nothing left


async def test_the_end_does_not_wait_for_the_dead(
    autojump_clock: MockClock, server: LockServer, here: Machine
) -> None:
    await here.flock(1, WRITE)
    server.rtt = 60.0
    begin = trio.current_time()
    await here.locks.give_up_all()
    assert trio.current_time() - begin == 3


async def test_nothing_is_kept_of_files_that_nobody_locks(
    autojump_clock: MockClock, server: LockServer, here: Machine
) -> None:
    await here.flock(1, WRITE)
    await here.flock(1, None)
    await here.fcntl(1, WRITE, 1, 2)
    await here.fcntl(1, None)
    assert await here.locks.blocker(here.volume, FID, here.request(9, WRITE)) is None
    server.forbidden.add(ALICE)
    with pytest.raises(NotPermitted):
        await here.flock(1, WRITE)
    assert here.locks.files == 0


async def test_there_is_a_bound_to_ranges(
    autojump_clock: MockClock, here: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "SPANS_MAX", 20)
    for process in range(20):
        await here.fcntl(process, READ, 2 * process, 2 * process + 1)
    assert await refused(here.fcntl(1, READ, 1, 2), errno.ENOLCK)
    await here.fcntl(1, None)
    await here.fcntl(1, READ, 1, 2)
