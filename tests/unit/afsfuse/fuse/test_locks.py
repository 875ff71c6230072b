"""Lock requests between libfuse, which is played here, and the vfs."""

from __future__ import annotations

import errno
import fcntl
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from afsfuse.cache.locks import Blocker
from afsfuse.errors import AfsError, VolumeBusy
from afsfuse.fuse import libfuse
from afsfuse.fuse.locks import LATER, LockRequests
from afsfuse.vfs.locking import END, FileLock, LockKind, LockType

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.conftest import ExpectedWarnings


class Between:
    """What `_libfuse` is to `LockRequests`."""

    def __init__(self) -> None:
        self.on_lock: Callable[..., int] | None = None
        self.on_interrupt: Callable[[int], object] = lambda request: None
        self.answers: dict[int, object] = {}
        self.held = False
        self.news = trio.Event()

    def connect(self, on_lock: Callable[..., int], on_interrupt: Callable[[int], object]) -> None:
        self.on_lock, self.on_interrupt = on_lock, on_interrupt

    def disconnect(self) -> None:
        self.on_lock = None

    def connected(self) -> bool:
        return self.on_lock is not None

    def hold(self, flag: bool) -> None:
        self.held = flag

    def flush_owner(self) -> int:
        return 77

    def reply(self, request: int, number: int) -> int:
        return self._answer(request, number)

    def reply_lock(self, request: int, type: int, start: int, length: int, pid: int) -> int:
        return self._answer(request, (type, start, length, pid))

    def _answer(self, request: int, answer: object) -> int:
        assert request not in self.answers
        self.answers[request] = answer
        self.news.set()
        self.news = trio.Event()
        return 0

    async def answer(self, request: int) -> object:
        with trio.fail_after(5):
            while request not in self.answers:
                await self.news.wait()
        return self.answers.pop(request)


class Locking:
    """A vfs that does as it is told; what it is asked for is in `asked`."""

    def __init__(self) -> None:
        self.posix = False
        self.at_once: bool | Exception = True
        self.later: Exception | None = None
        self.tries = 0
        self.free = trio.Event()
        self.in_the_way: Blocker | None = None
        self.asked: list[FileLock] = []

    def change_at_once(self, lock: FileLock) -> bool:
        self.asked.append(lock)
        if isinstance(self.at_once, Exception):
            raise self.at_once
        return self.at_once

    async def change(self, lock: FileLock, *, wait: bool) -> None:
        if not wait:
            raise AfsError("taken", errno=errno.EAGAIN)
        await self.free.wait()
        self.tries += 1
        if self.later is not None:
            raise self.later

    async def blocker(self, lock: FileLock) -> Blocker | None:
        return self.in_the_way


class Desk:
    """Requests, the vfs below and libfuse above."""

    def __init__(self) -> None:
        self.between = Between()
        self.locking = Locking()
        self.requests = LockRequests(self.locking, 3, retry=10.0)

    def ask(
        self,
        request: int,
        command: int = fcntl.F_SETLK,
        type: int = fcntl.F_WRLCK,
        start: int = 0,
        length: int = 0,
        wait: int = 0,
        handle: int = 11,
    ) -> int:
        assert self.between.on_lock is not None
        return self.between.on_lock(request, 5, handle, 99, command, type, start, length, 42, wait)


@pytest.fixture
async def desk(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Desk]:
    desk = Desk()
    monkeypatch.setattr(libfuse, "between", desk.between)
    desk.requests.connect()
    async with trio.open_nursery() as nursery:
        await nursery.start(desk.requests.run)
        yield desk
        nursery.cancel_scope.cancel()


async def test_requests_are_translated(desk: Desk) -> None:
    assert desk.ask(1, start=10, length=5) == 0
    assert desk.ask(2, type=fcntl.F_RDLCK, start=10) == 0
    assert desk.ask(3, type=fcntl.F_UNLCK) == 0
    assert desk.ask(4, command=0) == 0
    assert desk.locking.asked == [
        FileLock(11, LockKind.POSIX, 99, LockType.WRITE, 10, 15, 42),
        FileLock(11, LockKind.POSIX, 99, LockType.READ, 10, END, 42),
        FileLock(11, LockKind.POSIX, 99, None, 0, END, 42),
        FileLock(11, LockKind.FLOCK, 99, LockType.WRITE, 0, END, 42),
    ]
    assert desk.requests.flush_owner() == 77


async def test_what_is_in_the_way_is_told(desk: Desk) -> None:
    assert desk.ask(1, command=fcntl.F_GETLK, start=3) == LATER
    assert await desk.between.answer(1) == (fcntl.F_UNLCK, 3, 0, 0)
    desk.locking.in_the_way = Blocker(LockType.READ, 10, 15, 8)
    assert desk.ask(2, command=fcntl.F_GETLK) == LATER
    assert await desk.between.answer(2) == (fcntl.F_RDLCK, 10, 5, 8)
    desk.locking.in_the_way = Blocker(LockType.WRITE, 10, END, 0)
    assert desk.ask(3, command=fcntl.F_GETLK) == LATER
    assert await desk.between.answer(3) == (fcntl.F_WRLCK, 10, 0, 0)


async def test_who_waits_is_answered_later(desk: Desk) -> None:
    desk.locking.at_once = False
    assert desk.ask(1, wait=1) == LATER
    assert desk.ask(2) == LATER
    assert await desk.between.answer(2) == errno.EAGAIN
    assert len(desk.requests) == 1
    desk.locking.posix = True
    desk.locking.free.set()
    assert await desk.between.answer(1) == 0
    assert desk.between.held
    assert len(desk.requests) == 0


async def test_an_interrupt_ends_the_wait(desk: Desk) -> None:
    desk.locking.at_once = False
    assert desk.ask(1, wait=1) == LATER
    await trio.testing.wait_all_tasks_blocked()
    desk.between.on_interrupt(1)
    assert await desk.between.answer(1) == errno.EINTR
    desk.between.on_interrupt(1)  # too late: it is nobody's
    assert desk.ask(2, wait=1) == LATER
    desk.between.on_interrupt(2)  # before its task has run
    assert await desk.between.answer(2) == errno.EINTR


async def test_errors_have_their_errno(desk: Desk, expected_warnings: ExpectedWarnings) -> None:
    desk.locking.at_once = AfsError("not open", errno=errno.EBADF)
    assert desk.ask(1) == errno.EBADF
    expected_warnings("a bug")
    desk.locking.at_once = KeyError("bug")
    assert desk.ask(2) == errno.EIO
    desk.locking.at_once = False
    desk.locking.later = KeyError("bug")
    desk.locking.free.set()
    assert desk.ask(3, wait=1) == LATER
    assert await desk.between.answer(3) == errno.EIO


async def test_there_is_a_bound(desk: Desk, expected_warnings: ExpectedWarnings) -> None:
    expected_warnings("refused with ENOLCK")
    desk.locking.at_once = False
    assert [desk.ask(number, wait=1) for number in range(3)] == [LATER] * 3
    assert desk.ask(9, wait=1) == errno.ENOLCK


async def test_one_user_leaves_room_for_others(
    monkeypatch: pytest.MonkeyPatch, expected_warnings: ExpectedWarnings
) -> None:
    expected_warnings("refused with ENOLCK")
    desk = Desk()
    desk.requests = LockRequests(desk.locking, 8, user_of=lambda handle: handle % 2, shared=True)
    monkeypatch.setattr(libfuse, "between", desk.between)
    desk.requests.connect()
    desk.locking.at_once = False
    async with trio.open_nursery() as nursery:
        await nursery.start(desk.requests.run)
        assert [desk.ask(number, wait=1) for number in range(4)] == [LATER] * 4
        assert desk.ask(4, wait=1) == errno.ENOLCK
        assert desk.ask(5, wait=1, handle=12) == LATER
        desk.between.on_interrupt(0)
        assert await desk.between.answer(0) == errno.EINTR
        assert desk.ask(6, wait=1) == LATER
        nursery.cancel_scope.cancel()


async def test_who_unlocks_is_never_refused(desk: Desk) -> None:
    """The range is free here by then, and its server must hear of that."""
    desk.locking.at_once = False
    desk.locking.free.set()
    desk.locking.later = AfsError("taken", errno=errno.EAGAIN)
    assert [desk.ask(number, wait=1) for number in range(3)] == [LATER] * 3
    assert desk.ask(9, type=fcntl.F_UNLCK, wait=1) == LATER
    assert await desk.between.answer(9) == errno.EAGAIN


async def test_the_end_answers_everybody(desk: Desk) -> None:
    desk.locking.at_once = False
    assert [desk.ask(number, wait=1) for number in range(3)] == [LATER] * 3
    await trio.testing.wait_all_tasks_blocked()
    desk.requests.close(errno.ENOTCONN)
    with trio.fail_after(5):
        await desk.requests.drained()
    assert desk.between.answers == dict.fromkeys(range(3), errno.ENOTCONN)
    assert desk.ask(9) == errno.ENOTCONN


async def test_nobody_is_forgotten_when_all_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk()
    monkeypatch.setattr(libfuse, "between", desk.between)
    desk.requests.connect()
    desk.locking.at_once = False
    async with trio.open_nursery() as nursery:
        await nursery.start(desk.requests.run)
        assert desk.ask(1, wait=1) == LATER
        nursery.cancel_scope.cancel()
    assert desk.between.answers == {1: errno.ENOTCONN}
    assert desk.ask(2) == errno.ENOTCONN


def test_without_the_module_nothing_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libfuse, "between", None)
    requests = LockRequests(Locking(), 3)
    requests.connect()
    assert not requests.connected
    assert requests.flush_owner() == 0
    requests.note()
    requests.disconnect()


async def test_what_may_pass_is_waited_for(desk: Desk, autojump_clock: object) -> None:
    desk.locking.at_once = False
    desk.locking.free.set()
    desk.locking.later = VolumeBusy("the volume is busy")
    assert desk.ask(1, command=fcntl.F_SETLKW, wait=1) == LATER
    await trio.sleep(5.0)
    assert not desk.between.answers
    desk.locking.later = None
    await trio.sleep(2.0)
    assert desk.between.answers.pop(1) == 0
    assert desk.locking.tries > 4


async def test_what_may_pass_is_waited_for_as_long_as_was_said(
    desk: Desk, autojump_clock: object
) -> None:
    desk.locking.at_once = False
    desk.locking.free.set()
    desk.locking.later = VolumeBusy("the volume is busy")
    assert desk.ask(1, command=fcntl.F_SETLKW, wait=1) == LATER
    await trio.sleep(15.0)
    assert desk.between.answers.pop(1) == errno.EBUSY
