"""How long an operation may take, and how often it is tried: the figures of the retry loop."""

from __future__ import annotations

from dataclasses import dataclass, field

from afsfuse.fileserver.health import HealthLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryLimits:
    """How long and how often. Times are seconds."""

    dead_time: float = 20.0
    """A call at the only server left ends when that sends no packet for so long."""

    failover_time: float = 6.0
    """... and at a server that another one can stand in for."""

    pace: float = 128.0
    """Bytes a second that a server must send or take on average, once it has begun, or the call
    ends. 64 calls that share a line of 256 kbit/s have four times as much each."""

    stall_time: float = 6.0
    """After so long without a byte of an answer, though the server lives, what asks is asked once
    more in packets that pass everywhere (see `rxrpc.core.pathsize`).
    """

    busy_time: float = 30.0
    """How long an operation waits in all while the volume is busy at every site."""

    offline_time: float = 3.0
    """... and while it is off line at every site, or not there: a move or a restart may be all
    that it is.
    """

    pause: float = 1.0
    """Between two rounds over all sites, at most."""

    moving_time: float = 15.0
    """How long it goes on asking where the volume is while that is on its way (see `search`), from
    the last time at which the record named another server. From one step of a move to the next a
    busy server takes seconds; in all it goes on as long as for a busy volume.
    """

    probe_time: float = 3.0
    """How long a probe waits for any word of its server."""

    readdress_time: float = 10.0
    """A record that is older than this is asked for again when no server of it answers."""

    health: HealthLimits = field(default_factory=HealthLimits)
    """When servers are given up, and asked again."""

    @classmethod
    def within(cls, seconds: float) -> RetryLimits:
        """The usual limits, cut to what is left of them when all is to be over after this long.

        A call has a few seconds to be answered at all, whatever is asked for.
        """
        usual = cls()
        silence = max(seconds, usual.probe_time)
        return cls(
            dead_time=min(usual.dead_time, silence),
            failover_time=min(usual.failover_time, silence),
            busy_time=min(usual.busy_time, seconds),
            offline_time=min(usual.offline_time, seconds),
            moving_time=min(usual.moving_time, seconds),
        )
