"""`afsfuse check`: the installation, looked over: what is well, what is not, and what to do."""

from __future__ import annotations

import contextlib
import json
import logging
from typing import TYPE_CHECKING

from afsfuse.errors import printable
from afsfuse.tools.common import EXIT_FAILED, EXIT_OK, Parser

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from afsfuse.checks.findings import Finding

MARKS = {"well": "ok", "note": "--", "wrong": "!!"}
_EPILOG = """\
A line for each thing that was looked at begins with ok, with -- (works, and there is something to
know) or with !! (something is not well); what to do stands below. It asks the cell's servers and a
KDC, with nobody's token, and changes nothing.

exit status:
  0   all is well
  1   wrong command line
  4   a bug of afsfuse
  8   interrupted by the user
  32  something is not well
"""


def parser() -> Parser:
    """The command line."""
    known = Parser(
        "check",
        "Look over what AFS needs here: FUSE, compiled modules, configuration, the cache folder, "
        "Kerberos and its clock, and of CELL (else the cell of ThisCell) the location servers, the "
        "file servers, and whether they can call this machine back.",
        _EPILOG,
    )
    known.add_argument("cell", metavar="CELL", nargs="?", help="else that of ThisCell")
    known.add_argument("--realm", metavar="REALM", help="in place of the one of krb5.conf")
    known.add_argument("--json", action="store_true", help="for programs")
    known.add_confdir()
    return known


def main(arguments: Sequence[str]) -> int:
    """Run it; returns the exit status."""
    given = parser().parse_args(arguments)
    everything: list[Finding] = []
    from afsfuse.checks.everything import look

    with _silence("afsfuse", "rxrpc"):  # what is wrong is said here
        for found in look(given.cell, given.realm, given.confdir):
            everything += found
            if not given.json:
                for one in found:
                    _print(one)
    if given.json:
        shown = [
            {"what": one.what, "state": one.state.value, "text": one.text, "advice": one.advice}
            for one in everything
        ]
        print(json.dumps({"findings": shown}, indent=2))
    return EXIT_FAILED if any(one.state.value == "wrong" for one in everything) else EXIT_OK


@contextlib.contextmanager
def _silence(*parts: str) -> Iterator[None]:
    """Let nothing of these be logged meanwhile."""
    loggers = [logging.getLogger(part) for part in parts]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _print(one: Finding) -> None:
    print(f"{MARKS[one.state.value]}  {one.what:<13}{printable(one.text)}", flush=True)
    if one.advice and one.state.value != "well":
        print(f"    {'':<13}{printable(one.advice)}", flush=True)
