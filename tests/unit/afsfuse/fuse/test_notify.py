"""Invalidations in threads: order, coalescing, and one stuck inode that holds up nobody."""

from __future__ import annotations

import errno
import threading
import time
from typing import TYPE_CHECKING

import pytest
import trio

from afsfuse.fuse.notify import KernelNotifier

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import ExpectedWarnings


class FakeKernel:
    """Takes invalidations; those of some inodes hang until they are let go."""

    def __init__(self) -> None:
        self.seen: list[tuple[object, ...]] = []
        self.threads: set[int] = set()
        self.gates: dict[int, threading.Event] = {}
        self.errors: dict[int, Exception] = {}
        self.entered = threading.Semaphore(0)

    def _take(self, inode: int, what: tuple[object, ...]) -> None:
        self.threads.add(threading.get_ident())
        if (gate := self.gates.get(inode)) is not None:
            self.entered.release()
            assert gate.wait(30)
        self.seen.append(what)
        if (error := self.errors.get(inode)) is not None:
            raise error

    def invalidate_inode(self, inode: int, attr_only: bool = False) -> None:
        self._take(inode, ("attributes" if attr_only else "data", inode))

    def invalidate_entry(self, inode_p: int, name: bytes) -> None:
        self._take(inode_p, ("name", inode_p, name))

    def hold(self, inode: int) -> threading.Event:
        gate = self.gates[inode] = threading.Event()
        return gate


@pytest.fixture
def kernel() -> Iterator[FakeKernel]:
    fake = FakeKernel()
    yield fake
    for gate in fake.gates.values():
        gate.set()


@pytest.fixture
def notifier(kernel: FakeKernel) -> Iterator[KernelNotifier]:
    made = KernelNotifier(kernel, max_threads=4, most_threads=4, idle_seconds=0.05)
    yield made
    for gate in kernel.gates.values():
        gate.set()
    assert made.close(30)


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


async def test_nothing_runs_in_the_thread_of_the_event_loop(
    notifier: KernelNotifier, kernel: FakeKernel
) -> None:
    notifier.invalidate_attributes(7)
    notifier.invalidate_data(8)
    notifier.invalidate_name(9, b"name")
    assert await notifier.settled(None, 30)
    assert set(kernel.seen) == {("attributes", 7), ("data", 8), ("name", 9, b"name")}
    assert threading.get_ident() not in kernel.threads


async def test_what_is_asked_twice_is_done_once(
    notifier: KernelNotifier, kernel: FakeKernel
) -> None:
    gate = kernel.hold(7)
    notifier.invalidate_attributes(7)
    await trio.to_thread.run_sync(kernel.entered.acquire)
    for _ in range(1000):  # all of it waits for the first one
        notifier.invalidate_attributes(7)
        notifier.invalidate_data(7)
        notifier.invalidate_name(7, b"a")
        notifier.invalidate_name(7, b"b")
    assert notifier.pending() == 1
    gate.set()
    assert await notifier.settled([7], 30)
    assert kernel.seen == [
        ("attributes", 7),
        ("data", 7),
        ("name", 7, b"a"),
        ("name", 7, b"b"),
    ]


async def test_a_stuck_inode_holds_up_nobody(notifier: KernelNotifier, kernel: FakeKernel) -> None:
    for inode in (1, 2, 3):
        kernel.hold(inode)
        notifier.invalidate_data(inode)
    for inode in range(10, 200):
        notifier.invalidate_data(inode)
        notifier.invalidate_name(inode, b"name")
    assert await notifier.settled(range(10, 200), 30)
    assert not await notifier.settled([1], 0.02)
    assert not await notifier.settled(None, 0.02)
    assert notifier.pending() == 3
    kernel.gates[2].set()
    assert await notifier.settled([2, 10], 30)


async def test_threads_are_bounded(notifier: KernelNotifier, kernel: FakeKernel) -> None:
    before = threading.active_count()
    for inode in range(20):
        kernel.hold(inode)
        notifier.invalidate_data(inode)
    for _ in range(4):
        await trio.to_thread.run_sync(kernel.entered.acquire)
    assert threading.active_count() - before <= 4 + 1  # and trio's own
    assert notifier.pending() == 20
    for gate in kernel.gates.values():
        gate.set()
    assert await notifier.settled(None, 30)
    assert len(kernel.seen) == 20


async def test_many_stuck_inodes_hold_up_nobody(kernel: FakeKernel) -> None:
    notifier = KernelNotifier(
        kernel, max_threads=2, most_threads=6, stuck_seconds=0.01, idle_seconds=0.05
    )
    for inode in range(5):
        kernel.hold(inode)
        notifier.invalidate_data(inode)
    notifier.invalidate_data(10)
    assert await notifier.settled([10], 30)
    for inode in range(20, 30):
        kernel.hold(inode)
        notifier.invalidate_data(inode)
    for _ in range(6):
        await trio.to_thread.run_sync(kernel.entered.acquire)
    await trio.sleep(0.1)
    assert not kernel.entered.acquire(blocking=False), "there is a bound"
    for gate in kernel.gates.values():
        gate.set()
    assert await notifier.settled(None, 30)
    assert len(kernel.seen) == 16
    wait_until(lambda: not notifier._threads)
    assert notifier.close(30)


async def test_threads_end_when_there_is_nothing_to_do(
    notifier: KernelNotifier, kernel: FakeKernel
) -> None:
    def workers() -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if thread.name == "afsfuse-notify"]

    notifier.invalidate_data(1)
    assert await notifier.settled(None, 30)
    wait_until(lambda: not workers())
    notifier.invalidate_data(2)
    assert await notifier.settled(None, 30)
    assert len(kernel.seen) == 2


async def test_with_nothing_to_do_all_is_settled(notifier: KernelNotifier) -> None:
    assert await notifier.settled(None, 0)
    assert await notifier.settled([1, 2, 3], 0)


@pytest.mark.parametrize("number", [errno.ENOENT, errno.ENOTCONN, errno.ENODEV])
async def test_what_the_kernel_does_not_know_is_no_error(
    notifier: KernelNotifier, kernel: FakeKernel, number: int
) -> None:
    kernel.errors[7] = OSError(number, "unknown")
    notifier.invalidate_data(7)
    assert await notifier.settled(None, 30)


@pytest.mark.parametrize("error", [OSError(errno.EINVAL, "what"), KeyError("bug")])
async def test_errors_are_logged_and_the_rest_goes_on(
    notifier: KernelNotifier,
    kernel: FakeKernel,
    error: Exception,
    caplog: pytest.LogCaptureFixture,
    expected_warnings: ExpectedWarnings,
) -> None:
    expected_warnings("invalidation")
    kernel.errors[7] = error
    notifier.invalidate_data(7)
    notifier.invalidate_name(7, b"name")
    assert await notifier.settled(None, 30)
    assert len(caplog.records) == 2
    assert len(kernel.seen) == 2


def test_closing_forgets_what_is_queued(kernel: FakeKernel) -> None:
    notifier = KernelNotifier(kernel, max_threads=1, idle_seconds=0.05)
    gate = kernel.hold(1)
    notifier.invalidate_name(1, b"first")
    notifier.invalidate_name(1, b"second")
    kernel.entered.acquire()
    notifier.invalidate_data(2)
    assert not notifier.close(0.01)
    gate.set()
    assert notifier.close(30)
    notifier.invalidate_data(3)
    assert notifier.pending() == 0
    assert ("data", 2) not in kernel.seen
    assert ("data", 3) not in kernel.seen


def test_the_loop_may_end_before_the_invalidation(
    notifier: KernelNotifier, kernel: FakeKernel
) -> None:
    gate = kernel.hold(1)

    async def ask() -> bool:
        notifier.invalidate_data(1)
        return await notifier.settled([1], 0.01)

    assert not trio.run(ask)
    gate.set()
    wait_until(lambda: kernel.seen)


async def test_where_no_thread_can_be_made_it_is_done_later(
    kernel: FakeKernel,
    notifier: KernelNotifier,
    monkeypatch: pytest.MonkeyPatch,
    expected_warnings: ExpectedWarnings,
) -> None:
    """A user's limit of processes counts threads; nobody who only queues may fail by that."""
    expected_warnings("may be out of date for longer: can't start new thread")

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        for inode in range(100):
            notifier.invalidate_attributes(inode)
    assert kernel.seen == []
    notifier.invalidate_attributes(0)  # is queued already
    assert await notifier.settled(None, 30)
    assert {inode for _, inode in kernel.seen} == set(range(100))
