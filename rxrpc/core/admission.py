"""How many calls strangers may have with us, and who goes when there are too many."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rxrpc.core.parameters import Parameters
    from rxrpc.core.peer import Peer
    from rxrpc.core.server_call import ServerCall


class Admission:
    """Counts the calls of strangers that are not over.

    A call is proven when its client has shown that its address is its own. Unproven ones are
    cheap to make for somebody who invents addresses, so they have a bound of their own, and the
    oldest makes room for the next: such a flood cannot keep clients out that answer.

    So do calls of services that want whole requests, as long as theirs is not: whoever begins
    calls and does not go on cannot keep those out that come whole, though he writes the address
    of a client of ours into his packets.
    """

    def __init__(self, parameters: Parameters) -> None:
        self.parameters = parameters
        self._unproven: dict[ServerCall, None] = {}  # oldest first
        self.calls = 0
        self.proven = 0  # calls since the start whose clients have shown that

    def begin(self, call: ServerCall, now: float) -> bool:
        """Whether the call may begin; it then counts until `end`."""
        parameters = self.parameters
        if call.peer.server_calls >= parameters.max_server_calls_per_peer:
            idle = next((one for one in self._unproven if _is_idle(one, call.peer)), None)
            if idle is None:
                return False
            idle.give_up(now)
        if len(self._unproven) >= parameters.max_unproven_calls:
            next(iter(self._unproven)).give_up(now)
        if self.calls >= parameters.max_server_calls:
            return False
        self.calls += 1
        call.peer.server_calls += 1
        self._unproven[call] = None
        return True

    def prove(self, call: ServerCall) -> None:
        """The client of the call is who he says."""
        self._unproven.pop(call, None)
        self.proven += 1

    @property
    def unproven(self) -> int:
        """Calls whose clients have not shown yet that their address is their own."""
        return len(self._unproven)

    def end(self, call: ServerCall) -> None:
        """The call is over."""
        self._unproven.pop(call, None)
        self.calls -= 1
        call.peer.server_calls -= 1


def _is_idle(call: ServerCall, peer: Peer) -> bool:
    """Whether a call of that peer has not even all of its request."""
    return call.peer is peer and call.unfinished
