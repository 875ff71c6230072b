"""`afsfuse trace`: requests, operations, calls and packets of a mount, as they come."""

from __future__ import annotations

import contextlib
import json
import sys
from typing import TYPE_CHECKING, Any

from afsfuse.control.feeds import addresses_of, follow, follow_each
from afsfuse.errors import UsageError, printable
from afsfuse.tools import complain
from afsfuse.tools.commandline import EXIT_USAGE
from afsfuse.tools.common import EXIT_OK, Parser

if TYPE_CHECKING:
    from collections.abc import Sequence

    Line = dict[str, Any]

_EPILOG = """\
A request is shown when its answer was not in memory. What operations and calls are made for is
known where they are begun for it; those that had to wait for a channel, and what is done in the
background, are shown without a PATH and a PID, and with a server. Packets are shown without what
is in them. Tracing packets makes the daemon slower while it lasts.

exit status:
  0   ended by Ctrl-C
  1   wrong command line, or PATH is in no mount of ours
  4   a bug of afsfuse
  8   interrupted by the user before it began
  32  no daemon is running, or it refused
"""


def parser() -> Parser:
    """The command line."""
    known = Parser(
        "trace",
        "Show what goes on in the mounts that are yours (root: in all), an event a line, until "
        "Ctrl-C: everything, or what concerns the volume of PATH, a server, a process.",
        _EPILOG,
    )
    what = known.add_mutually_exclusive_group()
    what.add_argument("path", metavar="PATH", nargs="?", help="operations on its volume")
    what.add_argument("--server", metavar="HOST", help="what goes to and comes from a server")
    what.add_argument("--pid", metavar="PID", type=int, help="what is done for a process")
    known.add_argument("--calls", action="store_true", help="leave packets out")
    known.add_argument("--json", action="store_true", help="a JSON object a line")
    return known


def main(arguments: Sequence[str]) -> int:
    """Run it; returns the exit status."""
    given = parser().parse_args(arguments)
    wanted: dict[str, Any] = {"packets": not given.calls}
    if given.server is not None:
        wanted["hosts"] = addresses_of(given.server)
        if not wanted["hosts"]:
            raise UsageError(f"trace: {given.server}: no such host", exit_code=EXIT_USAGE)
    if given.pid is not None:
        wanted["pid"] = given.pid
    if given.path is not None:
        from afsfuse.tools.daemons import around

        daemon, below = around(given.path)
        feed = follow([daemon.connect()], "trace", path=below, **wanted)
    else:
        feed = follow_each("trace", **wanted)
    with feed, contextlib.suppress(KeyboardInterrupt):
        while feed.lives:
            for _, event in feed.wait():
                _show(event, as_json=given.json)
            sys.stdout.flush()
    return EXIT_OK


def _show(event: Line, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(event, separators=(",", ":")))
    elif "dropped" in event and "event" not in event:
        complain(f"{event['dropped']} events were left out: they came too fast")
    else:
        print(text(event))


def text(event: Line) -> str:
    """An event as people read it: when, what, and the rest in the order in which it came."""
    rest = [
        f"{name}={_value(value)}"
        for name, value in event.items()
        if name not in ("t", "event") and value not in (None, "", [])
    ]
    return f"{event['t']:10.6f} {event['event']:<18}{' '.join(rest)}"


def _value(value: object) -> str:
    if isinstance(value, list):
        return "+".join(map(str, value))
    words = printable(str(value))
    return repr(words) if " " in words else words
