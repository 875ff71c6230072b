"""Runs the commands of a block as a reader would, with the names of the test's own cell."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tests.docs.pages import ROOT
from tests.docs.vocabulary import commands

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.docs.pages import Block

    Run = Callable[[str], subprocess.CompletedProcess[str]]

SECONDS = 120.0
"""For a block: machines are shared."""
BIN = Path(sys.executable).parent
_SEPARATOR = "\x1e"  # between what two commands print


@dataclass(frozen=True)
class Names:
    """What stands for the names in the pages."""

    table: Mapping[str, str] = field(default_factory=dict)
    """Each is replaced where it stands as a word, or at the beginning of a path."""

    def put_into(self, text: str) -> str:
        text = text.replace(".venv/bin/", "")
        for name, ours in self.table.items():
            word = rf"(?<![\w./]){re.escape(name)}(?![\w-]|\.\w)"
            text = re.sub(word, ours.replace("\\", r"\\"), text)
        return text


def run_block(block: Block, names: Names, run: Run) -> None:
    """Run all commands in one shell; AssertionError at the first that fails, or that prints
    something else than the page says.
    """
    told = commands(block)
    lines = [f"{names.put_into(command.text)}\nprintf '\\036'" for command in told]
    trap = 'trap \'printf "failed: %s\\n" "$BASH_COMMAND" >&2\' ERR'
    done = run("\n".join(["set -eE", trap, *lines]))
    assert done.returncode == 0, f"{block}:\n{done.stdout}\n{done.stderr}"
    printed = done.stdout.split(_SEPARATOR)
    for command, output in zip(told, printed, strict=False):
        missing = [
            line for line in command.printed.splitlines()
            if line.strip() and not shape(names.put_into(line)).search(output)
        ]  # fmt: skip
        assert not missing, f"{block}: {command.text}\nprints\n{output}\nand not\n{missing}"


def shape(line: str) -> re.Pattern[str]:
    """What a line looks like, whatever its numbers are, and however wide its columns.

    A round trip in it may also be one that nobody has measured yet.
    """
    words = re.split(r"\s+", line.strip())
    parts = [r"\S*".join(map(re.escape, re.split(r"[\d.:]*\d[\d.:]*", word))) for word in words]
    pattern = r"[ \t]+".join(parts).replace(r"\S*[ \t]+ms", r"(?:\S+ ms|not measured)")
    return re.compile(rf"^\s*{pattern}\s*$", re.MULTILINE)


def belongings(home: Path, *paths: Path) -> dict[str, str]:
    """What tells where somebody is at home, with programs of these folders before all others."""
    path = os.pathsep.join([*map(str, paths), str(BIN), os.environ["PATH"]])
    return {"PATH": path, "HOME": str(home), "LC_ALL": "C.UTF-8", "PYTHONPATH": str(ROOT)}


def environment(home: Path, *paths: Path, **more: str) -> dict[str, str]:
    """The same in this process's own environment, and more."""
    return {**os.environ, **belongings(home, *paths), **more}


def bash(script: str, cwd: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Without a terminal, and with nothing to read."""
    return subprocess.run(
        ["bash", "-c", script], cwd=cwd, env=env, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=SECONDS, check=False,
    )  # fmt: skip


def write_program(path: Path, script: str) -> None:
    """A small program in place of one that a reader has."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def write_stand_ins(folder: Path, confdir: Path, bind: str = "") -> None:
    """`sudo` asks nobody, and `afsfuse` finds the cell as if its files were in /etc."""
    write_program(folder / "sudo", 'exec "$@"')
    options = f"confdir={shlex.quote(str(confdir))}" + (f",bind={bind}" if bind else "")
    write_program(
        folder / "afsfuse",
        f"""\
command=$1
afsfuse={shlex.quote(str(BIN / "afsfuse"))}
case $command in
mount) shift; exec "$afsfuse" mount -o {options} "$@" ;;
aklog|klog) shift; exec "$afsfuse" "$command" --confdir {shlex.quote(str(confdir))} "$@" ;;
*) exec "$afsfuse" "$@" ;;
esac""",
    )
