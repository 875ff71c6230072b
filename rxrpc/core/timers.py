"""Timers for many objects, re-armed lazily.

Nearly every timer here only ever moves later: each packet pushes a timeout away. So an object is
queued under the earliest time at which it may have something to do; when that time comes it says
when it really has. A packet that moves a timer later costs nothing.
"""

from __future__ import annotations

import heapq
import math
from typing import Protocol

NEVER = math.inf
_MOST_DOUBLINGS = 30  # a float holds 1024, and whoever repeats may repeat for ever
_SWEEP_AT = 64  # a call that is over takes some 9 KB, in pieces that others come to lie between
_RETIRED = -math.inf  # no time is earlier, so `arm` changes nothing any more


def doubled(delay: float, times: int) -> float:
    """A delay that has become twice as long so many times."""
    return delay * 2.0 ** min(times, _MOST_DOUBLINGS)


class Timed(Protocol):
    """Something with timers."""

    armed: float
    """The time under which it is queued, `NEVER` when it is not. Only `Timers` changes it."""

    def next_timer(self) -> float:
        """When it next has something to do."""
        ...

    def on_timer(self, now: float) -> None:
        """Do what is due; afterwards `next_timer` is later than ``now``."""
        ...


class Timers:
    """The queue."""

    def __init__(self, granularity: float) -> None:
        """``granularity``: the least time between two turns of one object, in seconds."""
        self.granularity = granularity
        self.overdue = 0  # turns that left something due behind, each a mistake of the item's
        self._heap: list[tuple[float, int, Timed]] = []
        self._count = 0
        self._limit = _SWEEP_AT  # entries at which outdated ones are looked for

    def arm(self, item: Timed, when: float) -> None:
        """See to it that ``item`` is asked at ``when``, or earlier if that was so already."""
        if when < item.armed:
            item.armed = when
            self._count += 1
            heapq.heappush(self._heap, (when, self._count, item))
            if len(self._heap) > self._limit:
                self._sweep()

    def _sweep(self) -> None:
        """Drop outdated entries.

        Each goes by itself when its time comes, but that of a connection is minutes away: whoever
        opens and leaves connections fast would have all of them kept until then. That of a call is
        nearer, but there are many more calls.
        """
        self._heap[:] = [entry for entry in self._heap if entry[0] == entry[2].armed]
        heapq.heapify(self._heap)
        self._limit = max(_SWEEP_AT, 2 * len(self._heap))

    def update(self, item: Timed) -> None:
        """`arm` it for its next timer."""
        self.arm(item, item.next_timer())

    def retire(self, item: Timed) -> None:
        """Never ask ``item`` again: it is no more."""
        item.armed = _RETIRED

    def deadline(self) -> float:
        """When `run` is next needed; it may turn out that nothing is due then."""
        heap = self._heap
        while heap and heap[0][0] != heap[0][2].armed:
            heapq.heappop(heap)
        return heap[0][0] if heap else NEVER

    def run(self, now: float) -> None:
        """Give everything that is due its turn. Afterwards `deadline` is later than ``now``."""
        while self.deadline() <= now:
            item = heapq.heappop(self._heap)[2]
            item.armed = NEVER
            if item.next_timer() <= now:
                item.on_timer(now)
            if item.armed == _RETIRED:
                continue
            due = item.next_timer()
            self.overdue += due <= now
            if due < NEVER:
                self.arm(item, max(due, now + self.granularity))

    def __len__(self) -> int:
        """Entries in the queue, outdated ones with them."""
        return len(self._heap)
