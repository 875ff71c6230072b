"""Command lines of `afsfuse fs`: read as OpenAFS's `fs` reads them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from afsfuse import cli
from afsfuse.errors import UsageError
from afsfuse.tools.fs import main
from afsfuse.tools.fs.commands import COMMANDS, NOT_OURS
from afsfuse.tools.fs.syntax import HELP, Kind, find, parse

if TYPE_CHECKING:
    from pathlib import Path

FS = shutil.which("fs")
needs_fs = pytest.mark.skipif(FS is None, reason="needs OpenAFS's fs (package openafs-client)")


def openafs(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    assert FS is not None
    return subprocess.run(
        [FS, *words], capture_output=True, text=True, check=False,
        env={**os.environ, "LC_ALL": "C", **environment},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("line", "values", "flags"),
    [
        ("la", {}, ""),
        ("la a b", {"path": ["a", "b"]}, ""),
        ("listacl -p a b -cmd", {"path": ["a", "b"]}, "cmd"),
        ("la -c a", {"path": ["a"]}, "cmd"),
        ("la --path a --json", {"path": ["a"]}, "json"),
        ("sa d alice rl", {"dir": ["d"], "acl": ["alice", "rl"]}, ""),
        ("seta d -204 rl", {"dir": ["d"], "acl": ["-204", "rl"]}, ""),
        ("sa -clear d a rl b w -neg", {"dir": ["d"], "acl": ["a", "rl", "b", "w"]},
         "clear negative"),
        ("sa -d d e -a a rl", {"dir": ["d", "e"], "acl": ["a", "rl"]}, ""),
        ("sq d 5", {"path": ["d"], "max": ["5"]}, ""),
        ("sq -max 5", {"max": ["5"]}, ""),
        ("sp h 1 i 2", {"servers": ["h", "1", "i", "2"]}, ""),
        ("sv d 5", {"path": ["d", "5"]}, ""),
        ("sb 5 d", {"kbytes": ["5"], "files": ["d"]}, ""),
        ("ca a b c -cl", {"fromdir": ["a"], "todir": ["b", "c"]}, "clear"),
        ("sa -help", {}, "help"),
    ],
)  # fmt: skip
def test_what_is_read(line: str, values: dict[str, list[str]], flags: str) -> None:
    name, *words = line.split()
    given = parse(find(name, COMMANDS), words)
    assert (given.values, given.flags) == (values, frozenset(flags.split()))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("", "which command?"),
        ("bogus", "there is no command 'bogus'"),
        ("lis", "'lis' may be examine, listacl"),
        ("la -x", "there is no switch -x"),
        ("sa -", "-dir"),
        ("cleanacl -", "-"),
        ("getserverprefs -", "-"),
        ("checkservers -in", "-interval wants a value"),
        ("sa d", "-acl is missing"),
        ("sa -negative", "-dir is missing"),
        ("sa d a rl -c -ne -x", "no switch -x"),
        ("sq d 5 6", "'6' is one word too many"),
        ("sq -max 5 d", "'d' is one word too many"),
        ("setacl -i", "-i may be -id or -if"),
        ("sq -max 5 -max 6", "given twice"),
        ("exportafs nfs", "no translator for NFS"),
    ],
)
def test_what_makes_no_sense(line: str, said: str) -> None:
    if line.endswith(" -"):  # a dash alone is a value, as in OpenAFS
        name, *words = line.split()
        if name == "sa":
            with pytest.raises(UsageError, match=said):
                parse(find(name, COMMANDS), words[1:])
        else:
            assert parse(find(name, COMMANDS), words).values
        return
    with pytest.raises(UsageError, match=re.escape(said)) as caught:
        main(line.split())
    assert caught.value.exit_code == 1


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["help"], ["-help"], ["help", "sa", "la"], ["la", "-help"], ["apropos", "quota"],
                  ["apropos", "zzz"], ["version"], ["help", "--json"], ["apropos", "acl", "-j"],
                  ["version", "-json"]):  # fmt: skip
        assert main(words) == 0
        assert capsys.readouterr().out
    assert main(["help", "discon", "la"]) == 1
    told = capsys.readouterr()
    assert "no disconnected mode" in told.err
    assert "aliases: la" in told.out


def test_each_command_has_its_function() -> None:
    for command in COMMANDS:
        module = __import__(f"afsfuse.tools.fs.{command.module}", fromlist=["x"])
        assert callable(getattr(module, command.name)), command.name
        names = [parameter.name for parameter in command.switches]
        assert len(set(names)) == len(names)


USAGE = re.compile(r"(\[)?-(\w+)(?: <[^>]*>(\+)?)?")


OURS = {("whereis", "numeric"), ("copyacl", "recursive")}
"""Switches that OpenAFS's commands have not."""


@needs_fs
def test_all_commands_of_openafs_are_known() -> None:
    """By name, with the same aliases and parameters in the same order."""
    listed = openafs("help").stdout.splitlines()[1:]
    names = {line.split()[0] for line in listed}
    ours = {command.name: command for command in COMMANDS}
    assert names == ours.keys() | NOT_OURS.keys()
    for name in sorted(names - NOT_OURS.keys()):
        page = openafs("help", name).stdout
        text = " ".join(page.split())
        aliases = re.search(r"^aliases: (.*)$", page, re.MULTILINE)
        assert set(aliases[1].split() if aliases else ()) == set(ours[name].aliases), name
        usage = text.partition("Usage: ")[2].replace("<[", "<").replace("]>", ">")
        found = [
            (each[2], bool(each[1]), bool(each[3]))
            for each in USAGE.finditer(usage.partition(" Where:")[0])
        ]
        here = [
            (p.name, not p.required, p.kind is Kind.MANY)
            for p in (*ours[name].parameters, HELP)
            if (name, p.name) not in OURS
        ]
        if name == "uuid":  # OpenAFS's later releases show it without the flag
            here[0] = ("generate", False, False)
        assert found == here, name


LINES = [
    "la", "la a b", "la -c a", "la -x", "sa", "sa d", "sa d a rl", "sa -negative", "sa -dir",
    "sa d a rl b w -neg", "sq d 5 6", "sq -max 5 d", "sq -max 5", "li", "l", "lis", "wh", "whe",
    "getc", "getfid -5", "bogus", "gp -n", "rmm", "mkm a", "mkm a b c", "mkm a b c d", "ca a",
    "setcr on off", "sysname a b c", "newcell a", "newalias a b c", "lsm a b", "flushv a", "exa a",
]  # fmt: skip


@needs_fs
@pytest.mark.parametrize("line", LINES)
def test_the_same_lines_are_taken(line: str) -> None:
    """OpenAFS's `fs` ends with 2 to 8 for a line that it cannot read."""
    name, *words = line.split()
    try:
        parse(find(name, COMMANDS), words)
        taken = True
    except UsageError:
        taken = False
    done = openafs(name, *words)
    complaint = re.search(r"Ambiguous|Unrecognized|Too many|Missing required|isn't completed",
                          done.stderr)  # fmt: skip
    assert taken is (complaint is None), done.stderr


def test_a_broken_line_is_told_in_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["fs", "la", "--nonsense"]) == 1
    assert capsys.readouterr().err == (
        "afsfuse: fs listacl: there is no switch --nonsense: see afsfuse fs help listacl\n"
    )


def test_no_daemon_has_a_status_of_its_own(capsys: pytest.CaptureFixture[str], place: Path) -> None:
    assert cli.main(["fs", "wscell"]) == 32
    assert capsys.readouterr().err == "afsfuse: no mount is running here\n"
