"""The watch over waiting requests, on a clock that jumps."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from afsfuse.fuse import interrupts
from afsfuse.fuse.interrupts import (
    STORING,
    Interrupts,
    TooManyWaits,
    Wait,
    has_stopped_waiting,
    interrupting_signals,
    is_exiting,
)
from afsfuse.fuse.operations import Operations

if TYPE_CHECKING:
    from tests.conftest import ExpectedWarnings

STATUS = b"""\
Name:\tls
State:\tD (disk sleep)
SigQ:\t1/96365
SigPnd:\t%016x
ShdPnd:\t%016x
SigBlk:\t%016x
SigIgn:\t%016x
SigCgt:\t0000000000000000
"""


def bit(number: int) -> int:
    return 1 << (number - 1)


@pytest.mark.parametrize(
    ("pending", "shared", "blocked", "ignored", "interrupts"),
    [
        (0, 0, 0, 0, False),
        (bit(signal.SIGINT), 0, 0, 0, True),
        (0, bit(signal.SIGTERM), 0, 0, True),
        (bit(signal.SIGKILL), 0, 0, 0, True),
        (0, bit(64), 0, 0, True),
        (bit(signal.SIGINT), 0, bit(signal.SIGINT), 0, False),
        (0, bit(signal.SIGHUP), 0, bit(signal.SIGHUP), False),
        (bit(signal.SIGCHLD) | bit(signal.SIGWINCH), bit(signal.SIGCONT), 0, 0, False),
        (bit(signal.SIGTSTP) | bit(signal.SIGSTOP), bit(signal.SIGURG), 0, 0, False),
        (bit(signal.SIGCHLD) | bit(signal.SIGINT), 0, 0, 0, True),
    ],
)
def test_which_signals_count(
    pending: int, shared: int, blocked: int, ignored: int, interrupts: bool
) -> None:
    status = STATUS % (pending, shared, blocked, ignored)
    assert bool(interrupting_signals(status)) == interrupts


def test_a_real_thread() -> None:
    assert not has_stopped_waiting(threading.get_native_id())
    child = subprocess.Popen([sys.executable, "-S", "-c", ""])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert has_stopped_waiting(child.pid), "it has ended, but is still listed"
    child.wait()
    assert has_stopped_waiting(child.pid), "it is gone"


def test_a_hidden_thread_counts_as_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise FileNotFoundError

    def not_yours(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "open", refuse)
    assert not has_stopped_waiting(os.getpid())
    monkeypatch.setattr(os, "kill", not_yours)
    assert not has_stopped_waiting(os.getpid())


def line(tid: int) -> bytes:
    return b"unique: 8, opcode: READ (15), nodeid: 7, insize: 80, pid: %d\n" % tid


class Bench:
    """Threads with signals, and requests that wait for ever."""

    def __init__(self, **more: float) -> None:
        self.signalled: set[int] = set()
        self.looks: list[int] = []
        self.interrupts = Interrupts(interrupted=self._look, **more)  # type: ignore[arg-type]
        self.answers: list[tuple[int, float]] = []

    def _look(self, tid: int) -> bool:
        self.looks.append(tid)
        return tid in self.signalled

    async def request(self, tid: int) -> None:
        begin = trio.current_time()
        wait = self.interrupts.enter("read", line(tid))
        with wait.scope:
            await trio.sleep_forever()
        self.interrupts.leave(wait)
        self.answers.append((wait.errno, trio.current_time() - begin))


async def test_a_signal_ends_the_wait_soon(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    bench = Bench()
    await nursery.start(bench.interrupts.run)
    nursery.start_soon(bench.request, 11)
    nursery.start_soon(bench.request, 12)
    await trio.sleep(5)
    assert not bench.answers
    bench.signalled.add(12)
    await trio.sleep(0.3)
    assert [number for number, _ in bench.answers] == [errno.EINTR]
    assert len(bench.interrupts) == 1


async def test_short_waits_are_not_looked_at(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    bench = Bench()
    await nursery.start(bench.interrupts.run)
    for _ in range(100):
        wait = bench.interrupts.enter("getattr", line(11))
        with wait.scope:
            await trio.sleep(0.02)
        bench.interrupts.leave(wait)
    assert bench.looks == []


async def test_a_wait_ends_after_its_time(
    autojump_clock: trio.testing.MockClock,
    nursery: trio.Nursery,
    caplog: pytest.LogCaptureFixture,
    expected_warnings: ExpectedWarnings,
) -> None:
    expected_warnings("has waited for")
    bench = Bench(timeout=30.0)
    await nursery.start(bench.interrupts.run)
    nursery.start_soon(bench.request, 11)
    nursery.start_soon(bench.request, 0)  # nobody can be interrupted, but time passes
    await trio.sleep(32)
    assert [number for number, _ in bench.answers] == [errno.ETIMEDOUT] * 2
    assert all(30 <= seconds < 31 for _, seconds in bench.answers)
    assert "nodeid: 7" in caplog.text
    assert set(bench.looks) == {11}


async def test_what_stores_data_takes_its_time_and_can_be_interrupted(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    """On a slow line a large file is closed after minutes, and that is no error."""
    bench = Bench(timeout=30.0)
    await nursery.start(bench.interrupts.run)
    waits = [bench.interrupts.enter(what, b"") for what in sorted(STORING)]
    await trio.sleep(300)
    assert not any(wait.scope.cancel_called for wait in waits)
    for wait in waits:
        wait.tid = 11
    bench.signalled.add(11)
    await trio.sleep(1)
    assert all(wait.scope.cancel_called and wait.errno == errno.EINTR for wait in waits)


def test_what_stores_data_are_handlers() -> None:
    assert all(hasattr(Operations, name) for name in STORING)


async def test_many_waits_are_looked_at_in_turn_and_each_within_a_second(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    bench = Bench()
    await nursery.start(bench.interrupts.run)
    for tid in range(1, 1001):
        nursery.start_soon(bench.request, tid)
    await trio.sleep(3)
    bench.looks.clear()
    await trio.sleep(6)
    looks_per_second = len(bench.looks) / 6
    assert looks_per_second < 1000 / 0.5
    bench.signalled.update(range(1, 1001))
    await trio.sleep(1)
    assert len(bench.answers) == 1000


async def test_one_thread_is_looked_at_once_however_many_read_aheads_it_has(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    bench = Bench()
    await nursery.start(bench.interrupts.run)
    for _ in range(20):
        nursery.start_soon(bench.request, 11)
    await trio.sleep(1)
    assert 0 < len(bench.looks) <= 12


async def test_the_watcher_sleeps_and_wakes(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    naps = 0

    async def counted(seconds: float, sleep: object = trio.sleep) -> None:
        nonlocal naps
        naps += 1
        await sleep(seconds)  # type: ignore[operator]

    bench = Bench()
    pause = trio.sleep
    monkeypatch.setattr(trio, "sleep", counted)
    await nursery.start(bench.interrupts.run)
    await pause(1000)
    assert naps <= interrupts.IDLE_TICKS
    nursery.start_soon(bench.request, 11)
    bench.signalled.add(11)
    await pause(1)
    assert len(bench.answers) == 1


async def test_the_number_of_waits_is_bounded() -> None:
    bench = Interrupts(most=2)
    first: Wait = bench.enter("read", b"")
    bench.enter("read", b"")
    with pytest.raises(TooManyWaits):
        bench.enter("read", b"")
    bench.leave(first)
    bench.enter("read", b"")
    assert len(bench) == 2


async def test_closing_ends_what_waits_and_what_comes(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    bench = Bench()
    nursery.start_soon(bench.request, 11)
    await trio.sleep(0.1)
    bench.interrupts.close(errno.ENOTCONN)
    await bench.interrupts.drained()
    await bench.request(12)
    assert [number for number, _ in bench.answers] == [errno.ENOTCONN] * 2


async def test_closing_with_nothing_waiting() -> None:
    bench = Interrupts()
    bench.close(errno.ENOTCONN)
    with trio.fail_after(5):
        await bench.drained()


def enter_all(waits: Interrupts, user: int, times: int) -> list[Wait]:
    """What of so many requests of a user is let in."""
    entered = []
    for _ in range(times):
        with contextlib.suppress(TooManyWaits):
            entered.append(waits.enter("lookup", b"", user))
    return entered


async def test_no_user_takes_all_the_room_of_the_others() -> None:
    """10^4 requests of one; then others come, who flood as well."""
    waits = Interrupts(most=4000, shared=True)
    first = enter_all(waits, 1000, 10_000)
    assert len(first) == 2000
    assert len(enter_all(waits, 1001, 10_000)) == 1000
    assert len(enter_all(waits, 1002, 10_000)) == 500
    for user in range(2000, 2008):
        assert enter_all(waits, user, 1), "there is room for another one, still"
    for wait in first:
        waits.leave(wait)
    assert len(enter_all(waits, 1002, 10_000)) == 996, "as many as are left then"
    assert len(waits) <= waits.most


async def test_who_is_alone_may_have_it_all() -> None:
    waits = Interrupts(most=4000)
    for wait in enter_all(waits, 1000, 10_000):
        waits.leave(wait)
    assert len(enter_all(waits, 1000, 10_000)) == 4000
    assert not enter_all(waits, 0, 1)


async def test_a_close_for_a_process_that_exits_is_not_tried_again() -> None:
    """Nobody hears how it ends, and no signal would end it."""
    exiting = {11}
    waits = Interrupts(retry=math.inf, exiting=exiting.__contains__)
    for what, tid, expected in (
        ("settle", 11, False), ("settle", 12, True), ("fsync", 11, True),
    ):  # fmt: skip
        assert waits.may_retry(waits.enter(what, line(tid))) is expected


def test_who_exits_is_known() -> None:
    assert not is_exiting(os.getpid())
    child = subprocess.Popen(["true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert is_exiting(child.pid)
    child.wait()
    assert is_exiting(child.pid)
