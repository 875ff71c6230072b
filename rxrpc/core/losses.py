"""Which packets of a peer are lost on the way to us, as far as that tells of a bad line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rxrpc.core.timers import NEVER

if TYPE_CHECKING:
    from rxrpc.core.rtt import RttEstimator

_SPAN = 512  # packets after which those before count half
_FEW = 32  # packets of which nothing is concluded
_TIME = 60.0  # seconds for which what was seen counts
_QUEUED, _JITTER = 2.0, 0.005  # times the least round trip, and seconds more: something queues


class Losses:
    """Counts packets that came, and those that were missing when later ones did."""

    __slots__ = ("_came", "_missed", "_missed_at")

    def __init__(self) -> None:
        self._came = 0.0
        self._missed = 0.0
        self._missed_at = -NEVER

    def count(self, came: int, missed: int, now: float) -> None:
        """So many came; so many more are missing than before, or fewer, that were only late."""
        self._came += came
        if missed:
            self._missed = max(self._missed + missed, 0.0)
            self._missed_at = now
        if self._came > _SPAN:
            self._came /= 2
            self._missed /= 2

    def seen(self, now: float) -> bool:
        """Whether any were lost lately."""
        return self._missed > 0 and now - self._missed_at <= _TIME

    def share(self, rtt: RttEstimator, now: float) -> float:
        """The share that is lost though nothing queues; 0 when nothing is, or something does.

        A queue that is full loses packets, too, but is seen in the round trip before.
        """
        if self._came < _FEW or not self.seen(now) or rtt.smoothed is None:
            return 0.0
        if rtt.smoothed > _QUEUED * rtt.minimum + _JITTER:
            return 0.0
        return self._missed / (self._came + self._missed)
