"""How long a call may take, and when to ask its peer for a sign of life."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rxrpc.core.timers import NEVER

if TYPE_CHECKING:
    from rxrpc.core.parameters import Parameters

_PING_SHARE = 0.25  # of the dead time: three pings may be lost


@dataclass(frozen=True, slots=True)
class CallTimeouts:
    """How long a call may take, in seconds. None: what the endpoint's parameters say.

    Each ends the call with a `CallTimeout` that names it, except `busy`. Source of what they mean:
    linux, rxrpc.rst (RXRPC_SET_CALL_TIMEOUT), where `dead` is called the normal timeout.
    """

    dead: float | None = None
    """The peer sends not one packet, although pings ask for one (``"dead peer"``)."""

    idle: float | None = None
    """The peer lives, but does not do its part: a client that does not send the next packet of its
    request, a server that neither takes ours nor answers (``"idle"``). It does not run while it is
    our turn. AF_RXRPC has it for requests only, and 1 s long."""

    hard: float | None = None
    """The whole call, from when this is set (``"hard"``)."""

    busy: float | None = None
    """The server says nothing but BUSY. The call is repeated meanwhile, then it ends with
    `CallBusy`; 0 ends it at the first, as AF_RXRPC does."""


class Clocks:
    """The clocks of one call. ``heard`` is always when its peer last sent something sensible."""

    __slots__ = ("_idle_time", "_ping_interval", "busy_time", "dead_time", "hard_at", "pinged")

    def __init__(self, parameters: Parameters, timeouts: CallTimeouts, now: float) -> None:
        idle = timeouts.idle if timeouts.idle is not None else parameters.idle_time
        hard = timeouts.hard if timeouts.hard is not None else parameters.hard_time
        self.dead_time = timeouts.dead if timeouts.dead is not None else parameters.dead_time
        self._idle_time = idle if idle is not None else NEVER
        self.hard_at = now + hard if hard is not None else NEVER
        self.busy_time = timeouts.busy if timeouts.busy is not None else parameters.busy_time
        # A peer that is to prove that it lives in a short time has to be asked in time.
        self._ping_interval = min(parameters.ping_interval, self.dead_time * _PING_SHARE)
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
