"""What the text speaks of in passing is there: commands, their options, words of -o, files."""

from __future__ import annotations

import ast
import itertools
import re
import shlex
from functools import cache
from typing import TYPE_CHECKING

import pytest

from afsfuse import cli, configfile
from afsfuse.config import _REFUSED, IGNORED, option_names
from tests.docs.pages import PAGES, ROOT, blocks, spans

if TYPE_CHECKING:
    from pathlib import Path

    Capture = pytest.CaptureFixture[str]

SPANS = [(page, number, code) for page in PAGES for number, code in spans(page)]
ROOMS = ("afsfuse", "rxrpc", "tests")
TABLES = ("verbs", "streams")
OF_OTHERS = ("comparison.md",)
"""Pages that speak of other programs' files."""


@cache
def _helps() -> dict[tuple[str, ...], str]:
    return {}


def help_of(command: tuple[str, ...], capsys: Capture) -> str:
    """What `--help` of a command says; empty where there is no such command."""
    if command not in _helps():
        capsys.readouterr()
        try:
            status = cli.main([*command, "--help"])
        except SystemExit as exc:
            status = int(exc.code or 0)
        _helps()[command] = "" if status else capsys.readouterr().out
    return _helps()[command]


def words_of(code: str) -> list[str]:
    """The words of a command in the text; `[WORD…]` is one that may be left out."""
    bare = re.sub(r"[\[\]|…]", " ", code)
    try:
        return shlex.split(bare)
    except ValueError:
        return bare.split()


def unknown(code: str, capsys: Capture) -> list[str]:
    """What of a command in the text is not there."""
    _, *words = words_of(code)
    command: list[str] = []
    while words and re.fullmatch(r"[a-z]+", words[0]) and len(command) < 2:
        if not help_of((*command, words[0]), capsys):
            break
        command.append(words.pop(0))
        if command != ["fs"]:
            break
    if not command:
        return [] if not words or words[0].startswith(("-", "…")) else [words[0]]
    told = help_of(tuple(command), capsys)
    missing = [word for word in words if re.match(r"-+[a-z]", word) and not known(word, told)]
    return missing + unknown_options(words)


def known(word: str, told: str) -> bool:
    """Whether a help tells of an option."""
    return re.search(rf"(?<![\w-]){re.escape(word.partition('=')[0])}(?![\w-])", told) is not None


def unknown_options(words: list[str]) -> list[str]:
    """What of `-o` means nothing."""
    given = [after for word, after in itertools.pairwise(words) if word == "-o"]
    names = {part.partition("=")[0] for after in given for part in after.split(",")}
    meant = {name for name in names if re.fullmatch(r"[a-z_]+", name)}
    return sorted(meant - {*option_names(), *IGNORED, *_REFUSED})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_in_the_text_are_there(page: Path, capsys: Capture) -> None:
    wrong = [
        f"{page.name}:{number}: {code}: {', '.join(missing)}"
        for where, number, code in SPANS
        if where == page and code.split()[0] == "afsfuse"
        if (missing := unknown(code, capsys))
    ]
    assert wrong == []


def test_options_in_the_text_are_there() -> None:
    wrong = [
        f"{page.name}:{number}: {code}: {', '.join(missing)}"
        for page, number, code in SPANS
        if code.startswith("-o ")
        if (missing := unknown_options(code.split()))
    ]
    assert wrong == []


def test_tests_in_the_text_are_there() -> None:
    """Also those of which the folder is told without `tests/` before it."""
    wrong = []
    for page, number, code in SPANS:
        named = re.fullmatch(r"(?:tests/)?((?:[a-z]+/)*test_\w+\.py)(?:::(\w+))?", code)
        if named is None or "/" not in code:
            continue
        source = ROOT / "tests" / named[1]
        text = source.read_text() if source.exists() else ""
        if not re.search(rf"^(async )?def {named[2] or 'test_'}", text, re.MULTILINE):
            wrong.append(f"{page.name}:{number}: {code}")
    assert wrong == []


def test_configurations_in_the_text_can_be_read(tmp_path: Path) -> None:
    found = [block for page in PAGES for block in blocks(page) if block.language == "toml"]
    assert found
    for number, block in enumerate(found):
        file = tmp_path / f"{number}.toml"
        file.write_text(block.text)
        assert configfile.load(file) is not None, block


def test_files_in_the_text_are_there() -> None:
    """By their whole path, or by the end of it: `cache/chunks.py`."""
    known = {
        f"/{path.relative_to(ROOT)}"
        for room in ROOMS
        for path in (ROOT / room).rglob("*")
        if path.suffix in (".py", ".c", ".json")
    }
    wrong = [
        f"{page.name}:{number}: {code}"
        for page, number, code in SPANS
        if page.name not in OF_OTHERS
        if re.fullmatch(r"[\w/]+\.(py|c)", code)
        or (code.split("/")[0] in ROOMS and re.fullmatch(r"[a-z_]+(/[a-z_]+)+", code))
        if not (any(path.endswith(f"/{code}") for path in known) or (ROOT / code).is_dir())
    ]
    assert wrong == []


def test_what_is_not_there_is_seen(capsys: Capture) -> None:
    assert unknown("afsfuse mount afs /afs -o fastt,memory=1M", capsys) == ["fastt"]
    assert unknown("afsfuse tokens --jsonn", capsys) == ["--jsonn"]
    assert unknown("afsfuse frobnicate FILE", capsys) == ["frobnicate"]
    assert unknown("afsfuse aklog [CELL…] [-k REALM] [-d]", capsys) == []


def verbs() -> set[str]:
    """What can be asked of a daemon, by its source: the tables of `afsfuse/control`."""
    found: set[str] = set()
    for path in (ROOT / "afsfuse" / "control").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.AnnAssign) or not isinstance(node.value, ast.Dict):
                continue
            if isinstance(node.target, ast.Attribute) and node.target.attr.strip("_") in TABLES:
                found |= {str(ast.literal_eval(key)) for key in node.value.keys if key is not None}
    return found


def test_every_verb_of_the_control_socket_is_told() -> None:
    page = (ROOT / "docs" / "identity.md").read_text()
    part = page.partition("## The control socket\n")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in part.splitlines() if line.startswith("| `")]
    told = {verb for row in rows for verb in re.findall(r"`([\w-]+)`", row)}
    assert len(told) > 30
    assert told - {"do"} == verbs()


def ratios() -> dict[str, float]:
    """What the page of benchmarks has in the column of ratios, by row."""
    rows = (line.split("|") for line in (ROOT / "docs" / "benchmarks.md").read_text().splitlines())
    wide = [[cell.strip() for cell in row] for row in rows if len(row) == 7]
    return {row[1]: float(row[4]) for row in wide if re.fullmatch(r"[\d.]+", row[4])}


def test_figures_in_the_text_are_those_that_were_measured() -> None:
    known = ratios()
    far = f"{known['cold sequential read over 12.5 ms']:.0f} times"
    read, write = known["cold sequential read, 256 MiB"], known["write and close, 256 MiB"]
    small = (known["create of 2,000 small files"], known["unlink of 2,000 small files"])
    slow = f"({min(small):.2f} and {max(small):.2f} times)"
    assert f"it reads {far} as fast" in (ROOT / "README.md").read_text()
    page = " ".join((ROOT / "docs" / "comparison.md").read_text().split())
    for figure in (f"({read:.1f} and {write + 1e-9:.1f} times)", f"({far})", slow):
        assert figure in page, figure
