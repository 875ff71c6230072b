"""File servers and their ranks: told to commands, and set by them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from afsfuse.cell.ranks import parse_network, parse_rank
from afsfuse.errors import ControlRefused

if TYPE_CHECKING:
    from afsfuse.fileserver.client import FileServerClient

log = logging.getLogger(__name__)


class ServerPreferences:
    """The file servers of one mount."""

    def __init__(self, client: FileServerClient) -> None:
        self._client = client

    def shown(self) -> dict[str, Any]:
        """All servers that were used, and all rules. Times are seconds."""
        preferences = self._client.preferences
        return {
            "servers": [
                {
                    "cell": server.cell,
                    "uuid": server.uuid,
                    "up": server.up,
                    "used": server.used,
                    "rtt": server.rtt,
                    "addresses": [
                        {"address": address, "rank": rank, "rtt": rtt}
                        for address, rank, rtt in server.addresses
                    ],
                }
                for server in self._client.servers()
            ],
            "rules": [
                {"network": str(network), "rank": rank} for network, rank in preferences.rules
            ],
        }

    def set(self, network: object, rank: object) -> None:
        """Give addresses a rank, or with None take the rule away; raise `ControlRefused`."""
        try:
            if not isinstance(network, str) or not isinstance(rank, str | None):
                raise ValueError("an address and a rank are expected")
            where = parse_network(network)
            value = None if rank is None else parse_rank(rank)
        except ValueError as exc:
            raise ControlRefused(str(exc)) from None
        self._client.preferences.set(where, value)
        self._client.look_at_all()
        log.info("the rank of %s is %s now", where, "as usual" if value is None else value)
