"""Work that several tasks want at the same time and that is done once."""

from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, NoReturn, TypeVar

import trio

from afsfuse.errors import AfsError

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


def _raiser(error: AfsError) -> Callable[[], NoReturn]:
    def fail() -> NoReturn:
        raise error.again() from error

    return fail
