"""How many packets may be in flight: slow start, avoidance, recovery, after RFC 5681.

A loss that no queue explains takes less of the window, after Fu and Liew, "TCP Veno" (2003).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rxrpc.core.parameters import Parameters


_QUEUED = 3.0  # packets in queues, from which on a loss is theirs (Veno's beta)
_CONGESTED, _RANDOM = 0.5, 0.8  # what is left of the window after a loss


class Congestion:
    """The congestion window of one call, in packets.

    It hears of packets acknowledged and lost, and knows nothing else. A loss counts once a round
    trip: packets that were in flight when the window was last reduced do not reduce it again.
    """

    __slots__ = ("_count", "_parameters", "_recovery_until", "threshold", "window")

    def __init__(self, parameters: Parameters, threshold: int | None = None) -> None:
        """``threshold``: where slow start ends, as an earlier call to the peer has learnt it."""
        self._parameters = parameters
        self.window = parameters.initial_congestion_window
        self.threshold = threshold or parameters.max_send_window
        self._count = 0  # packets acknowledged since the window last grew by one
        self._recovery_until = 0  # transmissions numbered below this belong to a loss known already

    def on_acked(self, packets: int, *, limited: bool) -> None:
        """``packets`` were acknowledged; ``limited``: the window was what held us back."""
        if not limited:
            return  # an unused window says nothing about the network
        if self.window < self.threshold:
            self.window += packets
        else:
            self._count += packets
            if self._count >= self.window:
                self._count -= self.window
                self.window += 1
        self.window = min(self.window, self._parameters.max_send_window)

    def on_lost(
        self, transmission: int, next_transmission: int, in_flight: int, backlog: float = math.inf
    ) -> bool:
        """The packet of that transmission number is lost; ``next_transmission`` is the next.

        ``backlog``: packets that wait in queues on the way, as far as that is known.

        Whether that was news, and the window is smaller now.
        """
        if transmission < self._recovery_until:
            return False
        self._recovery_until = next_transmission
        self._reduce(in_flight, _RANDOM if backlog < _QUEUED else _CONGESTED)
        self.window = self.threshold
        return True

    def on_timeout(self, next_transmission: int, in_flight: int) -> None:
        """Nothing was acknowledged for a whole timeout: start again from one packet."""
        if self.window > 1:
            self._reduce(in_flight, _CONGESTED)
        self._recovery_until = next_transmission
        self.window = 1

    def _reduce(self, in_flight: int, left: float) -> None:
        in_flight = min(in_flight, self.window)
        self.threshold = max(round(in_flight * left), self._parameters.min_congestion_window)
        self._count = 0
