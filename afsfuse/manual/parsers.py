"""The command line as a whole: `cli.parser()` with the parsers of all commands in their places."""

from __future__ import annotations

import argparse
import importlib
from typing import TYPE_CHECKING, Any, Protocol

from afsfuse import cli
from afsfuse.tools import COMMANDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

FOLDERS = ("DIR", "FOLDER")
FILES = ("FILE", "PATH", "KEYTAB")
"""What stands for folders and files in helps; shells complete those."""


class Table(Protocol):
    """A module that reads command lines by itself."""

    COMMANDS: Sequence[Any]
    STATUSES: str
    usage: Callable[[Any], str]


def whole() -> argparse.ArgumentParser:
    """The parser of `afsfuse` with everything below it."""
    top = cli.parser()
    known = commands(top)
    for name in COMMANDS:
        tool: Any = importlib.import_module(f"afsfuse.tools.{name}")
        known[name] = tool.parser() if hasattr(tool, "parser") else of_table(name, tool)
    return top


def of_table(name: str, tool: Table) -> argparse.ArgumentParser:
    """The parser of a program that reads its command lines by a table of its own, `COMMANDS`.

    A command there has a name, aliases, a text and switches; a switch has a name, a text, and as
    its kind whether one or many values come with it, or none.
    """
    parser = argparse.ArgumentParser(
        prog=f"afsfuse {name}", description=COMMANDS.get(name), epilog=tool.STATUSES, add_help=False
    )
    below = parser.add_subparsers(metavar="COMMAND")
    for command in tool.COMMANDS:
        one = below.add_parser(
            command.name,
            aliases=list(command.aliases),
            help=command.text,
            description=command.text,
            usage=tool.usage(command),
            add_help=False,
        )
        for switch in command.switches:
            kind = switch.kind.name
            more: dict[str, Any] = {"action": "store_true"}
            if kind != "FLAG":
                more = {"metavar": switch.text.upper(), "nargs": "+" if kind == "MANY" else None}
            one.add_argument(f"-{switch.name}", help=switch.text, **more)
    return parser


def commands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The commands below a parser, by name; aliases have the same parser."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return action.choices
    return {}


def summaries(parser: argparse.ArgumentParser) -> dict[str, str]:
    """What the help says of each command in a line."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return {one.dest.partition(" ")[0]: one.help or "" for one in action._choices_actions}
    return {}


def arguments(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Options and operands that the help shows."""
    for action in parser._actions:
        hidden = action.help == argparse.SUPPRESS
        if not (hidden or isinstance(action, argparse._SubParsersAction)):
            yield action


def help_of(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    """The help of an argument, as it is shown."""
    shown = parser._get_formatter()._expand_help(action) if action.help else ""
    return " ".join(shown.split())


def operand_of(action: argparse.Action) -> str:
    """What stands for the value of an argument; empty if it has none."""
    if action.nargs == 0:
        return ""
    if isinstance(action.metavar, tuple):
        return " ".join(action.metavar)
    if action.metavar is not None:
        return action.metavar
    if action.choices is not None:
        return "|".join(map(str, action.choices))
    return action.dest.upper()
