"""Manual pages: what each has; pages, completions and `--help` agree to the last option."""

from __future__ import annotations

import re
import tomllib
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from afsfuse import cli, helper
from afsfuse.manual import examples
from afsfuse.manual.__main__ import write
from afsfuse.manual.parsers import commands, whole

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SECTIONS = ("NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "FILES", "EXAMPLES", "SEE ALSO")
PAGES = {
    "afsfuse.1": (*SECTIONS, "EXIT STATUS"),
    "afsfuse-fs.1": (*SECTIONS, "EXIT STATUS"),
    "mount.fuse.afs.8": (*SECTIONS, "EXIT STATUS"),
    "afsfuse.toml.5": tuple("KEYS" if name == "OPTIONS" else name for name in SECTIONS),
}
_OPTION = re.compile(r"(?<![\w-])-{1,2}[A-Za-z][\w-]*")

Options = dict[str, set[str]]
"""The options of each command, as it is called: `fs listacl`."""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("manual")
    write(folder)
    return folder


def leaves() -> list[str]:
    """All commands that take no other command, without aliases."""
    found = []
    for name, parser in commands(whole()).items():
        below = {id(one): other for other, one in reversed(commands(parser).items())}
        found += [f"{name} {other}" for other in below.values()] or [name]
    return found


def by_help(capsys: pytest.CaptureFixture[str]) -> Options:
    """As each command prints them; `-h` stands for what is the same everywhere."""
    found = {}
    for name in leaves():
        with suppress(SystemExit):
            cli.main([*name.split(), "-help" if name.startswith("fs ") else "--help"])
        said = capsys.readouterr().out
        shown = [said] if name.startswith("fs ") else re.findall(r"^  (-.*?)(?:  .*)?$", said, re.M)
        found[name] = set(_OPTION.findall(" ".join(shown)))
    return found


def by_page(built: Path) -> Options:
    found = {}
    for page in ("afsfuse.1", "afsfuse-fs.1"):
        text = (built / "man" / page).read_text().replace("\\-", "-")
        for part in (
            text.partition(".SH COMMANDS\n")[2].partition("\n.SH ")[0].split(".SS afsfuse ")
        ):
            name, _, rest = part.partition("\n")
            tags = re.findall(r"^\.TP\n(.*)$", rest, re.M)
            bold = re.findall(r"\\fB(-.*?)\\fR", " ".join(tags))
            if name and (page, name) != ("afsfuse.1", "fs"):
                found[name] = set(bold)
    return found


def by_bash(text: str) -> Options:
    pattern = r"^_shtab_afsfuse_(\w+)_option_strings=\((.*)\)$"
    return {
        name.replace("_", " "): set(told.split()) for name, told in re.findall(pattern, text, re.M)
    }


def by_zsh(text: str) -> Options:
    pattern = r"^_shtab_afsfuse_(\w+)_options=\(\n(.*?)^\)$"
    found = {}
    for name, body in re.findall(pattern, text, re.M | re.S):
        specs = [re.split(r"\[", line.strip())[0] for line in body.splitlines()]
        found[name.replace("_", " ")] = {
            option
            for spec in specs
            if not spec.startswith(('":', '"(*)'))
            for option in _OPTION.findall(spec)
        }
    return found


def by_fish(text: str) -> Options:
    found: Options = {}
    for name, rest in re.findall(r"^complete -c afsfuse -n '__afsfuse_at (.*?)' (.*)$", text, re.M):
        told = found.setdefault(name, set())
        told.update(f"-{letter}" for letter in re.findall(r"(?:^| )-s (\S+)", rest))
        for kind, word in re.findall(r"(?:^| )-([ol]) (\S+)", rest.partition(" -d ")[0]):
            told.add(f"--{word}" if kind == "l" else f"-{word}")
    return found


def differences(one: Options, other: Options) -> list[str]:
    """What one has and the other has not, either way."""
    names = sorted(one.keys() | other.keys())
    return [
        f"{name}: {' '.join(sorted(one.get(name, set()) ^ other.get(name, set())))}"
        for name in names
        if one.get(name, set()) != other.get(name, set())
    ]


def test_pages_completions_and_helps_agree(built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = by_help(capsys)
    assert len(told) > 40
    assert all(told.values())
    assert differences(told, by_page(built)) == []
    shells: dict[str, Callable[[str], Options]] = {
        "bash/afsfuse": by_bash, "zsh/_afsfuse": by_zsh, "fish/afsfuse.fish": by_fish,
    }  # fmt: skip
    for script, read in shells.items():
        found = read((built / "completions" / script).read_text())
        assert differences(told, {name: found.get(name, set()) for name in told}) == [], script


def test_a_difference_is_seen() -> None:
    assert differences({"a": {"-x"}, "b": set()}, {"a": {"-y"}}) == ["a: -x -y"]


@pytest.mark.parametrize("page", PAGES)
def test_each_page_has_its_sections(built: Path, page: str) -> None:
    text = (built / "man" / page).read_text()
    assert sorted(set(PAGES[page]) - set(re.findall(r"^\.SH (.*)$", text, re.M))) == []
    empty = re.findall(r"^\.SH (.*)\n(?=\.SH|\Z)", text, re.M)
    unexplained = re.findall(r"^\.TP\n(.*)\n(?=\.(?:TP|SS|SH)|\n)", text, re.M)
    assert (empty, unexplained) == ([], [])


def test_the_helpers_agree_with_their_page(built: Path) -> None:
    text = (built / "man" / "mount.fuse.afs.8").read_text().replace("\\-", "-")
    part = text.partition(".SH OPTIONS\n")[2].partition("\n.SH ")[0]
    for own, parser in zip(
        part.split("Those of umount.fuse.afs:"),
        (helper.mount_parser(), helper.umount_parser()),
        strict=True,
    ):
        shown = re.findall(r"^  (-.*?)(?:  .*)?$", parser.format_help(), re.M)
        tags = " ".join(re.findall(r"^\.TP\n(.*)$", own, re.M))
        assert set(re.findall(r"\\fB(-.*?)\\fR", tags)) == set(_OPTION.findall(" ".join(shown)))


def test_the_example_of_the_configuration_file(tmp_path: Path) -> None:
    from afsfuse import configfile

    (tmp_path / "afsfuse.toml").write_text(examples.FILE)
    assert configfile.load(tmp_path / "afsfuse.toml") is not None
    assert tomllib.loads(examples.FILE)["memory"] == "256M"
