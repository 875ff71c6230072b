"""Cells: which there are, new ones, and where their volumes and servers are."""

from __future__ import annotations

import logging
from ipaddress import AddressValueError, IPv4Address
from typing import TYPE_CHECKING, Any

import trio

from afsfuse.cell.addresses import MAX_SERVERS, refusal
from afsfuse.cell.sharing import Rounds, RoundsOfEach
from afsfuse.control.verbs import require_owner
from afsfuse.errors import ControlRefused
from afsfuse.interfaces import vldb

if TYPE_CHECKING:
    from afsfuse.cell.directory import Cell, CellDirectory
    from afsfuse.cell.servers import FileServer
    from afsfuse.cell.volumes import VolumeLocator
    from afsfuse.control.verbs import Peer, Request, Verb
    from afsfuse.fileserver.client import FileServerClient
    from afsfuse.vfs.forgetting import Forgetting

log = logging.getLogger(__name__)

INTERVAL_MAX = 600
"""Seconds. Source: fs_checkservers(1)."""
_CHECK_PAUSE = 0.25  # seconds between the beginnings of two checks of all records, at least
ASK_PAUSE = 5.0
"""Seconds between two times at which those who own nothing have all servers of a cell asked."""


class CellVerbs:
    """Answers for one mount."""

    def __init__(
        self,
        cells: CellDirectory,
        locator: VolumeLocator,
        client: FileServerClient,
        forgetting: Forgetting,
    ) -> None:
        self._cells = cells
        self._locator = locator
        self._client = client
        self._forgetting = forgetting
        self._checks = Rounds(self._check_all, _CHECK_PAUSE)
        self._askings = RoundsOfEach(self._ask, ASK_PAUSE)
        self.verbs: dict[str, Verb] = {
            "cells": self._list,
            "new-cell": self._new_cell,
            "new-alias": self._new_alias,
            "check-servers": self._check_servers,
            "probe-interval": self._probe_interval,
            "check-volumes": self._check_volumes,
        }

    async def _list(self, request: Request, peer: Peer) -> dict[str, Any]:
        return {
            "this_cell": self._cells.this_cell,
            "cells": [_shown(cell) for cell in self._cells.cells()],
            "aliases": [
                {"alias": alias, "cell": cell} for alias, cell in self._cells.aliases.items()
            ],
        }

    async def _new_cell(self, request: Request, peer: Peer) -> dict[str, Any]:
        require_owner(peer, "make cells known")
        servers = request.get("servers")
        if not isinstance(servers, list) or not 0 < len(servers) <= MAX_SERVERS:
            raise ControlRefused(f"a cell has 1 to {MAX_SERVERS} servers")
        addresses = []
        for server in servers:
            try:
                address = IPv4Address(server)
            except (AddressValueError, TypeError):
                raise ControlRefused("addresses of servers are expected") from None
            if reason := refusal(address, loopback_allowed=True):
                raise ControlRefused(f"{address} is {reason}")
            addresses.append((str(address), vldb.PORT))
        linked = request.get("linked")
        name = _name(request, "name")
        cell = self._cells.configure(name, addresses, linked if isinstance(linked, str) else None)
        self._forgetting.cell_changed(cell.name)
        await self._forgetting.settled()
        log.info("the servers of %s are %s now", cell, ", ".join(map(str, servers)))
        return _shown(cell)

    async def _new_alias(self, request: Request, peer: Peer) -> dict[str, Any]:
        require_owner(peer, "give cells other names")
        alias = _name(request, "alias")
        cell = await self._cells.name_alias(alias, _name(request, "name"))
        self._forgetting.cell_changed(alias.lower())
        await self._forgetting.settled()
        log.info("%s is another name of %s now", alias, cell)
        return {"alias": alias.lower(), "cell": cell.name}

    async def _check_servers(self, request: Request, peer: Peer) -> dict[str, Any]:
        """Which servers of a cell, or with `all` of all cells in use, do not answer; with `fast`
        as far as it is known.
        """
        wanted = request.get("cell")
        if isinstance(wanted, str):
            cells = [await self._cells.find(wanted)]
        else:
            names = self._cells.used_cells() if request.get("all") is True else ()
            local = self._cells.this_cell
            cells = [await self._cells.find(name) for name in names or ([local] if local else [])]
        silent: dict[Cell, tuple[list[FileServer], list[str]]] = {}

        async def look(cell: Cell) -> None:
            if request.get("fast") is True:
                silent[cell] = await self._client.silent_servers({cell.name}, ask=False), []
            else:
                silent[cell] = await (self._ask if peer.owns_daemon else self._askings.next)(cell)

        async with trio.open_nursery() as nursery:
            for cell in cells:
                nursery.start_soon(look, cell)
        down = [
            {"cell": server.cell, "kind": "file server", "address": server.host}
            for cell in cells
            for server in silent[cell][0]
            if server.host
        ]
        down += [
            {"cell": cell.name, "kind": "volume location server", "address": host}
            for cell in cells
            for host in silent[cell][1]
        ]
        return {"down": down, "cells": [cell.name for cell in cells]}

    async def _ask(self, cell: Cell) -> tuple[list[FileServer], list[str]]:
        """Ask all servers of a cell. -> the file servers, and location servers, that are silent"""
        of_files = await self._client.silent_servers({cell.name}, ask=True)
        return of_files, [host for host, _ in await self._locator.silent_servers(cell)]

    async def _probe_interval(self, request: Request, peer: Peer) -> dict[str, Any]:
        """How many seconds lie between two looks at a server that is down; 0 changes nothing."""
        before = self._client.probe_interval
        seconds = request.get("seconds")
        if not isinstance(seconds, int) or not 0 <= seconds <= INTERVAL_MAX:
            raise ControlRefused(f"an interval has 1 to {INTERVAL_MAX} seconds")
        if seconds:
            require_owner(peer, "set how often servers are asked")
            self._client.probe_interval = float(seconds)
            log.info("servers that are down are asked every %d s now", seconds)
        return {"seconds": self._client.probe_interval, "before": before}

    async def _check_volumes(self, request: Request, peer: Peer) -> dict[str, Any]:
        await self._checks.next()
        return {}

    async def _check_all(self) -> None:
        self._forgetting.all_targets()
        await self._locator.check_all()


def _shown(cell: Cell) -> dict[str, Any]:
    return {
        "name": cell.name,
        "servers": [host for host, _ in cell.vl_servers],
        "linked": cell.linked,
        "description": cell.description,
    }


def _name(request: Request, what: str) -> str:
    name = request.get(what)
    if not isinstance(name, str):
        raise ControlRefused("the name of a cell is expected")
    return name
