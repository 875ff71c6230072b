"""`afsfuse status`: what was written and is not on its server yet, why not, and giving it up."""

from __future__ import annotations

import json
import os.path
import sys
import time
from typing import TYPE_CHECKING, Any

from afsfuse.control.places import ask_each
from afsfuse.tools import complain
from afsfuse.tools.common import EXIT_FAILED, EXIT_OK, Parser
from afsfuse.tools.mounts import duration

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    Shown = dict[str, Any]


def parser() -> Parser:
    """The command line."""
    known = Parser(
        "status",
        "Show what you have written and no server has yet; to root, what everybody has. What could "
        "not be stored is kept and tried again, until it is given up with --discard.",
    )
    known.add_argument("--json", action="store_true", help="for programs")
    known.add_argument(
        "--discard", metavar="PATH", help="give up what is not stored of this file: it is lost"
    )
    return known


def main(arguments: Sequence[str]) -> int:
    """Run it; returns the exit status."""
    given = parser().parse_args(arguments)
    if given.discard is not None:
        path = os.fsencode(os.path.abspath(given.discard))
        return _discard(path.decode("utf-8", "backslashreplace"))  # as daemons show it
    files = [file for answer in ask_each("unstored") for file in answer["files"]]
    if given.json:
        print(json.dumps({"files": files}, indent=2))
        return EXIT_OK
    if not files:
        print("Everything is stored.")
    now = time.time()
    for file in files:
        print(line(file, now))
    if any(file["error"] is not None for file in files):
        print("It is kept and tried again. To give it up: afsfuse status --discard PATH")
    return EXIT_OK


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
