"""Which of several servers is asked first: by rules that people give, and by measured round trips.

A rank is a number, the lower the better, as OpenAFS's `fs setserverprefs` has it; an address that
no rule names has `DEFAULT_RANK`. Among equal ranks the nearer server is preferred, but for a small
difference nobody moves: whoever answered last holds our promises.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from typing import TYPE_CHECKING

from afsfuse.cell.ranks import RANK_MAX
from afsfuse.errors import ControlRefused

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from afsfuse.cell.servers import FileServer
    from rxrpc import Address

DEFAULT_RANK = 40_000
"""Source: what OpenAFS gives a server of another network."""
RULES_MAX = 255
_RANKS_MAX = 4096  # addresses whose ranks are not worked out again
_MUCH_NEARER = 0.5  # a round trip of at most this part of the other's
_AT_LEAST = 0.002  # ... and by so many seconds: below that it is noise
_UNKNOWN_RTT = 0.05  # seconds: where a server stands before it was measured


class Preferences:
    """The rules, and the order that they and the measured round trips make."""

    def __init__(self, rules: Iterable[tuple[IPv4Network, int]] = ()) -> None:
        self._rules: dict[IPv4Network, int] = {}
        self._ranks: dict[str, int] = {}
        for network, rank in rules:
            self.set(network, rank)

    @property
    def rules(self) -> list[tuple[IPv4Network, int]]:
        """All rules, by network."""
        return sorted(self._rules.items())

    def set(self, network: IPv4Network, rank: int | None) -> None:
        """Give all addresses of a network a rank; None takes the rule away.

        Raises `ControlRefused` if there are too many rules.
        """
        if rank is None:
            self._rules.pop(network, None)
        elif len(self._rules) >= RULES_MAX and network not in self._rules:
            raise ControlRefused(f"there are {RULES_MAX} rules already: take some away first")
        else:
            self._rules[network] = rank
        self._ranks.clear()

    def rank(self, address: Address) -> int:
        """The rank of an address: that of the narrowest network with a rule."""
        host = address[0]
        known = self._ranks.get(host)
        if known is None:
            number = IPv4Address(host)
            fitting = [network for network in self._rules if number in network]
            narrowest = max(fitting, key=lambda network: network.prefixlen, default=None)
            known = DEFAULT_RANK if narrowest is None else self._rules[narrowest]
            if len(self._ranks) >= _RANKS_MAX:
                self._ranks.clear()
            self._ranks[host] = known
        return known

    def rank_of(self, server: FileServer) -> int:
        """The rank of a server: the best one among its addresses."""
        return min(map(self.rank, server.addresses), default=RANK_MAX)

    def order(
        self,
        servers: list[FileServer],
        chosen: FileServer | None,
        is_down: Callable[[FileServer], bool],
        avoided: Collection[FileServer] = (),
        refusing: Collection[FileServer] = (),
    ) -> list[FileServer]:
        """The servers, the one to ask first in front: `chosen`, unless another one that is up, is
        not to be `avoided` and is not `refusing`, has a better rank or is much nearer.

        To be avoided weighs more than to refuse: a replica from before a release is no help.
        """

        def cost(server: FileServer) -> tuple[int, int, float]:
            rtt = _UNKNOWN_RTT if server.rtt is None else server.rtt
            trouble = 4 * is_down(server) + 2 * (server in avoided) + (server in refusing)
            return trouble, self.rank_of(server), rtt

        costs = {server: cost(server) for server in servers}
        ordered = sorted(servers, key=costs.__getitem__)
        if chosen is None or chosen not in costs:
            return ordered
        best, kept = costs[ordered[0]], costs[chosen]
        if best[0] == kept[0] and not is_clearly_better(best[1:], kept[1:]):
            ordered.remove(chosen)
            ordered.insert(0, chosen)
        return ordered


def is_clearly_better(one: tuple[int, float], other: tuple[int, float]) -> bool:
    """Whether a rank and a round trip are worth leaving others for: a small difference is not."""
    if one[0] != other[0]:
        return one[0] < other[0]
    return one[1] <= other[1] * _MUCH_NEARER and other[1] - one[1] >= _AT_LEAST
