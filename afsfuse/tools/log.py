"""`afsfuse log`: how much the daemons log, part by part; changed while they run."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from afsfuse.control.places import ask_each
from afsfuse.errors import UsageError
from afsfuse.tools.commandline import EXIT_USAGE
from afsfuse.tools.common import EXIT_OK, Parser

if TYPE_CHECKING:
    from collections.abc import Sequence

_LEVELS = ("debug", "info", "warning", "error", "default")
_EPILOG = """\
`afsfuse log` alone lists the parts. Levels are debug, info, warning and error; `default` takes a
part's level back, and that of `all` to what it was at the start. What is set holds until the
daemon ends. A daemon that gets SIGUSR1 writes where all its tasks stand into its log.

exit status:
  0   done
  1   wrong command line
  4   a bug of afsfuse
  8   interrupted by the user
  32  no daemon is running, or it refused
"""


def parser() -> Parser:
    """The command line."""
    known = Parser(
        "log",
        "Show how much each part of the daemons logs, or change it at once, for the mounts that "
        "are yours; root: for all.",
        _EPILOG,
    )
    known.add_argument(
        "levels", metavar="PART=LEVEL", nargs="*", help="such as cache=debug, or all=warning"
    )
    known.add_argument("--json", action="store_true", help="for programs")
    return known


def main(arguments: Sequence[str]) -> int:
    """Run it; returns the exit status."""
    given = parser().parse_args(arguments)
    wanted = {}
    for word in given.levels:
        part, equals, level = word.partition("=")
        if not equals or level.lower() not in _LEVELS:
            raise UsageError(
                f"log: {word}: PART=LEVEL is expected, with one of {', '.join(_LEVELS)}",
                exit_code=EXIT_USAGE,
            )
        wanted[part] = level.lower()
    answers = ask_each("log-levels", set=wanted)
    if given.json:
        print(json.dumps({"mounts": answers}, indent=2))
        return EXIT_OK
    for answer in answers:
        if len(answers) > 1:
            print(f"{answer['mount']}:")
        for part, level in answer["levels"].items():
            print(f"{part:<12}{level}")
    return EXIT_OK
