"""The one lock that a client has at a server: made stronger, kept, lost."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest
import trio

from afsfuse.errors import AfsError, OutcomeUnknown, ServerUnreachable
from afsfuse.interfaces.fileserver import LOCK_SECONDS
from tests.unit.afsfuse.cache.lockworld import (
    ALICE,
    BOB,
    FID,
    READ,
    WRITE,
    LockServer,
    Machine,
    here,
    quiet,
    refused,
    server,
    there,
)

if TYPE_CHECKING:
    from trio.testing import MockClock

    from tests.conftest import ExpectedWarnings

__all__ = ["here", "server", "there"]  # fixtures

# Silence


async def test_a_lock_over_which_its_server_fell_silent_may_be_asked_for_again(
    autojump_clock: MockClock, server: LockServer, here: Machine
) -> None:
    """A mount with `hard` goes on waiting by that: what the server may count ends by itself."""
    server.failing["set"] = OutcomeUnknown("silent")
    with pytest.raises(ServerUnreachable) as caught:
        await here.flock(1, WRITE)
    assert caught.value.passing
    assert caught.value.errno == errno.ETIMEDOUT
    server.failing.clear()
    await here.flock(1, WRITE)
    assert server.count == -1


# Conversion


async def test_a_whole_range_becomes_stronger(
    autojump_clock: MockClock, server: LockServer, here: Machine, there: Machine
) -> None:
    await here.fcntl(1, READ)
    await here.fcntl(1, WRITE)
    assert server.count == -1
    await here.fcntl(1, READ)
    assert server.count == -1  # the gap between two locks could be another's
    assert await refused(there.flock(1, READ))
    await here.fcntl(1, None)
    assert server.count == 0


async def test_with_other_readers_it_is_not_given_back_to_become_stronger(
    autojump_clock: MockClock, server: LockServer, here: Machine, there: Machine
) -> None:
    await here.fcntl(1, READ)
    await there.fcntl(1, READ)
    assert await refused(here.fcntl(1, WRITE))
    assert (server.count, server.calls["release"]) == (2, 0)


async def test_who_is_quicker_in_the_gap_is_told_of(
    autojump_clock: MockClock,
    server: LockServer,
    here: Machine,
    expected_warnings: ExpectedWarnings,
) -> None:
    expected_warnings("did not hold")
    await here.fcntl(1, READ)

    def steal(name: str) -> None:
        if name == "set" and server.lock.count == 0:
            server.lock.count, server.lock.until = -1, trio.current_time() + LOCK_SECONDS

    server.before = steal
    assert await refused(here.fcntl(1, WRITE))
    with pytest.raises(AfsError) as caught:
        here.locks.check(101)
    assert caught.value.errno == errno.EIO
    here.locks.check(101)  # it is told once


async def test_a_reader_in_the_gap_does_no_harm(
    autojump_clock: MockClock, server: LockServer, here: Machine
) -> None:
    await here.fcntl(1, READ)

    def read(name: str) -> None:
        if name == "set" and server.lock.count == 0:
            server.lock.count, server.lock.until = 1, trio.current_time() + LOCK_SECONDS

    server.before = read
    assert await refused(here.fcntl(1, WRITE))
    assert server.count == 2  # ours is there again
    here.locks.check(101)


async def test_a_change_in_the_gap_is_told_of(
    autojump_clock: MockClock,
    server: LockServer,
    here: Machine,
    expected_warnings: ExpectedWarnings,
) -> None:
    """Somebody had the lock, wrote, and gave it back, all in between."""
    expected_warnings("changed the file while it was made stronger")
    await here.fcntl(1, READ)

    def write(name: str) -> None:
        if name == "set":
            server.version += 1

    server.before = write
    await here.fcntl(1, WRITE)
    assert server.count == -1
    with pytest.raises(AfsError):
        here.locks.check(101)
    await here.fcntl(1, None)
    assert server.count == 0


async def test_who_waits_does_not_come_first_when_a_lock_is_made_stronger(
    autojump_clock: MockClock, server: LockServer, here: Machine, there: Machine
) -> None:
    await here.fcntl(1, READ)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_lock, there, 1)
        await trio.sleep(4.5)  # it has a promise, and is between two attempts
        await here.fcntl(1, WRITE)
        await trio.sleep(1)
        await here.fcntl(1, None)
    assert server.count == -1
    assert await refused(here.flock(1, READ))


async def _lock(machine: Machine, file: int) -> None:
    await machine.flock(file, WRITE, wait=True)


async def test_flock_converts_by_letting_go(
    autojump_clock: MockClock, server: LockServer, here: Machine, there: Machine
) -> None:
    await here.flock(1, WRITE)
    await here.flock(1, READ)
    assert server.count == 1
    await there.flock(1, READ)
    assert await refused(here.flock(1, WRITE))
    await quiet()
    assert server.count == 1  # the old lock is gone, as flock(2) says
    await there.flock(1, WRITE)


# Keeping it


async def test_locks_are_extended_as_long_as_they_are_held(
    autojump_clock: MockClock, server: LockServer, here: Machine, there: Machine
) -> None:
    await here.flock(1, WRITE)
    await trio.sleep(3600)
    assert server.count == -1
    assert server.calls["extend"] == 24  # every 150 s
    assert await refused(there.flock(1, READ))
    await here.flock(1, None)
    await trio.sleep(3600)
    assert server.calls["extend"] == 24


async def test_a_server_that_is_away_for_a_while_does_no_harm(
    autojump_clock: MockClock, server: LockServer, here: Machine
) -> None:
    await here.flock(1, WRITE)
    server.failing["extend"] = ServerUnreachable("away")
    await trio.sleep(LOCK_SECONDS - 20)
    server.failing.clear()
    await trio.sleep(20)
    assert server.count == -1
    here.locks.check(1)


async def test_a_lock_that_was_not_extended_in_time_is_told_of_once(
    autojump_clock: MockClock,
    server: LockServer,
    here: Machine,
    there: Machine,
    expected_warnings: ExpectedWarnings,
) -> None:
    expected_warnings("a lock on .* did not hold: away")
    await here.flock(1, WRITE)
    await here.fcntl(3, WRITE, 5, 6)
    server.failing["extend"] = ServerUnreachable("away")
    await trio.sleep(LOCK_SECONDS + 1)
    await there.flock(1, WRITE)
    assert await refused(here.flock(2, READ))  # here it is still locked
    here.locks.check(103)  # a range that no server knew of
    assert await refused(here.flock(1, WRITE), errno.EIO)
    assert await refused(here.flock(1, WRITE))
    await here.flock(1, None)
    await there.flock(1, None)
    await here.flock(2, WRITE)
    assert server.count == -1


async def test_who_lets_go_of_a_lost_lock_has_nothing_to_be_told(
    autojump_clock: MockClock,
    server: LockServer,
    here: Machine,
    expected_warnings: ExpectedWarnings,
) -> None:
    expected_warnings("did not hold")
    await here.fcntl(1, WRITE)
    server.failing["extend"] = ServerUnreachable("away")
    await trio.sleep(LOCK_SECONDS + 1)
    await here.fcntl(1, None, 0, 10)
    assert 101 in here.locks.complaints  # he has the rest still
    await here.fcntl(1, None)
    here.locks.check(101)


async def test_what_is_closed_has_nothing_to_be_told(
    autojump_clock: MockClock,
    server: LockServer,
    here: Machine,
    expected_warnings: ExpectedWarnings,
) -> None:
    expected_warnings("did not hold")
    await here.flock(1, WRITE)
    server.failing["extend"] = ServerUnreachable("away")
    await trio.sleep(LOCK_SECONDS + 1)
    here.locks.released(here.volume, FID, 1)
    here.locks.check(1)


async def test_a_lock_that_the_server_forgot_is_set_again(
    autojump_clock: MockClock, server: LockServer, here: Machine
) -> None:
    await here.flock(1, WRITE)
    await trio.sleep(100)
    server.lock.count = 0  # as by a restart
    await trio.sleep(100)
    assert server.count == -1
    here.locks.check(1)


async def test_a_forgotten_lock_counts_as_lost_if_the_file_changed(
    autojump_clock: MockClock,
    server: LockServer,
    here: Machine,
    expected_warnings: ExpectedWarnings,
) -> None:
    expected_warnings("did not hold")
    await here.flock(1, WRITE)
    await trio.sleep(100)
    server.lock.count = 0
    server.version += 1
    await trio.sleep(100)
    assert await refused(here.flock(1, WRITE), errno.EIO)
    assert server.count == 0  # nobody depends on it any more


async def test_a_forgotten_lock_that_another_one_has_is_lost(
    autojump_clock: MockClock,
    server: LockServer,
    here: Machine,
    there: Machine,
    expected_warnings: ExpectedWarnings,
) -> None:
    expected_warnings("did not hold")
    await here.flock(1, WRITE)
    await trio.sleep(100)
    server.lock.count = 0
    await there.flock(1, READ)
    server.failing["extend"] = AfsError("no lock", errno=errno.EINVAL)
    await trio.sleep(100)
    assert await refused(here.flock(1, WRITE), errno.EIO)


async def test_it_is_extended_in_the_name_of_whoever_may(
    autojump_clock: MockClock, server: LockServer, here: Machine
) -> None:
    await here.flock(1, READ, who=ALICE)
    await here.flock(2, READ, who=BOB)
    server.forbidden.add(ALICE)  # as when her token expires
    await trio.sleep(LOCK_SECONDS)
    assert server.count == 1
    assert ("extend", BOB) in server.speakers
    await here.flock(1, None)
    await here.flock(2, None)
    assert server.speakers[-1] == ("release", BOB)


async def test_locks_of_removed_files_are_let_be(
    autojump_clock: MockClock, server: LockServer, here: Machine
) -> None:
    await here.flock(1, WRITE)
    server.failing["extend"] = AfsError("gone", errno=errno.ESTALE)
    await trio.sleep(3600)
    assert server.calls["extend"] == 1
    await here.flock(1, None)
    assert server.calls["release"] == 0


async def test_a_machine_that_slept_looks_after_its_locks(
    autojump_clock: MockClock, server: LockServer, here: Machine
) -> None:
    await here.flock(1, WRITE)
    here.locks.slept(200)
    await quiet()
    assert server.calls["extend"] == 1
    here.locks.check(1)


async def test_a_machine_that_slept_too_long_has_no_locks(
    autojump_clock: MockClock,
    server: LockServer,
    here: Machine,
    expected_warnings: ExpectedWarnings,
) -> None:
    """An extension would succeed: of the lock of whoever has it now."""
    expected_warnings("not extended in time")
    await here.flock(1, WRITE)
    here.locks.slept(LOCK_SECONDS + 10)
    await quiet()
    assert server.calls["extend"] == 0
    assert await refused(here.flock(1, WRITE), errno.EIO)
