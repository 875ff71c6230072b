"""The same commands as a parser of argparse, of which manual pages and completions are made.

Command lines are read by `syntax.py`, which argparse cannot do as OpenAFS's tools do.
"""

from __future__ import annotations

import argparse

from afsfuse.tools.fs import STATUSES
from afsfuse.tools.fs.commands import COMMANDS
from afsfuse.tools.fs.syntax import Command, Kind


def parser() -> argparse.ArgumentParser:
    """All commands with their parameters."""
    top = argparse.ArgumentParser(
        prog="afsfuse fs",
        description="The commands of OpenAFS's fs, with its arguments and layouts. Names of "
        "commands and switches may be cut short while they stay unambiguous.",
        epilog=STATUSES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    below = top.add_subparsers(dest="command", metavar="COMMAND")
    for command in sorted(COMMANDS, key=lambda command: command.name):
        made = below.add_parser(
            command.name,
            aliases=command.aliases,
            help=command.text,
            description=f"{command.text[0].upper()}{command.text[1:]}.",
            add_help=False,
        )
        _add(made, command)
    return top


def _add(made: argparse.ArgumentParser, command: Command) -> None:
    for parameter in command.switches:
        switch = f"-{parameter.name}"
        if parameter.kind is Kind.FLAG:
            made.add_argument(switch, action="store_true", help=parameter.text)
            continue
        paths = parameter.name in ("path", "dir", "fromdir", "todir", "files", "file")
        made.add_argument(
            switch,
            dest=parameter.name,
            metavar="PATH" if paths else parameter.name.upper(),
            nargs="+" if parameter.kind is Kind.MANY else None,
            required=parameter.required,
            help=parameter.text,
        )
