"""What a daemon tells by and by, on its way to one reader.

Whoever tells must never wait for a reader. So there is a queue of bounded length between the two;
what does not fit is dropped, counted, and the count is told in its place.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import trio

QUEUED = 4096
"""Lines that may wait for a reader; one has some 300 bytes."""


class Outlet:
    """A queue with one reader."""

    def __init__(self, most: int = QUEUED) -> None:
        self._most = most
        self._lines: deque[dict[str, Any]] = deque()
        self._lost = 0
        self._closed = False
        self._news = trio.Event()
        self.dropped = 0
        """Lines that did not fit, over all."""

    def put(self, line: dict[str, Any]) -> None:
        """Tell something. Free of await, never raises."""
        if self._lost or len(self._lines) >= self._most:
            self._lost += 1
            self.dropped += 1
        else:
            self._lines.append(line)
        self._news.set()

    @property
    def waiting(self) -> int:
        """Lines that the reader has still to take."""
        return len(self._lines)

    def close(self) -> None:
        """There is no more to tell."""
        self._closed = True
        self._news.set()

    async def take(self) -> list[dict[str, Any]]:
        """Everything that waits, as soon as something does; nothing at the end."""
        while not (self._lines or self._lost or self._closed):
            self._news = trio.Event()
            await self._news.wait()
        lines = list(self._lines)
        self._lines.clear()
        if self._lost:
            lines.append({"dropped": self._lost})
            self._lost = 0
        return lines
