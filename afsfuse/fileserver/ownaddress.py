"""From which address of this machine the servers see us, and when that becomes another one.

A laptop that changes networks, or whose network was away, has missed what servers told it
meanwhile: they call back where they saw us last. And a connection stays with the address that it
began with: OpenAFS finds it by epoch and cid alone, and replies to the peer that it was made for.
Source: rx.c, rxi_FindConnection.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from afsfuse.cell.servers import FileServer
    from rxrpc import Address

CHECK = 3.0
"""Seconds between two looks; a look sends nothing."""


class OwnAddresses:
    """Watches over the addresses that we have towards servers."""

    def __init__(
        self,
        servers: Callable[[], Iterable[FileServer]],
        changed: Callable[[list[FileServer]], None],
        source: Callable[[Address], str | None],
    ) -> None:
        """`changed` is called with the servers to which we are at another address than before, or
        to which there was no way for a time. `source` tells our address towards another one, None
        when there is no way.
        """
        self._servers = servers
        self._changed = changed
        self._source = source
        self._known: dict[FileServer, str | None] = {}

    async def run(self) -> None:
        """Look every few seconds, until cancelled."""
        while True:
            self.look()
            await trio.sleep(CHECK)

    def look(self) -> None:
        """Compare what is with what was."""
        moved = []
        known: dict[FileServer, str | None] = {}
        sources: dict[Address, str | None] = {}
        for server in self._servers():
            if not server.addresses:
                continue
            target = server.addresses[0]
            if target not in sources:
                sources[target] = self._source(target)
            now = sources[target]
            if server in self._known and now not in (self._known[server], None):
                moved.append(server)
            known[server] = now
        self._known = known  # of others than these nobody wants to hear
        if moved:
            self._changed(moved)
