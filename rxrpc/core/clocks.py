"""How long a call may take, and when to ask its peer for a sign of life."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rxrpc.core.timers import NEVER

if TYPE_CHECKING:
    from rxrpc.core.parameters import Parameters

_DOUBT_TIME = 3.0  # seconds in which a peer has to prove that it still knows a call
_DOUBT_PINGS = 6  # asked in that time: of 20 % lost each way, all of them in one case of 400
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

    stall: float | None = None
    """The server lives, but takes nothing large, or has the request and sends nothing of its reply
    for so long: the way may swallow what is large (``"too large"``, see `rxrpc.core.pathsize`). For
    calls that are made again then. Infinite: look at what we send alone. None: at nothing."""

    pace: float | None = None
    """Not a time: bytes a second that the peer must send or take, over `idle`, or the call ends
    (``"slow"``). So one that sends a byte now and then cannot keep it for ever. It is judged while
    a stream is under way, and is for programs that read at once and write what they have."""

    lull: float | None = None
    """Where packets are lost though nothing queues: the reply does not begin, or comes no further,
    for so long and a few round trips (``"lull"``, see `rxrpc.core.lulls`). For calls that are made
    again then, or others for the rest. None: never."""


class Clocks:
    """The clocks of one call. ``heard`` is always when its peer last sent something sensible."""

    __slots__ = ("_done", "_doubted", "_idle_time", "_least", "_look_at", "_ping_interval",
                 "busy_time", "dead_time", "hard_at", "pinged")  # fmt: skip

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
        self._doubted = -NEVER
        self._least = 0.0 if timeouts.pace is None else timeouts.pace * self._idle_time
        self._look_at = now + self._idle_time if self._least else NEVER
        self._done: int | None = None  # what the peer had done when its pace was last looked at

    def doubt(self, now: float) -> None:
        """The peer may know nothing of the call: unless it is heard of soon, that is so."""
        self._doubted = now

    def ping_due(self, heard: float) -> float:
        """When to ask for a sign of life."""
        if heard < self._doubted:
            return self.pinged + min(self._ping_interval, _DOUBT_TIME / _DOUBT_PINGS)
        return max(heard, self.pinged) + self._ping_interval

    def next(self, heard: float, progress: float) -> float:
        """When one of them runs out; ``progress``: when the peer last did its part."""
        dead = heard + self.dead_time
        if heard < self._doubted:
            dead = min(dead, self._doubted + _DOUBT_TIME)
        return min(dead, progress + self._idle_time, self.hard_at, self._look_at)

    def expired(
        self, now: float, heard: float, progress: float, done: int | None = None
    ) -> str | None:
        """Which of them has run out.

        ``done``: bytes that the peer has sent and taken so far; None while no stream is under way.
        """
        if now >= self.hard_at:
            return "hard"
        if now >= heard + self.dead_time:
            return "dead peer"
        if heard < self._doubted and now >= self._doubted + _DOUBT_TIME:
            return "forgotten"
        if now >= progress + self._idle_time:
            return "idle"
        if now >= self._look_at:
            before, self._done = self._done, done
            self._look_at = now + self._idle_time
            if before is not None and done is not None and done - before < self._least:
                return "slow"
        return None
