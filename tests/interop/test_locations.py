"""Cells and volumes, looked up at real location servers and compared with what `vos` says."""

from __future__ import annotations

import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import trio

from afsfuse.cell.cellservdb import search_folders
from afsfuse.cell.directory import CellDirectory
from afsfuse.cell.location import LocationLimits
from afsfuse.cell.resolver import NoDns
from afsfuse.cell.servers import ServerRegistry
from afsfuse.cell.volumes import Preference, VolumeLocator
from afsfuse.errors import CellUnknown, CellUnreachable, VolumeMissing
from afsfuse.interfaces import vldb
from afsfuse.model import VolumeType
from rxrpc import NULL, CallAborted, Endpoint
from tests.realcell.configuration import CELL, CLOSED_CELL, DEAD_CELL, GONE_CELL

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from afsfuse.cell.location import Connector
    from afsfuse.cell.volumes import Volume
    from rxrpc import Address, ClientSecurity
    from tests.realcell.cell import RealCell

pytestmark = pytest.mark.realcell


class Old:
    """An endpoint in front of servers that are said not to have some procedures."""

    def __init__(self, endpoint: Endpoint, missing: set[int]) -> None:
        self._endpoint, self._missing = endpoint, missing

    def connect(
        self, address: Address, service_id: int, *, security: ClientSecurity = NULL
    ) -> OldConnection:
        return OldConnection(
            self._endpoint.connect(address, service_id, security=security), self._missing
        )


class OldConnection:
    def __init__(self, connection: Any, missing: set[int]) -> None:
        self._connection, self._missing = connection, missing

    async def call(self, rpc: Any, args: Any) -> Any:
        if rpc.opcode in self._missing:
            raise CallAborted(-455, remote=True)
        return await self._connection.call(rpc, args)


@asynccontextmanager
async def locating(
    cell: RealCell, missing: set[int] | None = None, **limits: float
) -> AsyncIterator[VolumeLocator]:
    """A locator as the daemon makes it, without the DNS."""
    endpoint = Endpoint()
    connector: Connector = Old(endpoint, missing) if missing else endpoint
    cells = CellDirectory.from_folders(search_folders(cell.confdir), NoDns())
    async with trio.open_nursery() as nursery:
        await nursery.start(endpoint.run)
        with trio.fail_after(60):
            yield VolumeLocator(connector, cells, ServerRegistry(), limits=LocationLimits(**limits))
        nursery.cancel_scope.cancel()


def hosts(volume: Volume) -> set[str]:
    return {host for site in volume.sites for host, _ in site.server.addresses}


def listed_sites(cell: RealCell, name: str) -> dict[str, set[str]]:
    """Addresses by kind of site, as `vos listvldb` prints them."""
    text = cell.vos(["listvldb", "-name", name, "-noresolve"]).stdout
    sites: dict[str, set[str]] = {}
    for host, kind in re.findall(r"server ([\d.]+) partition \S+ (RW|RO) Site", text):
        sites.setdefault(kind, set()).add(host)
    return sites


@pytest.mark.parametrize("name", ["root.cell", "replicated"])
async def test_volumes_are_where_vos_says(real_cell: RealCell, name: str) -> None:
    volumes = real_cell.volumes
    sites = listed_sites(real_cell, name)
    async with locating(real_cell) as locator:
        replica = await locator.volume(CELL, name, Preference.PREFER_RO)
        original = await locator.volume(CELL, name, Preference.FORCE_RW)
        backup = await locator.volume(CELL, f"{name}.backup", Preference.FORCE_RW)
        assert replica.id == volumes.volume_id(f"{name}.readonly")
        assert original.id == volumes.volume_id(name)
        assert backup.id == volumes.volume_id(f"{name}.backup")
        assert hosts(replica) == sites["RO"]
        assert hosts(original) == hosts(backup) == sites["RW"]
        for volume in (replica, original, backup):
            found = await locator.volume(CELL.upper(), str(volume.id), Preference.FORCE_RW)
            assert found is volume
        assert replica.type is VolumeType.RO
        assert replica.name == f"{name}.readonly"


@pytest.mark.parametrize(
    "missing",
    [
        {vldb.GET_ENTRY_BY_NAME_U.opcode},
        {vldb.GET_ENTRY_BY_NAME_U.opcode, vldb.GET_ENTRY_BY_NAME_N.opcode},
    ],
)
async def test_the_older_forms_say_the_same(real_cell: RealCell, missing: set[int]) -> None:
    async with locating(real_cell) as locator:
        new = await locator.volume(CELL, "root.cell", Preference.RO)
    async with locating(real_cell, missing) as locator:
        old = await locator.volume(CELL, "root.cell", Preference.RO)
    assert old.id == new.id
    assert hosts(old) == hosts(new)
    assert [site.types for site in old.info.sites] == [site.types for site in new.info.sites]


async def test_volumes_that_are_not_there(real_cell: RealCell) -> None:
    async with locating(real_cell) as locator:
        with pytest.raises(VolumeMissing, match="no such volume"):
            await locator.volume(CELL, "no.such.volume", Preference.PREFER_RO)
        with pytest.raises(VolumeMissing, match="no read-only instance"):
            await locator.volume(CELL, "tree.readonly", Preference.RO)
        with pytest.raises(VolumeMissing):
            await locator.volume(CELL, "4000000000", Preference.PREFER_RO)


async def test_broken_cells_are_told_apart(real_cell: RealCell) -> None:
    async with locating(real_cell, total=10.0) as locator:
        with pytest.raises(CellUnreachable, match="Connection refused"):
            await locator.volume(CLOSED_CELL, "root.cell", Preference.PREFER_RO)
        with pytest.raises(CellUnreachable, match=r"No route to host|no answer"):
            await locator.volume(GONE_CELL, "root.cell", Preference.PREFER_RO)
        with pytest.raises(CellUnknown):
            await locator.volume("not.configured", "root.cell", Preference.PREFER_RO)
    async with locating(real_cell, total=1.0) as locator:
        with pytest.raises(CellUnreachable, match="no answer"):
            await locator.volume(DEAD_CELL, "root.cell", Preference.PREFER_RO)


async def test_a_volume_that_moves_is_found_again(real_cell: RealCell) -> None:
    name = "test.moving"
    fs1, fs2 = (real_cell.servers[server].address for server in ("fs1", "fs2"))
    await trio.to_thread.run_sync(real_cell.volumes.create, name, "fs1")
    try:
        async with locating(real_cell) as locator:
            volume = await locator.volume(CELL, name, Preference.PREFER_RO)
            assert hosts(volume) == {fs1}
            move = ["move", name, fs1, "a", fs2, "a"]
            await trio.to_thread.run_sync(real_cell.vos, move)
            await locator.refresh(volume)
            assert hosts(volume) == {fs2}
            await trio.to_thread.run_sync(real_cell.volumes.remove, name, "fs2")
            with pytest.raises(VolumeMissing):
                await locator.refresh(volume)
    finally:
        for server in (fs1, fs2):
            leftover = ["remove", server, "a", name]
            real_cell.vos(leftover, check=False)
