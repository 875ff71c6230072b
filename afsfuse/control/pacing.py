"""How much of the event loop's time each user takes by what he asks over the control socket.

All users of a mount share the loop, and what is told of a mount with a hundred thousand files takes
it for tens of milliseconds. So what the requests of a user take is measured, step by step, and who
has taken more than a little waits before the next one: in the long run he has a fifth of the loop.
Nobody else waits for that, and who owns the daemon never does.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import trio

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator

T = TypeVar("T")

FREE = 0.1
"""Seconds of the loop that a user may take at once."""
REST = 5.0
"""Seconds until one more second is his."""
_USERS_KEPT = 1024


class _User:
    """What one user has taken."""

    __slots__ = ("at", "taken", "turn")

    def __init__(self) -> None:
        self.taken = 0.0  # and has not waited for, at `at`
        self.at = trio.current_time()
        self.turn = trio.Lock()

    def count(self) -> float:
        now = trio.current_time()
        self.taken = max(0.0, self.taken - (now - self.at) / REST)
        self.at = now
        return self.taken


class Pace:
    """Measures, and makes wait."""

    def __init__(self, clock: Callable[[], float] = time.thread_time) -> None:
        """`clock`: by which steps are measured, in seconds; not while others use the processor."""
        self._clock = clock
        self._users: dict[int, _User] = {}

    async def turn(self, uid: int) -> None:
        """Return when a user's next request may be looked at. They come one by one."""
        user = self._users.get(uid)
        if user is None:
            return
        async with user.turn:
            more = user.count() - FREE
            while more > 0:  # others of his requests go on meanwhile, and may take more
                await trio.sleep(more * REST + 1e-3)
                more = user.count() - FREE

    async def measured(self, uid: int, work: Coroutine[Any, Any, T]) -> T:
        """Do some work, whose steps count as this user's; not what it has other tasks do."""
        user = self._users.get(uid)
        if user is None:
            if len(self._users) >= _USERS_KEPT:
                self._forget()
            user = self._users[uid] = _User()
        return await _Measured(user, work, self._clock)

    def _forget(self) -> None:
        """Those of whom nothing counts any more."""
        self._users = {
            uid: user for uid, user in self._users.items() if user.count() or user.turn.locked()
        }


class _Measured(Generic[T]):
    """A coroutine, whose steps are timed."""

    def __init__(
        self, user: _User, work: Coroutine[Any, Any, T], clock: Callable[[], float]
    ) -> None:
        self._user = user
        self._work = work
        self._clock = clock

    def __await__(self) -> Generator[Any, Any, T]:
        step: Callable[[Any], Any] = self._work.send
        given: Any = None
        try:
            while True:
                began = self._clock()
                try:
                    told = step(given)
                except StopIteration as end:
                    result: T = end.value
                    return result
                finally:
                    self._user.count()  # what it had until now is no credit
                    self._user.taken += self._clock() - began
                try:
                    given, step = (yield told), self._work.send
                except BaseException as exc:  # such as a cancellation: it is the work's
                    given, step = exc, self._work.throw
        finally:
            self._work.close()
