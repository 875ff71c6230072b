"""Work that several tasks want at the same time and that is done once."""

from collections.abc import Awaitable, Callable, Hashable
from functools import partial
from math import inf
from typing import Generic, NoReturn, TypeVar

import trio

from afsfuse.errors import AfsError

_REST, _REST_MOST = 3.0, 2.0  # times as long as a round took, and seconds

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class _Flight(Generic[V]):
    """One piece of work under way."""

    def __init__(self) -> None:
        self.done = trio.Event()
        self.outcome: Callable[[], V] | None = None  # None when done: its worker was cancelled


class Shared(Generic[K, V]):
    """Runs at most one piece of work for each key; whoever comes meanwhile waits for its outcome.

    The task that comes first does the work. If it is cancelled, one of those who wait takes over,
    so nobody suffers from the cancellation of another.
    """

    def __init__(self) -> None:
        self._flights: dict[K, _Flight[V]] = {}

    async def run(self, key: K, work: Callable[[], Awaitable[V]]) -> V:
        """The result of the work for this key, or the `AfsError` that it ended with."""
        while (flight := self._flights.get(key)) is not None:
            await flight.done.wait()
            if flight.outcome is not None:
                return flight.outcome()
        flight = self._flights[key] = _Flight()
        try:
            result = await work()
        except AfsError as exc:
            flight.outcome = _raiser(exc)
            raise
        else:
            flight.outcome = lambda: result
            return result
        finally:
            del self._flights[key]
            flight.done.set()


class Rounds(Generic[V]):
    """Work that looks at much, and that any user may ask for, in one round after the other.

    All who ask before a round begins share it, so that nobody is told of what was before he asked.
    Between two rounds there is some time, the more the longer they take.
    """

    def __init__(self, work: Callable[[], Awaitable[V]], pause: float) -> None:
        """`pause`: seconds between the beginnings of two rounds, at least."""
        self._work = work
        self._pause = pause
        self._turn = trio.Lock()
        self._asked = self._told = 0  # how often it was asked for, and for how many of these done
        self._next_at = -inf
        self._result: list[V] = []

    @property
    def idle(self) -> bool:
        """Whether nobody waits, and the next one would not have to."""
        return not self._turn.locked() and trio.current_time() >= self._next_at

    async def next(self) -> V:
        """The result of the next round."""
        self._asked += 1
        mine = self._asked
        async with self._turn:
            if mine > self._told:
                await trio.sleep_until(self._next_at)
                began, asked = trio.current_time(), self._asked
                self._next_at = began + self._pause
                self._result = [await self._work()]
                rest = min(_REST * (trio.current_time() - began), _REST_MOST)
                self._next_at = max(self._next_at, trio.current_time() + rest)
                self._told = asked
            (result,) = self._result
            if not self._turn.statistics().tasks_waiting:
                self._result.clear()  # what it holds is not to live for its sake
        return result


class RoundsOfEach(Generic[K, V]):
    """Such work for each of several things, which have their rounds apart."""

    def __init__(self, work: Callable[[K], Awaitable[V]], pause: float) -> None:
        """`pause`: as of `Rounds`."""
        self._work = work
        self._pause = pause
        self._rounds: dict[K, Rounds[V]] = {}

    async def next(self, key: K) -> V:
        """The result of the next round for this key."""
        rounds = self._rounds.get(key)
        if rounds is None:
            self._rounds = {key: one for key, one in self._rounds.items() if not one.idle}
            rounds = self._rounds[key] = Rounds(partial(self._work, key), self._pause)
        return await rounds.next()


def _raiser(error: AfsError) -> Callable[[], NoReturn]:
    def fail() -> NoReturn:
        raise error.again() from error

    return fail
