"""When to say again what an ACK has said, since it was lost, or what it asked for was.

A peer that has used its window up waits for our ACK, and when that was lost for its own timeout,
which takes an OpenAFS server 0.22 s at least. It sends again what is missing when three packets
behind that have arrived, or three ACKs have said so (rxi_ReceiveAckPacket in rx.c). Where its
window is small not so much comes by itself, nor where what it sent again was lost again. So while
nothing new comes an ACK is repeated, and with a hole in it as often as the peer asks for: senders
of TCP retransmit early for the same reason (RFC 5827).

After a timeout the peer has one packet under way, and one more for each ACK that it hears: where
that packet may be lost, too, ACKs are repeated past the first timeout. All of it is bounded, and
waits longer each time; where all comes in time, and in order, nothing is said twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rxrpc.core.timers import doubled

if TYPE_CHECKING:
    from rxrpc.core.context import Context

_ENOUGH = 3  # packets behind a hole, or ACKs that tell of it. Source: rx_globals.h
_REORDER_FRACTION = 0.25  # of a round trip: how late a packet may be (RFC 8985)
_MOST_STEPS = 4  # of that: a whole round trip
_FULL_ROUNDS = 4  # in which a hole is told of as often as it takes


class Reminders:
    """Of the latest ACK of a call."""

    __slots__ = ("_context", "_steps", "copies", "rounds")

    def __init__(self, context: Context) -> None:
        self._context = context
        self._steps = 1  # of patience with packets that are overtaken
        self.rounds = 0  # of reminders since something new came
        self.copies = 1  # of the ACK that goes next

    def overtaken(self) -> None:
        """A packet was not lost but late: be more patient."""
        self._steps = min(2 * self._steps, _MOST_STEPS)

    def delay(self, rtt: float, behind: int, *, lossy: bool) -> float | None:
        """How long after this ACK to remind the peer, in seconds; None: not any more.

        ``behind``: packets that have come behind one that is missing. ``lossy``: the line has lost
        packets lately.
        """
        parameters = self._context.parameters
        if behind and behind < _ENOUGH and not self.rounds:
            return max(rtt * _REORDER_FRACTION * self._steps, parameters.min_report_delay)
        if not lossy:
            if self.rounds >= parameters.ack_repeats:
                return None
            return doubled(max(2 * rtt, parameters.min_repeat_delay), self.rounds)
        if self.rounds >= parameters.lossy_ack_repeats:
            return None
        delay = max(2 * rtt, parameters.lossy_repeat_delay)
        later = doubled(delay, max(self.rounds - 1, 0))
        return min(later, max(delay, parameters.lossy_repeat_limit))

    def due(self, behind: int) -> None:
        """The peer is reminded now."""
        self.copies = 1
        if behind and self.rounds < _FULL_ROUNDS:
            told = 0 if self.rounds else 1  # by the first ACK; later the peer counts anew
            self.copies = max(_ENOUGH + 1 - behind - told, 1)
        self.rounds += 1
