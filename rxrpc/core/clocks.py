"""How long a call may take, and when to ask its peer for a sign of life."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rxrpc.core.timers import NEVER

if TYPE_CHECKING:
    from rxrpc.core.parameters import Parameters


@dataclass(frozen=True, slots=True)
class CallTimeouts:
    """How long a call may take, in seconds. None: what the endpoint's parameters say."""

    dead: float | None = None
    """The peer sends not one packet, although pings ask for one."""

    idle: float | None = None
    """The peer lives, but the call makes no progress."""

    hard: float | None = None
    """The whole call."""


class Clocks:
    """The clocks of one call. ``heard`` is always when its peer last sent something sensible."""

    __slots__ = ("_idle_time", "_ping_interval", "dead_time", "hard_at", "pinged")

    def __init__(self, parameters: Parameters, timeouts: CallTimeouts, now: float) -> None:
        idle = timeouts.idle if timeouts.idle is not None else parameters.idle_time
        hard = timeouts.hard if timeouts.hard is not None else parameters.hard_time
        self.dead_time = timeouts.dead if timeouts.dead is not None else parameters.dead_time
        self._idle_time = idle if idle is not None else NEVER
        self.hard_at = now + hard if hard is not None else NEVER
        self._ping_interval = parameters.ping_interval
        self.pinged = now

    def ping_due(self, heard: float) -> float:
        """When to ask for a sign of life."""
        return max(heard, self.pinged) + self._ping_interval

    def next(self, heard: float, progress: float) -> float:
        """When one of them runs out; ``progress``: when the peer last did its part."""
        return min(heard + self.dead_time, progress + self._idle_time, self.hard_at)

    def expired(self, now: float, heard: float, progress: float) -> str | None:
        """Which of them has run out."""
        if now >= self.hard_at:
            return "hard"
        if now >= heard + self.dead_time:
            return "dead peer"
        if now >= progress + self._idle_time:
            return "idle"
        return None
