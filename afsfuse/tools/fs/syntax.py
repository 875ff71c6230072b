"""Command lines as OpenAFS's tools read them: no argparse, and other rules.

A command has parameters in an order. Words come by position, one for each parameter, and all that
are left for one that takes many and behind which none is required; or behind switches,
`-path A B C`. Names of commands and switches may be cut
short as long as they stay unambiguous. After a switch that takes a value nothing comes by position.
A word that begins with a dash and a digit is a value. Two dashes are as good as one.
Source: cmd(3), and what `fs` of OpenAFS 1.8.9 does, with which a test compares this.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, NamedTuple

from afsfuse.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

EXIT_USAGE = 1


class Kind(enum.Enum):
    """What comes with a parameter."""

    FLAG = enum.auto()
    ONE = enum.auto()
    MANY = enum.auto()


class Parameter(NamedTuple):
    """One of a command."""

    name: str
    kind: Kind
    text: str
    """Of a flag what it does, else what its values are."""
    required: bool = False


class Command(NamedTuple):
    """One of the program."""

    name: str
    module: str
    """Of this package; it has a function of the command's name."""
    text: str
    """What it does, in a few words."""
    parameters: tuple[Parameter, ...] = ()
    aliases: tuple[str, ...] = ()

    @property
    def switches(self) -> tuple[Parameter, ...]:
        """All parameters, with those that every command has."""
        return (*self.parameters, JSON, HELP)


JSON = Parameter("json", Kind.FLAG, "print JSON, for programs")
HELP = Parameter("help", Kind.FLAG, "print how the command is used")


class Given(NamedTuple):
    """What was said on a command line."""

    command: Command
    values: Mapping[str, list[str]]
    flags: frozenset[str]

    def many(self, name: str) -> list[str]:
        """The values of a parameter, in their order; none if it was left out."""
        return self.values.get(name, [])

    def one(self, name: str) -> str | None:
        """The value of a parameter."""
        return next(iter(self.many(name)), None)

    def flag(self, name: str) -> bool:
        """Whether a flag was given."""
        return name in self.flags

    @property
    def paths(self) -> list[str]:
        """The paths; without any it is the current directory."""
        return self.many("path") or ["."]

    @property
    def json(self) -> bool:
        """Whether programs are to read the answer."""
        return "json" in self.flags


def wrong(message: str) -> UsageError:
    """A mistake on the command line."""
    return UsageError(message, exit_code=EXIT_USAGE)


def find(name: str, commands: Iterable[Command]) -> Command:
    """The command of a name or alias, or of the beginning of one name only."""
    commands = list(commands)
    for command in commands:
        if name == command.name or name in command.aliases:
            return command
    found = {
        command.name: command
        for command in commands
        if any(known.startswith(name) for known in (command.name, *command.aliases))
    }
    if not found:
        raise wrong(f"fs: there is no command {name!r}: see afsfuse fs help")
    if len(found) > 1:
        raise wrong(f"fs: {name!r} may be {_either(found)}")
    return next(iter(found.values()))


def parse(command: Command, words: Sequence[str]) -> Given:
    """Read what stands behind a command's name. Raises `UsageError`."""
    values: dict[str, list[str]] = {}
    flags: set[str] = set()
    waiting = [parameter for parameter in command.parameters if parameter.kind is not Kind.FLAG]
    positional = True
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if _is_switch(word):
            parameter = _switch(command, word)
            if parameter.kind is Kind.FLAG:
                flags.add(parameter.name)
                continue
            positional = False
            taken = _values(rest, 1 if parameter.kind is Kind.ONE else len(rest))
            if not taken:
                raise wrong(f"fs {command.name}: -{parameter.name} wants a value")
        elif positional and waiting:
            parameter, *waiting = waiting
            taken = [word]
            if parameter.kind is Kind.MANY and not any(later.required for later in waiting):
                taken += _values(rest, len(rest))
        else:
            raise wrong(f"fs {command.name}: {word!r} is one word too many{_see(command)}")
        if parameter.name in values:
            raise wrong(f"fs {command.name}: -{parameter.name} is given twice")
        values[parameter.name] = taken
    given = Given(command, values, frozenset(flags))
    missing = [p.name for p in command.parameters if p.required and not given.many(p.name)]
    if missing and not given.flag("help"):
        raise wrong(f"fs {command.name}: -{missing[0]} is missing{_see(command)}")
    return given


def usage(command: Command, name: str | None = None) -> str:
    """One line that shows all that can be given, with the name under which it was asked for."""
    parts = [f"afsfuse fs {name or command.name}"]
    for parameter in command.switches:
        shown = f"-{parameter.name}"
        if parameter.kind is not Kind.FLAG:
            shown += f" <{parameter.text}>" + ("+" if parameter.kind is Kind.MANY else "")
        parts.append(shown if parameter.required else f"[{shown}]")
    return " ".join(parts)


def _is_switch(word: str) -> bool:
    return len(word) > 1 and word[0] == "-" and not word[1].isdigit()


def _values(rest: list[str], most: int) -> list[str]:
    """Take values off the front of what is left."""
    taken: list[str] = []
    while rest and len(taken) < most and not _is_switch(rest[0]):
        taken.append(rest.pop(0))
    return taken


def _switch(command: Command, word: str) -> Parameter:
    name = word[2:] if word.startswith("--") else word[1:]
    known = {parameter.name: parameter for parameter in command.switches}
    if name in known:
        return known[name]
    found = [parameter for parameter in command.switches if parameter.name.startswith(name)]
    if not name or not found:
        raise wrong(f"fs {command.name}: there is no switch {word}{_see(command)}")
    if len(found) > 1:
        raise wrong(f"fs {command.name}: {word} may be {_either(f'-{p.name}' for p in found)}")
    return found[0]


def _either(names: Iterable[str]) -> str:
    *others, last = sorted(names)
    return f"{', '.join(others)} or {last}"


def _see(command: Command) -> str:
    return f": see afsfuse fs help {command.name}"
