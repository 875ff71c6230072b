"""`afsfuse fs`: the commands that people know from OpenAFS's `fs`, with its names and layouts.

`commands.py` has the table, `syntax.py` reads command lines by it, and the rest is one noun a file,
with a function for each of its commands. Only the file that is needed is loaded.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from afsfuse.errors import AfsError, NoDaemon, UsageError, printable
from afsfuse.tools import complain
from afsfuse.tools.fs.commands import COMMANDS, NOT_OURS
from afsfuse.tools.fs.syntax import find, parse, usage, wrong

if TYPE_CHECKING:
    from argparse import ArgumentParser
    from collections.abc import Sequence

EXIT_FAILED = 1
STATUSES = """\
exit status:
  0   done
  1   not done, for at least one of the paths or servers: each is named; or a wrong command line
  4   a bug of afsfuse
  8   interrupted by the user
  32  no daemon is running"""


def parser() -> ArgumentParser:
    """The command line for manual pages and completions, which alone need one of argparse."""
    from afsfuse.tools.fs import manual

    return manual.parser()


def main(arguments: Sequence[str]) -> int:
    """Run one command; returns the exit status."""
    words = list(arguments)
    if not words:
        raise wrong("fs: which command? see afsfuse fs help")
    name = words.pop(0)
    if name in ("-h", "-help", "--help"):
        print("usage: afsfuse fs COMMAND [ARGUMENTS]\n")
        words = []
        name = "help"
    elif name in ("-version", "--version"):
        name = "version"
    if name in NOT_OURS:
        raise wrong(f"fs {name}: not here: {NOT_OURS[name]}")
    command = find(name, COMMANDS)
    given = parse(command, words)
    if given.flag("help"):
        print(f"Usage: {usage(command)}")
        return 0
    module = importlib.import_module(f"afsfuse.tools.fs.{command.module}")
    try:
        status: int = getattr(module, command.name)(given)
    except (NoDaemon, UsageError):
        raise
    except AfsError as exc:
        complain(printable(str(exc)))
        return EXIT_FAILED
    return status
