import pytest
import trio

from afsfuse.cell.sharing import Rounds, RoundsOfEach, Shared
from afsfuse.errors import CellUnknown


class Work:
    """Work that takes a second and counts how often it is done."""

    def __init__(self, error: Exception | None = None) -> None:
        self.done = 0
        self._error = error

    async def __call__(self) -> int:
        await trio.sleep(1)
        self.done += 1
        if self._error is not None:
            raise self._error
        return self.done


async def test_those_who_come_together_share_one_result(autojump_clock: trio.abc.Clock) -> None:
    shared: Shared[str, int] = Shared()
    work = Work()
    results = []

    async def ask(key: str) -> None:
        results.append((key, await shared.run(key, work)))

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(ask, "a")
        nursery.start_soon(ask, "b")
    assert work.done == 2
    assert {key for key, _ in results} == {"a", "b"}
    assert await shared.run("a", work) == 3  # what is over is not shared any more


async def test_an_error_is_shared_and_each_gets_his_own(autojump_clock: trio.abc.Clock) -> None:
    shared: Shared[str, int] = Shared()
    work = Work(CellUnknown("no such cell", cell="a"))
    errors = []

    async def ask() -> None:
        with pytest.raises(CellUnknown, match="no such cell") as caught:
            await shared.run("a", work)
        errors.append(caught.value)

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(ask)
    assert work.done == 1
    assert len({id(error) for error in errors}) == 3


async def test_a_bug_stays_with_the_task_that_had_it(autojump_clock: trio.abc.Clock) -> None:
    shared: Shared[str, int] = Shared()
    outcomes = []

    async def ask(work: Work) -> None:
        try:
            outcomes.append(await shared.run("a", work))
        except KeyError:
            outcomes.append(-1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, Work(KeyError("bug")))
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(ask, Work())
    assert outcomes == [-1, 1]


async def test_another_takes_over_from_a_cancelled_worker(autojump_clock: trio.abc.Clock) -> None:
    shared: Shared[str, int] = Shared()
    work = Work()
    results = []

    async def ask(seconds: float) -> None:
        with trio.move_on_after(seconds):
            results.append(await shared.run("a", work))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, 0.5)
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(3):
            nursery.start_soon(ask, 60)
    assert results == [1, 1, 1]


async def test_a_round_is_for_all_who_asked_before_it(autojump_clock: trio.abc.Clock) -> None:
    work = Work()
    rounds = Rounds(work, pause=0.25)
    told: list[tuple[float, int]] = []

    async def ask(after: float) -> None:
        await trio.sleep(after)
        told.append((after, await rounds.next()))

    start = trio.current_time()
    async with trio.open_nursery() as nursery:
        for after in (0.0, 0.4, 0.5, 0.6, 3.5):
            nursery.start_soon(ask, after)
    assert told == [(0.0, 1), (0.4, 2), (0.5, 2), (0.6, 2), (3.5, 3)], "nobody is told of before"
    assert trio.current_time() - start == pytest.approx(3 * 1.0 + 2 * 2.0), "with rests"
    assert not rounds._result


async def test_a_round_that_fails_or_is_given_up_is_made_anew(
    autojump_clock: trio.abc.Clock,
) -> None:
    work = Work(CellUnknown("none"))
    rounds = Rounds(work, pause=0.25)
    with trio.move_on_after(0.5):
        await rounds.next()
    failed = 0

    async def ask() -> None:
        nonlocal failed
        try:
            await rounds.next()
        except CellUnknown:
            failed += 1

    async with trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(ask)
    assert (failed, work.done) == (2, 2)
    work._error = None
    assert await rounds.next() == 3


async def test_rounds_of_several_things_are_apart_and_forgotten(
    autojump_clock: trio.abc.Clock,
) -> None:
    done: list[int] = []

    async def work(key: int) -> int:
        done.append(key)
        await trio.lowlevel.checkpoint()
        return key

    rounds = RoundsOfEach(work, pause=5.0)
    began = trio.current_time()
    for key in range(10):
        assert await rounds.next(key) == key
    assert trio.current_time() == began
    assert await rounds.next(3) == 3
    assert trio.current_time() == began + 5.0
    assert done == [*range(10), 3]
    await trio.sleep(10)
    assert await rounds.next(99) == 99
    assert len(rounds._rounds) == 1
