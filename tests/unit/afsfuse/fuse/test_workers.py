"""Who waits for the next request."""

import os
from collections.abc import Iterator

import pyfuse3
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from afsfuse.fuse import workers
from afsfuse.fuse.workers import Answer, Gate, Loop


class Workers:
    """Tasks that do what pyfuse3's session loop does, over a gate."""

    def __init__(self, spare: int = 8) -> None:
        self.gate = Gate(spare)
        self.requests: list[trio.Event | None] = []
        self.arrived = trio.Event()
        self.served: list[int] = []

    def request(self, slow: trio.Event | None = None) -> None:
        self.requests.append(slow)
        self.arrived.set()

    async def run(self, number: int) -> None:
        while True:
            async with self.gate:
                await self.arrived.wait()
            slow = self.requests.pop(0)
            if not self.requests:
                self.arrived = trio.Event()
            await Answer(self.gate, self._serve(slow))
            self.served.append(number)

    async def _serve(self, slow: trio.Event | None) -> None:
        if slow is not None:
            await slow.wait()


async def test_one_worker_answers_what_needs_no_waiting(nursery: trio.Nursery) -> None:
    crew = Workers()
    for number in range(4):
        nursery.start_soon(crew.run, number)
    await wait_all_tasks_blocked()
    for _ in range(5):
        crew.request()
        await wait_all_tasks_blocked()
    assert len(crew.served) == 5
    assert len(set(crew.served)) == 1


async def test_another_takes_over_while_one_waits(nursery: trio.Nursery) -> None:
    crew = Workers()
    for number in range(3):
        nursery.start_soon(crew.run, number)
    await wait_all_tasks_blocked()
    slow = trio.Event()
    crew.request(slow)
    await wait_all_tasks_blocked()
    crew.request()
    await wait_all_tasks_blocked()
    assert len(crew.served) == 1
    slow.set()
    await wait_all_tasks_blocked()
    assert len(set(crew.served)) == 2
    crew.request()
    await wait_all_tasks_blocked()
    assert len(crew.served) == 3


async def test_all_waiting_workers_leave_the_gate_free(nursery: trio.Nursery) -> None:
    crew = Workers()
    for number in range(2):
        nursery.start_soon(crew.run, number)
    await wait_all_tasks_blocked()
    slow = trio.Event()
    for _ in range(2):
        crew.request(slow)
        await wait_all_tasks_blocked()
    nursery.start_soon(crew.run, 9)
    await wait_all_tasks_blocked()
    crew.request()
    await wait_all_tasks_blocked()
    assert crew.served == [9]


async def test_a_superfluous_worker_hands_over_before_it_ends(nursery: trio.Nursery) -> None:
    """pyfuse3 ends a worker that comes back and finds more than `spare` idle."""
    crew = Workers(spare=1)
    for number in range(3):
        nursery.start_soon(crew.run, number)
    await wait_all_tasks_blocked()
    crew.request()
    await wait_all_tasks_blocked()
    crew.request()
    await wait_all_tasks_blocked()
    assert len(set(crew.served)) == 2


async def test_a_closed_gate_wakes_one_after_the_other(autojump_clock: MockClock) -> None:
    gate = Gate(8)
    through = []

    async def worker(number: int) -> None:
        async with gate:
            through.append(number)

    async with trio.open_nursery() as nursery:
        async with gate:
            for number in range(4):
                nursery.start_soon(worker, number)
            await wait_all_tasks_blocked()
        await wait_all_tasks_blocked()
        assert through == []  # a worker that has answered would come back now
        gate.close()
    assert sorted(through) == [0, 1, 2, 3]


async def test_a_cancelled_worker_leaves_the_gate_to_others(nursery: trio.Nursery) -> None:
    gate = Gate(8)
    with trio.CancelScope() as scope:
        async with gate:
            scope.cancel()
            await trio.sleep_forever()
    async with gate:
        pass


async def test_answers_errors_and_cancellation_pass_through(autojump_clock: MockClock) -> None:
    gate = Gate(8)

    async def at_once() -> int:
        return 1

    async def later() -> int:
        for _ in range(3):
            await trio.sleep(1)
        return 2

    async def fails() -> int:
        await trio.sleep(1)
        raise ValueError("later")

    async def catches() -> str:
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            return "cancelled"

    assert await Answer(gate, at_once()) == 1
    assert await Answer(gate, later()) == 2
    with pytest.raises(ValueError, match="later"):
        await Answer(gate, fails())
    with trio.move_on_after(1):
        assert await Answer(gate, catches()) == "cancelled"


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


async def test_waiting_for_the_device(pipe: tuple[int, int], nursery: trio.Nursery) -> None:
    loop = Loop(Gate(8))
    device, other = pipe
    os.write(other, b"x")
    for _ in range(50):  # always readable: other tasks get their turn all the same
        await loop.wait_readable(device)
    os.read(device, 1)
    ready = trio.Event()

    async def wait() -> None:
        await loop.wait_readable(device)
        ready.set()

    nursery.start_soon(wait)
    await wait_all_tasks_blocked()
    assert not ready.is_set()
    os.write(other, b"x")
    await ready.wait()


def test_pyfuse3_gets_its_trio_back() -> None:
    gate = Gate(8)
    workers.install(gate)
    try:
        loop = vars(pyfuse3)["trio"]
        assert loop.Lock() is gate
        assert loop.open_nursery is trio.open_nursery
        assert loop.lowlevel.current_task is trio.lowlevel.current_task
    finally:
        workers.uninstall()
    assert vars(pyfuse3)["trio"] is trio
