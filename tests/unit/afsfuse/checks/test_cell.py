"""A cell in this process, looked over: well, and with what can be wrong."""

from __future__ import annotations

import time
from ipaddress import IPv4Address
from typing import TYPE_CHECKING

from afsfuse.cell.cellservdb import CellEntry, CellFiles, DatabaseServer
from afsfuse.cell.directory import CellDirectory
from afsfuse.cell.resolver import NoDns
from afsfuse.checks import cell as checks
from afsfuse.checks.findings import State
from afsfuse.democell import DemoCell
from afsfuse.democell.hosts import Host, HostTable
from tests.mount.usersmount import loopback_address

if TYPE_CHECKING:
    import pytest

    from afsfuse.checks.findings import Finding

CELL = "checked.test"


async def look(name: str = CELL) -> dict[str, list[Finding]]:
    """What is found of a cell on a loopback address, which has one file server."""
    address = loopback_address()
    servers = (DatabaseServer(IPv4Address(address), "", clone=False),)
    cells = CellDirectory(CellFiles(CELL, {CELL: CellEntry(CELL, servers)}), NoDns())
    cell = DemoCell(CELL, [address])
    cell.create_volume("root.cell")
    found: dict[str, list[Finding]] = {}
    async with cell.serving():
        for one in await checks.look(cells, name):
            found.setdefault(one.what, []).append(one)
    return found


async def test_all_is_well() -> None:
    found = await look()
    assert {one.state for several in found.values() for one in several} == {State.WELL}
    assert found.keys() == {"cell", "location", "file servers", "time", "callbacks"}


async def test_nobody_calls_back(monkeypatch: pytest.MonkeyPatch) -> None:
    async def keep_still(table: HostTable, host: Host, epoch: int) -> None:
        """As a firewall would have it."""
        host.epoch, host.met = epoch, True

    monkeypatch.setattr(HostTable, "_introduce", keep_still)
    monkeypatch.setattr(checks, "CALLBACK_SECONDS", 0.2)
    (callbacks,) = (await look())["callbacks"]
    assert callbacks.state is State.WRONG
    assert "firewall" in callbacks.advice


async def test_a_clock_that_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = type("Clock", (), {"time": staticmethod(lambda: time.time() - 900)})
    monkeypatch.setattr(checks, "time", slow)
    (clock,) = (await look())["time"]
    assert clock.state is State.WRONG


async def test_a_cell_that_nobody_knows() -> None:
    (found,) = (await look("other.test"))["cell"]
    assert found.state is State.WRONG
