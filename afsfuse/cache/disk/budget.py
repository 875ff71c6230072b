"""The limit of the cache on disk, and who uses how much of it."""

from __future__ import annotations

import threading

SPARED = 16
"""This part of the limit is kept free for the journal."""
SLACK = 2 << 20
"""Bytes for what is not counted when it grows: folders, the index between two looks at it."""


class Budget:
    """Bytes of disk within a hard limit. Every byte is taken before it is written.

    Two threads take: the one that writes parts, and the event loop for its journal.
    """

    def __init__(self, limit: int, spare: int) -> None:
        """`spare` bytes are kept free for the journal as far as parts can make room for it."""
        self.limit = limit
        self.spare = spare
        self.parts = 0
        self.journal = 0
        self.index = 0
        self._lock = threading.Lock()

    @property
    def used(self) -> int:
        """Everything, without slack."""
        return self.parts + self.journal + self.index

    def excess(self, size: int) -> int:
        """How many bytes of parts must go before `size` more can come; not positive: none."""
        return self.used + SLACK + self.spare + size - self.limit

    def take_for_parts(self, size: int) -> bool:
        """Take so many bytes for parts; False if there is no room."""
        with self._lock:
            if self.excess(size) > 0:
                return False
            self.parts += size
            return True

    def free_parts(self, size: int) -> None:
        """Parts of so many bytes are gone."""
        with self._lock:
            self.parts -= size

    def take_for_journal(self, size: int) -> bool:
        """Take so many bytes for the journal; False if there is no room now."""
        with self._lock:
            if self.used + SLACK + size > self.limit:
                return False
            self.journal += size
            return True

    def free_journal(self, size: int) -> None:
        """The journal is so much shorter."""
        with self._lock:
            self.journal -= size
