"""The numbers that owners of tokens have in their cells' protection databases, for people to see.

`aklog` of OpenAFS asks for it before it hands a token over, and `tokens` prints it. Here the daemon
asks, since commands are to start at once and know no Rx: a token is used from the moment on that it
comes, and its number is added when it is known. A cell that does not answer, or does not know the
user, leaves it out; nothing else hangs on it.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import trio

from afsfuse.cell.location import LocationLimits, LocationService, NotOffered
from afsfuse.errors import AfsError, ControlRefused
from afsfuse.interfaces import protection as pr

if TYPE_CHECKING:
    from afsfuse.auth.identity import Identity
    from afsfuse.auth.security import Credentials
    from afsfuse.auth.store import TokenStore
    from afsfuse.auth.token import Token
    from afsfuse.cell.directory import CellDirectory
    from afsfuse.cell.location import Connector, VlConnection
    from rxrpc import Address, ClientSecurity

log = logging.getLogger(__name__)

LIMITS = LocationLimits(patience=1.0, total=5.0)
PATIENCE = 3.0
"""Seconds for which a command waits for the number of the token that it has handed over."""
_AT_ONCE = 8  # cells that are asked


class ProtectionService(LocationService):
    """Calls to the protection servers of cells: they run beside the volume location servers."""

    what = "protection"

    def connect(self, address: Address, security: ClientSecurity) -> VlConnection:
        """The connection to one server; its address is that of the location server beside it."""
        return self._connector.connect((address[0], pr.PORT), pr.SERVICE_ID, security=security)


class UserNumbers:
    """Finds the numbers of the tokens in a store that have none."""

    def __init__(
        self,
        connector: Connector,
        cells: CellDirectory,
        store: TokenStore,
        credentials: Credentials | None = None,
    ) -> None:
        """Create it when `credentials` know the store: they are asked at each change."""
        self._service = ProtectionService(connector, LIMITS, credentials)
        self._cells = cells
        self._store = store
        self._asked: dict[tuple[Identity, str], trio.Event] = {}  # set when there is an end to it
        self._new: list[tuple[Identity, str]] = []
        self._wake = trio.Event()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Ask for what is there and for what comes, until cancelled."""
        limit = trio.CapacityLimiter(_AT_ONCE)
        self._store.subscribe(self._changed)
        for identity, token in self._store.all():
            self._changed(identity, token.cell)
        async with trio.open_nursery() as nursery:
            task_status.started()
            while True:
                new, self._new = self._new, []
                for key in new:
                    nursery.start_soon(self._learn, key, limit)
                await self._wake.wait()
                self._wake = trio.Event()

    async def known(self, identity: Identity) -> None:
        """Wait until there is nothing to be expected any more for an identity's tokens, or until
        that takes longer than a user is to wait.
        """
        with trio.move_on_after(PATIENCE):
            for (owner, _), end in list(self._asked.items()):
                if owner == identity:
                    await end.wait()

    def _changed(self, identity: Identity, cell: str) -> None:
        token = self._store.get(identity, cell)
        if token is not None and token.viceid is None and (identity, cell) not in self._asked:
            self._asked[identity, cell] = trio.Event()
            self._new.append((identity, cell))
            self._wake.set()

    async def _learn(self, key: tuple[Identity, str], limit: trio.CapacityLimiter) -> None:
        identity, cell = key
        try:
            async with limit:
                token = self._store.get(identity, cell)
                while token is not None:
                    number = await self._ask(identity, token)
                    if number is not None:
                        self._store.number(identity, token, number)
                    before, token = token, self._store.get(identity, cell)
                    if token == before:
                        break  # else it was replaced while we asked
        except ControlRefused as exc:
            log.info("the number of %s in %s: %s", identity, cell, exc)
        finally:
            self._asked.pop(key).set()

    async def _ask(self, identity: Identity, token: Token) -> int | None:
        """The number, if a server knows the user."""
        name = token.user.encode()
        if not 0 < len(name) < pr.NAME_MAX:
            return None
        try:
            cell = await self._cells.find(token.cell)
            args = pr.NamesMessage((name,))
            reply = await self._service.call(cell, pr.NAME_TO_ID, args, who=identity)
        except (AfsError, NotOffered) as exc:
            log.info("the number of %s in %s: %s", token.user, token.cell, exc)
            return None
        number = reply.ids[0] if reply.ids else pr.ANONYMOUS
        return None if number == pr.ANONYMOUS else number
