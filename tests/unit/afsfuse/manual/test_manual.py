"""Manual pages and completions say what the command line says, and shells and man can read them."""

from __future__ import annotations

import argparse
import enum
import re
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

from afsfuse.config import MOUNT_FLAGS, OPTIONS
from afsfuse.configfile import keys
from afsfuse.manual import completions, pages, parsers
from afsfuse.manual.__main__ import write
from afsfuse.manual.parsers import arguments, commands, operand_of, whole
from afsfuse.tools import COMMANDS


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("build")
    write(folder)
    return folder


def shown(page: Path) -> str:
    """The text of a page's source, without its marks."""
    return re.sub(r"\\f[BIR]", "", page.read_text()).replace("\\-", "-").replace("\\e", "\\")


def test_every_command_and_every_argument_is_in_the_pages(built: Path) -> None:
    text = shown(built / "man" / "afsfuse.1")
    top = commands(whole())
    assert {"mount", "umount", "demo", *COMMANDS} <= set(top)
    for name, command in top.items():
        assert f".SS afsfuse {name}\n" in text
        if name == "fs":
            continue
        part = text.partition(f".SS afsfuse {name}\n")[2].partition("\n.SS ")[0]
        for action in arguments(command):
            for word in action.option_strings or [operand_of(action)]:
                tag = rf"^(.*, )?{re.escape(word)}(?!\w)"
                assert re.search(tag, part, re.MULTILINE), (name, word)


def test_every_option_and_every_key_is_in_the_pages(built: Path) -> None:
    helper = shown(built / "man" / "mount.fuse.afs.8")
    for name, option in OPTIONS.items():
        assert f"\n{name}{f'={option.value}' if option.value else ''}\n" in helper
    file = shown(built / "man" / "afsfuse.toml.5")
    for key in (*keys(), *MOUNT_FLAGS):
        assert f"\n{key} = " in file
    assert "Default: crypt." in file
    for page in (helper, shown(built / "man" / "afsfuse.1")):
        assert all(f".TP\n{status}\n" in page for status in (0, 1, 2, 4, 8, 32))


class Kind(enum.Enum):
    FLAG, ONE, MANY = 1, 2, 3


class Switch(NamedTuple):
    name: str
    kind: Kind
    text: str


class Command(NamedTuple):
    name: str
    text: str
    aliases: tuple[str, ...]
    switches: tuple[Switch, ...]


def test_a_program_with_a_table_of_its_own_has_a_page() -> None:
    """As that with the commands that people know from OpenAFS."""
    switches = (
        Switch("path", Kind.MANY, "file or directory"),
        Switch("max", Kind.ONE, "quota in KiB"),
        Switch("clear", Kind.FLAG, "take all other entries away"),
    )
    table: Any = SimpleNamespace(
        COMMANDS=[Command("setacl", "set entries", ("sa",), switches)],
        STATUSES="exit status:\n  0   done\n",
        usage=lambda command: f"afsfuse fs {command.name} [-path <file or directory>+]",
    )
    top = argparse.ArgumentParser(prog="afsfuse")
    top.add_subparsers().choices["fs"] = parsers.of_table("fs", table)
    page = pages._program("afsfuse-fs.1", commands(top)["fs"], "change AFS", set())
    for text in (
        ".SS afsfuse fs setacl\n.B afsfuse fs setacl [\\-path <file or directory>+]\n",
        "Also: sa.\n",
        ".TP\n\\fB\\-path\\fR \\fIFILE OR DIRECTORY\\fR\nfile or directory\n",
        ".TP\n\\fB\\-clear\\fR\ntake all other entries away\n",
        ".SH EXIT STATUS\n.TP\n\\fB0\\fR\ndone\n",
    ):
        assert text in page
    script = completions.fish(top)
    here = "complete -c afsfuse -n '__afsfuse_at fs setacl'"
    assert f"{here} -o path -x -d 'file or directory'\n" in script
    assert f"{here} -o clear -d 'take all other entries away'\n" in script


@pytest.mark.skipif(shutil.which("man") is None, reason="man is not there")
def test_man_has_nothing_to_complain_of(built: Path) -> None:
    pages = sorted((built / "man").iterdir())
    assert len(pages) >= 4
    for page in pages:
        command = ["man", "--warnings", "-E", "UTF-8", "-l", str(page)]
        if page.read_text().startswith(".so "):  # found when it is in its place
            assert (built / "man" / Path(page.read_text().split()[1]).name).exists()
            continue
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stderr == ""
        assert "NAME" in done.stdout


BASH = """
source "$1"
shift
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
_shtab_afsfuse
echo "${COMPREPLY[*]}"
"""


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["mo"], {"mount", "mounts"}),
        (["umount", "--t"], {"--tree"}),
        (["status", "--d"], {"--discard"}),
        (["config", "--"], {"--json", "--help"}),
    ],
)
def test_bash_and_fish_complete(built: Path, words: list[str], expected: set[str]) -> None:
    script = built / "completions" / "bash" / "afsfuse"
    command = ["bash", "-c", BASH, "bash", str(script), "afsfuse", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == expected
    if shutil.which("fish"):
        script = built / "completions" / "fish" / "afsfuse.fish"
        line = f"source {script}; complete -C 'afsfuse {' '.join(words)}'"
        done = subprocess.run(
            ["fish", "--no-config", "-c", line], capture_output=True, text=True, check=True
        )
        assert {one.split("\t")[0] for one in done.stdout.splitlines()} == expected


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not there")
def test_zsh_reads_its_script(built: Path) -> None:
    subprocess.run(["zsh", "-n", built / "completions" / "zsh" / "_afsfuse"], check=True)


def test_each_shell_has_every_command(built: Path) -> None:
    for name in ("bash/afsfuse", "zsh/_afsfuse", "fish/afsfuse.fish"):
        text = (built / "completions" / name).read_text()
        assert all(re.search(rf"\b{command}\b", text) for command in commands(whole()))
