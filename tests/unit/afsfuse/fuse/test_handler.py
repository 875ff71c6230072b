"""The error border, without a kernel."""

from __future__ import annotations

import errno
import math
from typing import TYPE_CHECKING

import pyfuse3
import pytest
import trio

from afsfuse.errors import (
    AfsError,
    CellUnreachable,
    NotPermitted,
    OutcomeUnknown,
    ServerUnreachable,
    VolumeBusy,
    VolumeOffline,
)
from afsfuse.fuse.handler import asking_first, handler, quiet
from afsfuse.fuse.interrupts import Interrupts
from afsfuse.fuse.requestlog import RequestLog, Requests
from afsfuse.fuse.workers import Gate

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import ExpectedWarnings


class Desk:
    """Two guarded handlers that do what they are told."""

    def __init__(self, most: int = 10, retry: float = 0.0) -> None:
        self.interrupts = Interrupts(most=most, retry=retry)
        self.requests: Requests = RequestLog()
        self.gate = Gate(spare=8)
        self.waited = 0

    def user_of(self, arguments: tuple[object, ...]) -> int:
        return 1000

    @handler
    async def lookup(self, action: Callable[[], object]) -> object:
        await trio.lowlevel.checkpoint()
        return action()

    @handler
    async def wait(self) -> None:
        await trio.sleep_forever()

    def _known(self, action: Callable[[], object]) -> object | None:
        assert len(self.interrupts) == 0, "nobody watches"
        return action()

    @asking_first(_known)
    @handler
    async def read(self, action: Callable[[], object]) -> object:
        self.waited += 1
        await trio.lowlevel.checkpoint()
        return "fetched"

    @quiet
    async def forget(self, action: Callable[[], object]) -> None:
        action()


def raising(exc: BaseException) -> Callable[[], object]:
    def action() -> object:
        raise exc

    return action


async def test_an_answer_passes() -> None:
    desk = Desk()
    assert await desk.lookup(lambda: "answer") == "answer"
    assert len(desk.interrupts) == 0


@pytest.mark.parametrize(
    ("error", "number"),
    [
        (pyfuse3.FUSEError(errno.ENOSYS), errno.ENOSYS),
        (NotPermitted("no"), errno.EACCES),
        (AfsError("other", errno=errno.ESTALE), errno.ESTALE),
    ],
)
async def test_known_errors_become_their_errno(error: Exception, number: int) -> None:
    desk = Desk()
    with pytest.raises(pyfuse3.FUSEError) as caught:
        await desk.lookup(raising(error))
    assert caught.value.errno == number
    assert len(desk.interrupts) == 0


@pytest.mark.parametrize(
    "error",
    [
        KeyError("x"),
        OSError(errno.ENOSPC, "no space"),
        TypeError("x"),
        RecursionError(),
        MemoryError(),
        ExceptionGroup("several", [ValueError(), KeyError()]),
    ],
)
async def test_a_bug_is_eio_and_leaves_a_traceback(
    error: Exception, caplog: pytest.LogCaptureFixture, expected_warnings: ExpectedWarnings
) -> None:
    expected_warnings("lookup failed: a bug")
    with pytest.raises(pyfuse3.FUSEError) as caught:
        await Desk().lookup(raising(error))
    assert caught.value.errno == errno.EIO
    (record,) = caplog.records
    assert record.exc_info is not None
    assert record.exc_info[1] is error


async def test_what_is_known_needs_no_waiting() -> None:
    desk = Desk(most=0)
    assert await desk.read(lambda: b"") == b"", "an empty answer is one"
    assert desk.waited == 0


async def test_what_is_not_known_is_waited_for() -> None:
    desk = Desk()
    assert await desk.read(lambda: None) == "fetched"
    assert desk.waited == 1


@pytest.mark.parametrize(
    ("error", "number"),
    [
        (pyfuse3.FUSEError(errno.ENOSYS), errno.ENOSYS),
        (AfsError("other", errno=errno.ESTALE), errno.ESTALE),
        (KeyError("x"), errno.EIO),
    ],
)
async def test_errors_of_what_is_asked_first(
    error: Exception, number: int, expected_warnings: ExpectedWarnings
) -> None:
    if number == errno.EIO:
        expected_warnings("read failed: a bug")
    desk = Desk()
    with pytest.raises(pyfuse3.FUSEError) as caught:
        await desk.read(raising(error))
    assert caught.value.errno == number
    assert desk.waited == 0


async def test_a_cancellation_of_the_mount_passes() -> None:
    desk = Desk()
    with trio.CancelScope() as scope:
        scope.cancel()
        await desk.lookup(lambda: None)
    assert scope.cancelled_caught
    assert len(desk.interrupts) == 0


class Outage:
    """A server that is away for a while: how often it was asked, and what it says."""

    def __init__(self, back_at: float, error: AfsError) -> None:
        self.back_at = back_at
        self.error = error
        self.asked = 0

    def __call__(self) -> object:
        self.asked += 1
        if trio.current_time() < self.back_at:
            raise self.error.again()
        return "answer"


PASSING = [
    CellUnreachable("no server"),
    ServerUnreachable("silent"),
    VolumeBusy("busy"),
    VolumeOffline("off line"),
]


@pytest.mark.parametrize("error", PASSING, ids=lambda error: type(error).__name__)
async def test_a_hard_mount_waits_until_servers_are_back(
    error: AfsError, autojump_clock: trio.testing.MockClock
) -> None:
    desk = Desk(retry=math.inf)
    outage = Outage(trio.current_time() + 86400, error)
    assert await desk.lookup(outage) == "answer"
    assert 86000 < outage.asked < 87000
    assert desk.interrupts.timeout == math.inf


@pytest.mark.parametrize("error", PASSING, ids=lambda error: type(error).__name__)
async def test_a_soft_mount_gives_up_after_its_time(
    error: AfsError, autojump_clock: trio.testing.MockClock
) -> None:
    for retry, least, most in ((0.0, 1, 1), (5.0, 5, 7), (300.0, 299, 302)):
        desk = Desk(retry=retry)
        outage = Outage(math.inf, error)
        with pytest.raises(pyfuse3.FUSEError) as caught:
            await desk.lookup(outage)
        assert caught.value.errno == error.errno
        assert least <= outage.asked <= most
        assert desk.interrupts.timeout >= retry


@pytest.mark.parametrize(
    "error", [OutcomeUnknown("was it done?"), NotPermitted("no"), AfsError("full", errno=28)]
)
async def test_what_will_not_pass_is_not_waited_for(error: AfsError) -> None:
    desk = Desk(retry=math.inf)
    outage = Outage(math.inf, error)
    with pytest.raises(pyfuse3.FUSEError):
        await desk.lookup(outage)
    assert outage.asked == 1


async def test_a_signal_ends_the_wait_of_a_hard_mount(
    autojump_clock: trio.testing.MockClock,
) -> None:
    desk = Desk(retry=math.inf)
    numbers: list[int] = []

    async def ask() -> None:
        with pytest.raises(pyfuse3.FUSEError) as caught:
            await desk.lookup(Outage(math.inf, ServerUnreachable("silent")))
        numbers.append(caught.value.errno)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await trio.sleep(1000.5)
        assert not numbers
        desk.interrupts.close(errno.EINTR)
        await trio.sleep(0.1)
        assert numbers == [errno.EINTR]


async def test_an_interrupted_wait_ends_with_its_errno(nursery: trio.Nursery) -> None:
    desk = Desk()

    async def ask() -> None:
        with pytest.raises(pyfuse3.FUSEError) as caught:
            await desk.wait()
        numbers.append(caught.value.errno)

    numbers: list[int] = []
    nursery.start_soon(ask)
    await trio.testing.wait_all_tasks_blocked()
    desk.interrupts.close(errno.EINTR)
    await trio.testing.wait_all_tasks_blocked()
    assert numbers == [errno.EINTR]


async def test_too_many_waits_are_refused(
    nursery: trio.Nursery, expected_warnings: ExpectedWarnings
) -> None:
    expected_warnings("1 requests wait: lookup of uid 1000 is refused")
    desk = Desk(most=1)
    nursery.start_soon(desk.wait)
    await trio.testing.wait_all_tasks_blocked()
    with pytest.raises(pyfuse3.FUSEError) as caught:
        await desk.lookup(lambda: None)
    assert caught.value.errno == errno.EAGAIN
    nursery.cancel_scope.cancel()


async def test_quiet_handlers_raise_nothing(
    caplog: pytest.LogCaptureFixture, expected_warnings: ExpectedWarnings
) -> None:
    expected_warnings("forget failed: a bug")
    desk = Desk()
    await desk.forget(lambda: None)
    assert not caplog.records
    await desk.forget(raising(KeyError("x")))
    assert len(caplog.records) == 1
