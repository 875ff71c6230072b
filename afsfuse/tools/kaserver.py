"""What `klog --kaserver` does beyond `klog`: it has calls to make, so it needs an event loop."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import trio

from afsfuse.auth.kaserver import KaServers, Login
from afsfuse.cell.directory import CellDirectory
from afsfuse.errors import AfsError, TicketRefused
from rxrpc import Endpoint

if TYPE_CHECKING:
    from afsfuse.auth.acquire import Say
    from afsfuse.auth.token import Secret, Token
    from afsfuse.cell.cellservdb import CellFiles


def by_kaserver(files: CellFiles, cell: str, user: str, password: Secret, say: Say) -> Token:
    """A token of a cell for a user and a password. Raises `TicketRefused`."""
    login = Login.of(user, cell)
    return trio.run(_log_in, CellDirectory(files), login, password, say)


async def _log_in(cells: CellDirectory, login: Login, password: Secret, say: Say) -> Token:
    try:
        cell = await cells.find(login.cell)
    except AfsError as exc:
        raise TicketRefused(exc.message) from exc
    outcome: Token | TicketRefused
    async with trio.open_nursery() as nursery:
        endpoint = Endpoint(bind=("0.0.0.0", 0))
        await nursery.start(endpoint.run)
        servers = KaServers(endpoint, [host for host, _ in cell.vl_servers], time.time)
        try:
            outcome = await servers.log_in(login, password, say)
        except TicketRefused as exc:  # raised outside, where no nursery wraps it
            outcome = exc
        nursery.cancel_scope.cancel()
    if isinstance(outcome, TicketRefused):
        raise outcome
    return outcome
