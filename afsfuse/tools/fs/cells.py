"""Cells: `wscell`, `listcells`, `listaliases`, `newcell`, `newalias`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from afsfuse.control.hostnames import address_of, names_of
from afsfuse.errors import printable
from afsfuse.tools import complain
from afsfuse.tools.fs import EXIT_FAILED
from afsfuse.tools.fs.doing import as_json, everywhere, tell
from afsfuse.tools.fs.syntax import wrong

if TYPE_CHECKING:
    from collections.abc import Iterator

    from afsfuse.tools.fs.doing import Shown
    from afsfuse.tools.fs.syntax import Given


def wscell(given: Given) -> int:
    """Show the local cell."""
    answers, status = everywhere("cells")
    cells = list(dict.fromkeys(answer["this_cell"] for answer in answers))
    if given.json:
        as_json(cell=cells[0], cells=cells)
        return status
    for cell in cells:
        if cell is None:
            complain("this machine belongs to no cell: have ThisCell in /etc/afsfuse")
            status = EXIT_FAILED
        else:
            print(f"This workstation belongs to cell '{cell}'")
    return status


def listcells(given: Given) -> int:
    """Show the cells and their servers."""
    answers, status = everywhere("cells")
    if given.json:
        as_json(mounts=answers)
        return status
    servers = [one for answer in answers for cell in answer["cells"] for one in cell["servers"]]
    names = {} if given.flag("numeric") else names_of(servers)

    def lines(answer: Shown) -> Iterator[str]:
        for cell in answer["cells"]:
            hosts = "".join(f" {printable(names.get(one, one))}" for one in cell["servers"])
            yield f"Cell {cell['name']} on hosts{hosts}."

    tell(answers, lines)
    return status


def listaliases(given: Given) -> int:
    """Show the other names of cells."""
    answers, status = everywhere("cells")
    if given.json:
        as_json(mounts=[{"mount": a["mount"], "aliases": a["aliases"]} for a in answers])
        return status
    tell(
        answers, lambda a: [f"Alias {one['alias']} for cell {one['cell']}" for one in a["aliases"]]
    )
    return status


def newcell(given: Given) -> int:
    """Make a cell known, or its servers."""
    servers = []
    for host in given.many("servers"):
        address = address_of(host)
        if address is None:
            complain(f"{host}: nobody knows the address of this host; it is left out")
        else:
            servers.append(address)
    if not servers:
        raise wrong("fs newcell: no server is left")
    answers, status = everywhere(
        "new-cell", name=given.one("name"), servers=servers, linked=given.one("linkedcell")
    )
    if given.json:
        as_json(mounts=answers)
    return status


def newalias(given: Given) -> int:
    """Give a cell another name."""
    answers, status = everywhere("new-alias", alias=given.one("alias"), name=given.one("name"))
    if given.json:
        as_json(mounts=answers)
    return status
