"""`afsfuse status`: what mounts have and do, what is not on its server yet, and giving it up."""

from __future__ import annotations

import json
import os.path
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from afsfuse.control.places import ask_each
from afsfuse.tools import complain, figures
from afsfuse.tools.common import EXIT_FAILED, EXIT_OK, Parser
from afsfuse.tools.mounts import duration

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    Shown = dict[str, Any]

WATCH_SECONDS = 2.0
_CLEAR = "\x1b[H\x1b[2J\x1b[3J"  # cursor home, clear the screen, clear what was scrolled away
_EPILOG = """\
Everybody is shown servers and the caches; volumes that he may see; his own calls, tokens and what
he has written. Root and whoever made the mount are shown all calls. --json has sizes in bytes,
times in seconds, and counts since the daemon's start.

exit status:
  0   done
  1   wrong command line
  4   a bug of afsfuse
  8   interrupted by the user
  32  no daemon is running, or it did not answer; of --discard: nothing was given up
"""


def parser() -> Parser:
    """The command line."""
    known = Parser(
        "status",
        "Show the mounts of this machine: requests, caches, servers, volumes, calls under way, "
        "your tokens, and what you have written and no server has yet (to root: what everybody "
        "has). What could not be stored is kept and tried again, until it is given up with "
        "--discard.",
        _EPILOG,
    )
    known.add_argument("--json", action="store_true", help="for programs")
    what = known.add_mutually_exclusive_group()
    what.add_argument(
        "--watch", action="store_true",
        help=f"show it again every {WATCH_SECONDS:.0f} s, until Ctrl-C",
    )  # fmt: skip
    what.add_argument("--unstored", action="store_true", help="only what is not stored yet")
    what.add_argument(
        "--discard", metavar="PATH", help="give up what is not stored of this file: it is lost"
    )
    return known


def main(arguments: Sequence[str]) -> int:
    """Run it; returns the exit status."""
    given = parser().parse_args(arguments)
    if given.discard is not None:
        path = os.fsencode(os.path.abspath(given.discard))
        return _discard(path.decode("utf-8", "backslashreplace"))  # as daemons show it
    if given.watch:
        return _watch(as_json=given.json)
    silent: list[str] = []
    answers = ask_each("unstored" if given.unstored else "statistics", silent.append)
    mounts = [] if given.unstored else answers
    files = [file for answer in answers for file in answer["files"]]
    if given.json:
        print(json.dumps({"mounts": mounts, "files": files}, indent=2))
    else:
        print("\n".join(lines(mounts, files, time.time())))
    for said in silent:
        complain(said)
    return EXIT_FAILED if silent else EXIT_OK


def lines(mounts: Iterable[Shown], files: Iterable[Shown], now: float) -> list[str]:
    """What is said of all mounts."""
    said = []
    for shown in mounts:
        said.append(figures.heading(shown))
        said += [f"  {word:<12}{text}" for word, text in figures.summary(shown)]
        for section in figures.sections(shown, now):
            said += ["", *(f"  {row}" for row in section.splitlines())]
        said.append("")
    files = list(files)
    unstored = [line(file, now) for file in files]
    if any(file["error"] is not None for file in files):
        unstored.append("It is kept and tried again. To give it up: afsfuse status --discard PATH")
    return said + (unstored or ["Everything is stored."])


def line(file: Shown, now: float) -> str:
    """What is said of one file."""
    text = (
        f"{file['path']}: {file['bytes']} bytes of {file['identity']}, "
        f"for {duration(max(0.0, now - file['since']))}, volume {file['volume']} of {file['cell']}"
    )
    if file["error"] is None:
        return f"{text}: being stored"
    wait = file["next_try"]
    again = "" if wait is None else f"; next try in {round(wait)} s"
    return f"{text}\n    {file['error']}{again}"


def _watch(*, as_json: bool) -> int:
    """Show it again and again."""
    from afsfuse.control.feeds import follow_each

    latest: dict[int, Shown] = {}
    with follow_each("watch", every=WATCH_SECONDS) as feed, suppress(KeyboardInterrupt):
        while feed.lives:
            for source, shown in feed.wait():
                if as_json:
                    print(json.dumps(shown), flush=True)
                elif "dropped" not in shown:
                    latest[source] = shown
            if as_json or not latest:
                continue
            mounts = list(latest.values())
            files = [file for shown in mounts for file in shown["files"]]
            text = "\n".join(lines(mounts, files, time.time()))
            print(_CLEAR + text if sys.stdout.isatty() else f"{text}\n", flush=True)
    return EXIT_OK


def _discard(path: str) -> int:
    files = [file for answer in ask_each("unstored") for file in answer["files"]]
    found = [file for file in files if file["path"] == path]
    if not found:
        complain(f"{path}: nothing of it waits for being stored, or it is not yours")
        return EXIT_FAILED
    if not _confirmed(found):
        return EXIT_FAILED
    lost = [one for answer in ask_each("discard", path=path) for one in answer["discarded"]]
    for one in lost:
        print(f"{one['path']}: {one['bytes']} bytes of {one['identity']} were given up")
    return EXIT_OK


def _confirmed(files: Iterable[Shown]) -> bool:
    """Whether a person at a terminal says yes; a script has made up its mind."""
    if not sys.stdin.isatty():
        return True
    for file in files:
        print(line(file, time.time()))
    return input("Give it up? It is lost then. [y/N] ").strip().lower() in ("y", "yes")
