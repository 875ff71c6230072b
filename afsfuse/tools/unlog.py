"""`afsfuse unlog`: drop tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from afsfuse.auth import keyring
from afsfuse.auth.folders import TOKENS
from afsfuse.control.places import places
from afsfuse.errors import ControlRefused, NoDaemon
from afsfuse.tools import complain
from afsfuse.tools.common import EXIT_FAILED, EXIT_OK, Parser

if TYPE_CHECKING:
    from collections.abc import Sequence


def parser() -> Parser:
    """The command line."""
    known = Parser("unlog", "Drop your tokens: for the CELLs, or all. Their keys are overwritten.")
    known.add_cells("cells whose tokens to drop")
    return known


def main(arguments: Sequence[str]) -> int:
    """Run it; returns the exit status."""
    given = parser().parse_args(arguments)
    cells = [cell.lower() for cell in (*given.cells, *given.more_cells)] or None
    status = EXIT_OK
    dropped: set[str] = set()
    for place in places():
        try:
            dropped.update(place.ask("drop", cells=cells)["dropped"])
        except NoDaemon as exc:
            if (place.folder / TOKENS).exists():  # else there was never one that could keep any
                complain(f"tokens that {place.folder} may hold for you stay there: {exc}")
                status = EXIT_FAILED
        except ControlRefused as exc:
            complain(f"{place.folder}: {exc}")
            status = EXIT_FAILED
    for cell in dropped.union(cells or ()):
        keyring.forget(cell)
    for cell in cells or ():
        if cell not in dropped:
            complain(f"{cell}: you have no token for this cell")
            status = EXIT_FAILED
    return status
