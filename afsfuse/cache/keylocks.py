"""One lock for each key, there for as long as somebody holds it or waits for it."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Generic, TypeVar

import trio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

K = TypeVar("K")


class _Queue:
    """A lock, and how many have to do with it."""

    __slots__ = ("lock", "users")

    def __init__(self) -> None:
        self.lock = trio.Lock()
        self.users = 0


class KeyLocks(Generic[K]):
    """Locks by key. Whoever is first waits for nobody, not even for the scheduler."""

    def __init__(self) -> None:
        self._queues: dict[K, _Queue] = {}

    def __len__(self) -> int:
        """Keys that are locked."""
        return len(self._queues)

    @asynccontextmanager
    async def holding(self, *keys: K) -> AsyncIterator[None]:
        """Hold the locks of all keys, which must be different and in one order everywhere."""
        held: list[K] = []
        try:
            for key in keys:
                await self._acquire(key)
                held.append(key)
            yield
        finally:
            for key in held:
                self._queues[key].lock.release()
                self._leave(key)

    async def _acquire(self, key: K) -> None:
        queue = self._queues.get(key)
        if queue is None:
            queue = self._queues[key] = _Queue()
        queue.users += 1
        if not queue.lock.locked():
            queue.lock.acquire_nowait()
            return
        try:
            await queue.lock.acquire()
        except BaseException:
            self._leave(key)
            raise

    def _leave(self, key: K) -> None:
        queue = self._queues[key]
        queue.users -= 1
        if not queue.users:
            del self._queues[key]
