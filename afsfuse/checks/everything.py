"""All checks, in the order in which one leads to the next."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import trio

from afsfuse.cell.cellservdb import load, search_folders
from afsfuse.cell.directory import CellDirectory
from afsfuse.checks import cell as cell_checks
from afsfuse.checks import kerberos, machine
from afsfuse.checks.findings import note
from afsfuse.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from afsfuse.cell.cellservdb import CellFiles
    from afsfuse.checks.findings import Finding


def look(cell: str | None, realm: str | None, confdir: Path | None) -> Iterator[list[Finding]]:
    """What is found, as it is found. Nothing of it raises."""

    def files() -> CellFiles:
        return load(search_folders(confdir))

    yield list(machine.look(files))
    yield trio.run(kerberos.look, realm, _ask_dns)
    try:
        known = files()
    except UsageError:
        return  # that was told
    name = cell or known.this_cell
    if name is None:
        yield [note("cell", "none was looked at: there is no ThisCell", "name one")]
        return
    yield trio.run(partial(cell_checks.look, CellDirectory(known), name))


async def _ask_dns(realm: str) -> list[tuple[str, int]]:
    from afsfuse.cell.dns import DnsResolver

    return await DnsResolver().kerberos_servers(realm)
