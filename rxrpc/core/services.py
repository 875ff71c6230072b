"""Which services strangers may call, how, and how many calls each may have."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rxrpc.core.clocks import CallTimeouts
from rxrpc.errors import LocalError
from rxrpc.security.base import SecurityLevel
from rxrpc.wire.packet import UPGRADE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rxrpc.security.base import ServerSecurity
    from rxrpc.wire.packet import Header


@dataclass(slots=True, eq=False)
class ServiceEntry:
    """A service, as the core knows it."""

    service_id: int
    securities: Mapping[int, ServerSecurity]  # by the number of the class
    level: SecurityLevel = SecurityLevel.CLEAR  # the least that callers must come with
    timeouts: CallTimeouts = field(default_factory=CallTimeouts)
    limit: int | None = None
    """Calls that handlers work on or that wait for one; more are told BUSY."""
    whole: bool = False
    """Calls are shown when their request is whole; it has to fit into the window."""
    calls: int = 0  # that count towards the limit

    @property
    def full(self) -> bool:
        """Whether there is no room for one more call."""
        return self.limit is not None and self.calls >= self.limit


class Services:
    """All services of an endpoint."""

    def __init__(self) -> None:
        self._entries: dict[int, ServiceEntry] = {}
        self._upgrades: dict[int, int] = {}

    def add(self, entry: ServiceEntry) -> None:
        """Take calls for it."""
        if entry.service_id in self._entries:
            raise LocalError(f"service {entry.service_id} is there already")
        self._entries[entry.service_id] = entry

    def offer_upgrade(self, service_id: int, better_id: int) -> None:
        """Serve as ``better_id`` whoever asks for ``service_id`` or something better."""
        for number in (service_id, better_id):
            if number not in self._entries:
                raise LocalError(f"service {number} is not here")
        self._upgrades[service_id] = better_id

    def waits_for_first(self, header: Header) -> bool:
        """Whether only the first packet of the request can tell which service it is for."""
        return header.seq != 1 and header.service_id in self._upgrades

    def find(self, header: Header) -> tuple[ServiceEntry, ServerSecurity] | None:
        """Who serves a connection that begins with this packet, and protected by what.

        Only the first packet of a connection can ask for an upgrade: its user status says so.
        Source: linux, net/rxrpc/conn_service.c. Where the better service does not know the
        client's security class, the client is left with what it named.
        """
        asked = self._entries.get(header.service_id)
        better = self._upgrades.get(header.service_id)
        entries = [asked]
        if better is not None and header.user_status == UPGRADE:
            entries.insert(0, self._entries[better])
        for entry in entries:
            if entry is not None and header.security_index in entry.securities:
                return entry, entry.securities[header.security_index]
        return None
