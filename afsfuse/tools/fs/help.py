"""`fs help`, `fs apropos` and `fs version`."""

from __future__ import annotations

import json
import textwrap
from typing import TYPE_CHECKING

from afsfuse.tools import complain
from afsfuse.tools.fs import STATUSES
from afsfuse.tools.fs.commands import COMMANDS, NOT_OURS
from afsfuse.tools.fs.syntax import EXIT_USAGE, Kind, find, usage

if TYPE_CHECKING:
    from afsfuse.tools.fs.syntax import Command, Given

_ORDERED = sorted(COMMANDS, key=lambda command: command.name)


def help(given: Given) -> int:
    """All commands, or those that are asked for."""
    topics = given.many("topic")
    unknown = [topic for topic in topics if topic in NOT_OURS]
    for topic in unknown:
        complain(f"fs {topic}: not here: {NOT_OURS[topic]}")
    chosen = [(topic, find(topic, COMMANDS)) for topic in topics if topic not in NOT_OURS]
    if given.json:
        shown = [command for _, command in chosen] if topics else _ORDERED
        print(json.dumps({"commands": [described(command) for command in shown]}, indent=2))
    elif not topics:
        print("fs: Commands are:")
        for command in _ORDERED:
            print(f"{command.name:<16}{command.text}")
        print(f"\n{STATUSES}")
    else:
        print("\n\n".join(page(command, topic) for topic, command in chosen))
    return EXIT_USAGE if unknown else 0


def page(command: Command, name: str) -> str:
    """What is said of one command."""
    lines = [f"fs {command.name}: {command.text}"]
    if command.aliases:
        lines.append(f"aliases: {' '.join(command.aliases)}")
    lines += textwrap.wrap(
        f"Usage: {usage(command, name if name in command.aliases else None)}",
        100, subsequent_indent="         ", break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip
    flags = [p for p in command.switches if p.kind is Kind.FLAG]
    width = max(len(flag.name) for flag in flags)
    for number, flag in enumerate(flags):
        lines.append(f"{'       ' if number else 'Where: '}-{flag.name:<{width}}  {flag.text}")
    return "\n".join(lines)


def described(command: Command) -> dict[str, object]:
    """The same for programs."""
    return {
        "name": command.name,
        "aliases": list(command.aliases),
        "help": command.text,
        "parameters": [
            {"name": p.name, "kind": p.kind.name.lower(), "required": p.required, "help": p.text}
            for p in command.switches
        ],
    }


def apropos(given: Given) -> int:
    """Commands whose name or help has a word in it."""
    word = (given.one("topic") or "").lower()
    found = [c for c in _ORDERED if word in c.name or word in c.text.lower()]
    if given.json:
        print(json.dumps({"commands": [described(command) for command in found]}, indent=2))
        return 0
    for command in found:
        print(f"{command.name}: {command.text}")
    if not found:
        print("Sorry, no commands found")
    return 0


def version(given: Given) -> int:
    """The version of the whole."""
    from afsfuse import version as ours

    if given.json:
        print(json.dumps({"version": ours()}))
    else:
        print(f"afsfuse {ours()}")
    return 0
