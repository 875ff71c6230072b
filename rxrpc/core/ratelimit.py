"""A bound on how often something is done."""

from __future__ import annotations


class RateLimit:
    """A bucket that fills with ``per_second`` tokens a second and holds as many."""

    __slots__ = ("_at", "_tokens", "per_second")

    def __init__(self, per_second: int) -> None:
        self.per_second = per_second  # may be changed at any time
        self._tokens = float(per_second)
        self._at: float | None = None

    def allow(self, now: float, tokens: int = 1) -> bool:
        """Take so many tokens, if they are there; else none."""
        passed = 0.0 if self._at is None else now - self._at
        self._tokens = min(self.per_second, self._tokens + passed * self.per_second)
        self._at = now
        if self._tokens < tokens:
            return False
        self._tokens -= tokens
        return True
