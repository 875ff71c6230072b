"""Completion scripts: by shtab for bash and zsh; for fish, which it does not know, by ourselves."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from afsfuse.config import MOUNT_FLAGS, OPTIONS
from afsfuse.manual.parsers import (
    FILES,
    FOLDERS,
    arguments,
    commands,
    help_of,
    operand_of,
    summaries,
    whole,
)

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

_HEAD = """\
# Completion of afsfuse for fish. Made by python -m afsfuse.manual.

function __afsfuse_at --description "Whether these are the command's first words"
    set -l words (commandline -opc)
    set -e words[1]
    set -l given (string match --invert -- '-*' $words)
    set -l many (count $argv)
    test (count $given) -ge $many; and test "$given[1..$many]" = "$argv"
end

function __afsfuse_none --description "Whether no command was given yet"
    set -l words (commandline -opc)
    test -z (string match --invert -- '-*' $words[2..-1])[1]
end

complete -c afsfuse -f
"""


def all_scripts() -> dict[str, str]:
    """The scripts by the names under which shells look for them, below a folder for each shell."""
    import shtab

    parser = _told(whole(), shtab.FILE, shtab.DIRECTORY)
    return {
        "bash/afsfuse": shtab.complete(parser, "bash"),
        "zsh/_afsfuse": shtab.complete(parser, "zsh"),
        "fish/afsfuse.fish": fish(whole()),
    }


def _told(parser: argparse.ArgumentParser, file: object, folder: object) -> argparse.ArgumentParser:
    """Tell shtab which arguments are files and folders."""
    for action in arguments(parser):
        kind = _kind(action)
        if kind:
            action.complete = file if kind == "file" else folder  # type: ignore[attr-defined]
    for command in commands(parser).values():
        _told(command, file, folder)
    return parser


def _kind(action: argparse.Action) -> str:
    """`file`, `folder`, or nothing that a shell could complete."""
    operand = operand_of(action)
    return "folder" if operand in FOLDERS else "file" if operand in FILES else ""


def fish(parser: argparse.ArgumentParser) -> str:
    """The script for fish."""
    return "\n".join([_HEAD, *_fish(parser, [])]) + "\n"


def _fish(parser: argparse.ArgumentParser, at: list[str]) -> Iterator[str]:
    below = commands(parser)
    told = summaries(parser)
    here = f"__afsfuse_at {' '.join(at)}".rstrip()
    if below:
        seen = " ".join(below)
        free = f"{here}; and not __fish_seen_subcommand_from {seen}" if at else "__afsfuse_none"
        for name in below:
            yield _complete(free, f"-a {name}", told.get(name, ""))
        here = free
    for action in arguments(parser):
        yield from _argument(parser, action, here)
    for name, command in below.items():
        yield from _fish(command, [*at, name])


def _argument(parser: argparse.ArgumentParser, action: argparse.Action, here: str) -> Iterator[str]:
    """What fish is told of one option or operand."""
    value = ""
    if operand_of(action):
        value = " -r -F" if _kind(action) else " -x"
        if words := _words(action):
            value += f" -a '{' '.join(words)}'"
        elif _kind(action) == "folder":
            value = " -x -a '(__fish_complete_directories)'"
    if not action.option_strings:
        if _kind(action):
            yield _complete(here, value.replace(" -r", "").replace(" -x", " -f").strip(), "")
        return
    names = [f"{_dash(name)} {name.lstrip('-')}" for name in action.option_strings]
    yield _complete(here, f"{' '.join(names)}{value}", help_of(parser, action))


def _words(action: argparse.Action) -> list[str]:
    """The values that an option can have, where they are known."""
    if action.choices is not None:
        return [str(choice) for choice in action.choices]
    if action.dest == "options":
        return [
            *(f"{name}=" * bool(one.value) or name for name, one in OPTIONS.items()),
            *MOUNT_FLAGS,
        ]
    return []


def _dash(name: str) -> str:
    """How fish calls this kind of option: --long, -s, or -old."""
    return "-l" if name.startswith("--") else "-s" if len(name) == 2 else "-o"


def _complete(condition: str, what: str, text: str) -> str:
    shown = re.sub(r"(['\\])", r"\\\1", text)
    description = f" -d '{shown}'" if text else ""
    return f"complete -c afsfuse -n '{condition}' {what}{description}"
