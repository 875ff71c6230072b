"""Under which numbers the index keeps volumes: what it does not say yet, and what was asked last.

The index has a row of every volume that was ever seen. Of those that nobody uses any more nothing
is kept here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

_RECENT = 256  # volumes whose rows are not read again


class Instance(NamedTuple):
    """One of the volumes that have followed each other under a cell's number."""

    number: int
    created: int  # as its server says


class Instances:
    """The newest instance of each volume. Used by the event loop, but for `settled`."""

    def __init__(self, ask: Callable[[str, int], tuple[int, int] | None]) -> None:
        """`ask`: what the index says of a cell's volume."""
        self._ask = ask
        self._pending: dict[tuple[str, int], Instance] = {}  # not in the index for good yet
        self._recent: dict[tuple[str, int], Instance] = {}

    def __len__(self) -> int:
        """How many are in memory."""
        return len(self._pending) + len(self._recent)

    def find(self, cell: str, volume: int) -> Instance | None:
        """The instance that is known of a volume. Raises what the index does."""
        where = (cell, volume)
        known = self._pending.get(where) or self._recent.get(where)
        if known is None:
            row = self._ask(cell, volume)
            if row is not None:
                known = Instance(*row)
                self._remember(where, known)
        return known

    def enter(self, cell: str, volume: int, instance: Instance) -> None:
        """From now on a volume is another one, or has another time of creation."""
        self._recent.pop((cell, volume), None)
        self._pending[cell, volume] = instance

    def settled(self, cell: str, volume: int, instance: Instance) -> None:
        """The index says so now. In the thread that writes."""
        if self._pending.get((cell, volume)) is instance:
            del self._pending[cell, volume]

    def compact(self) -> None:
        """Keep only what the index does not say yet."""
        self._recent = {}

    def _remember(self, where: tuple[str, int], instance: Instance) -> None:
        if len(self._recent) >= _RECENT:
            self._recent.clear()
        self._recent[where] = instance
