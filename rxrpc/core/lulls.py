"""When a reply that does not go on had better be asked for again than waited for.

A sender that knows of no later packet which has arrived finds out by its timeout alone that one was
lost, and that takes an OpenAFS server 0.22 s at least (rxi_ResetCall in rx.c), then twice as long.
So it is with the first packet of a reply, with its last one, and with all that were under way while
its window is small. Nothing that we may send makes it sooner. But the program can ask for the rest
in another call, on a line that is known to lose packets although nothing queues there.

That is no cure where the server itself holds the call up, and there each repetition takes another
of its threads. So a call is given up freely only if another one to the same peer has come to its
end meanwhile; else one in the time that the server's own timeout takes. The first call of a
connection never is: for that the server asks us back, and takes its time when this is lost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rxrpc.core.timers import NEVER

if TYPE_CHECKING:
    from rxrpc.core.peer import Peer

LOOK = 0.01  # seconds between two looks at a call that may not be given up yet
_LOSS = 0.003  # share of packets lost, from which on it is a bad line
_ROUND_TRIPS = 4  # in which a hole that the peer knows of is filled, though an ACK is lost
_TIMEOUT = 0.2  # seconds, besides a round trip: the least after which it sends again by itself
_PAUSE = 0.005  # seconds between two calls that are given up
_BLIND_PAUSE = 0.25  # ... if none has ended since the one to give up came no further


class Lulls:
    """Of the replies of one peer."""

    __slots__ = ("_given_up", "ended")

    def __init__(self) -> None:
        self.ended = -NEVER  # when a reply last came to its end
        self._given_up = -NEVER

    def give_up(self, peer: Peer, progress: float, now: float) -> bool:
        """Whether to give up a call whose reply last came further at `progress`."""
        if peer.losses.share(peer.rtt, now) < _LOSS:
            return False
        pause = _PAUSE if self.ended > progress else _BLIND_PAUSE
        if now < self._given_up + pause:
            return False
        self._given_up = now
        return True


def patience(lull: float, peer: Peer) -> float:
    """How long a reply may come no further, in seconds; `NEVER` where the peer's timeout is over
    about as soon.
    """
    least = lull + _ROUND_TRIPS * (peer.rtt.smoothed or 0.0)
    return least if least < _TIMEOUT else NEVER
