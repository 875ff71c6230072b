"""Where things are: `whereis`, `whichcell`, `getfid`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from afsfuse.control.hostnames import names_of
from afsfuse.errors import printable
from afsfuse.tools.fs.doing import as_json, gather

if TYPE_CHECKING:
    from collections.abc import Callable

    from afsfuse.tools.fs.doing import Shown
    from afsfuse.tools.fs.syntax import Given


def whereis(given: Given) -> int:
    """Show the file servers of the volumes of paths."""
    answers, status = gather(given.paths, lambda served: served.ask("what"))
    addresses = [address for answer in answers for address in answer["servers"]]
    names = {} if given.flag("numeric") or given.json else names_of(addresses)
    if given.json:
        as_json(files=answers)
        return status
    for answer in answers:
        servers = [printable(names.get(each, each)) for each in answer["servers"]]
        hosts = "hosts" if len(servers) > 1 else "host"
        # The blank at the end is OpenAFS's.
        print(f"File {printable(answer['path'])} is on {hosts} {' '.join(servers)} ")
    return status


def whichcell(given: Given) -> int:
    """Show the cells of paths."""
    return _lines(given, lambda one: f"File {printable(one['path'])} lives in cell '{one['cell']}'")


def getfid(given: Given) -> int:
    """Show the numbers of files."""
    return _lines(
        given,
        lambda one: (
            f"File {printable(one['path'])} ({'.'.join(map(str, one['fid']))}) "
            f"located in cell {one['cell']}"
        ),
    )


def _lines(given: Given, line: Callable[[Shown], str]) -> int:
    answers, status = gather(given.paths, lambda served: served.ask("what"))
    if given.json:
        as_json(files=answers)
        return status
    for answer in answers:
        print(line(answer))
    return status
