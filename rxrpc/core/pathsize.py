"""Ways on which large datagrams vanish without a word, found by what one call sees.

A tunnel may swallow what is longer than it carries, or fragments, and send no ICMP message. The
peer is alive then, small packets come and go, and the call stands still for ever. Its packets are
cut and numbered, so it ends, with `CallTimeout("too large")`, and can be made again: the peer is
*narrow* by then, which both ends keep to (`Parameters.safe_mtu`). Calls that begin at a narrow peer
are not suspected, so a mistake costs one more call in `Parameters.narrow_time`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rxrpc.core.timers import NEVER

if TYPE_CHECKING:
    from rxrpc.core.peer import Peer
    from rxrpc.core.sending import Sending

_TIMEOUTS = 2  # in a row, after which the size is suspected
_PATIENCE = 3.0  # seconds from then on in which packets may just have had bad luck


class PathSize:
    """What one call has seen of that."""

    __slots__ = ("_asked", "_peer", "_wide")

    def __init__(self, peer: Peer, now: float) -> None:
        self._peer = peer
        self._wide = peer.is_wide(now)
        self._asked = NEVER  # when the peer was last asked whether it lives

    def swallows(self, sending: Sending, now: float) -> bool:
        """After a timeout: whether what we send is too large. The peer must have answered since
        this was first suspected, and may have taken nothing large, in any call, since this one
        got stuck.
        """
        peer = self._peer
        if (
            not self._wide
            or sending.timeouts < _TIMEOUTS
            or not sending.stuck_large
            or peer.proven > sending.acked_at
        ):
            return False
        if peer.heard <= self._asked:
            self._asked = min(self._asked, now)
            peer.question(now)
        elif now >= self._asked + _PATIENCE:
            peer.narrow(now)
            return True
        return False

    def withholds(self, progress: float, heard: float, patience: float, now: float) -> bool:
        """Whether what the peer sends may be too large: it answers pings, and nothing else came.

        It may as well be at work; then a call was made twice, and packets are small for a time.
        """
        if not self._wide or now < progress + patience or heard <= progress + patience / 2:
            return False
        self._peer.narrow(now)
        return True
