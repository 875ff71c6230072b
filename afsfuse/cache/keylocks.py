"""One lock for each key, there for as long as somebody holds it or waits for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

import trio

if TYPE_CHECKING:
    from collections.abc import Sequence

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

    def holding(self, *keys: K) -> Holding[K]:
        """`async with` this: hold the locks of all keys, which must be different and in one order
        everywhere.
        """
        return Holding(self, keys)

    async def acquire(self, key: K) -> None:
        """Wait for a key, and hold it."""
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

    def release(self, key: K) -> None:
        """Let go of a key that was acquired."""
        self._queues[key].lock.release()
        self._leave(key)

    def _leave(self, key: K) -> None:
        queue = self._queues[key]
        queue.users -= 1
        if not queue.users:
            del self._queues[key]


class Holding(Generic[K]):
    """Some keys, held for the time of a block. No generator: it is in the way of every change."""

    __slots__ = ("_held", "_keys", "_locks")

    def __init__(self, locks: KeyLocks[K], keys: Sequence[K]) -> None:
        self._locks = locks
        self._keys = keys
        self._held: list[K] = []

    async def __aenter__(self) -> None:
        try:
            for key in self._keys:
                await self._locks.acquire(key)
                self._held.append(key)
        except BaseException:
            self._release()
            raise

    async def __aexit__(self, *_: object) -> None:
        self._release()

    def _release(self) -> None:
        for key in self._held:
            self._locks.release(key)
        self._held.clear()
