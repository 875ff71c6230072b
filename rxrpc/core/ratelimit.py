"""A bound on how often something is done."""

from __future__ import annotations


class RateLimit:
    """A bucket that fills with ``per_second`` tokens a second and holds as many."""

    __slots__ = ("_at", "_rate", "_tokens")

    def __init__(self, per_second: int) -> None:
        self._rate = float(per_second)
        self._tokens = self._rate
        self._at: float | None = None

    def allow(self, now: float, tokens: int = 1) -> bool:
        """Take so many tokens, if they are there; else none."""
        if self._at is not None:
            self._tokens = min(self._rate, self._tokens + (now - self._at) * self._rate)
        self._at = now
        if self._tokens < tokens:
            return False
        self._tokens -= tokens
        return True
