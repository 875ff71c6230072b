"""Round-trip time and retransmission timeout, after RFC 6298."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rxrpc.core.timers import doubled

if TYPE_CHECKING:
    from rxrpc.core.parameters import Parameters

_ALPHA = 1 / 8
_BETA = 1 / 4
_WINDOW = 300.0  # seconds for which a least round trip counts


class RttEstimator:
    """What is known of the way to a peer and back. All times are seconds."""

    __slots__ = ("_minimum_at", "latest", "measured_at", "minimum", "parameters", "smoothed",
                 "variation")  # fmt: skip

    def __init__(self, parameters: Parameters) -> None:
        self.parameters = parameters
        self.smoothed: float | None = None  # None: never measured
        self.variation = 0.0
        self.latest = 0.0
        self.minimum = 0.0
        self.measured_at = 0.0
        self._minimum_at = 0.0

    def on_sample(self, rtt: float, now: float) -> None:
        """Take in a measured round trip; nonsense (negative, over `max_rto`) is ignored."""
        if not 0 <= rtt <= self.parameters.max_rto:
            return
        if self.smoothed is None:
            self.smoothed, self.variation = rtt, rtt / 2
            self.minimum, self._minimum_at = rtt, now
        else:
            self.variation += _BETA * (abs(self.smoothed - rtt) - self.variation)
            self.smoothed += _ALPHA * (rtt - self.smoothed)
            if rtt <= self.minimum or now - self._minimum_at > _WINDOW:
                self.minimum, self._minimum_at = rtt, now
        self.latest = rtt
        self.measured_at = now

    def stale(self, now: float) -> bool:
        """Whether it is time to measure again."""
        return self.smoothed is None or now - self.measured_at > self.parameters.rtt_refresh

    def timeout(self, doublings: int) -> float:
        """How long to wait for an ACK before sending again, after so many vain attempts."""
        low, high = self.parameters.min_rto, self.parameters.max_rto
        if self.smoothed is None:
            base = self.parameters.initial_rto
        else:
            # The peer may hold its ACK back, so that time is added to the round trip.
            base = self.smoothed + 4 * self.variation + self.parameters.soft_ack_delay
        return min(doubled(max(base, low), doublings), high)

    def probe_delay(self, *, lossy: bool = False) -> float | None:
        """How long to wait before the end of a flight is probed; None when nothing is known."""
        if self.smoothed is None:
            return None
        if not lossy:
            return max(2 * self.smoothed, self.parameters.min_probe_delay)
        delay = max(2 * self.smoothed, self.smoothed + 4 * self.variation)
        return max(delay, self.parameters.lossy_probe_delay)

    def backlog(self, in_flight: int) -> float:
        """Packets of so many in flight that wait in queues on the way, as the round trip tells.

        Source: Fu and Liew, "TCP Veno" (2003).
        """
        if not self.smoothed:
            return math.inf  # nobody knows
        now = max(self.latest, self.smoothed)
        return in_flight * (now - self.minimum) / now
