"""The command line: help, mistakes in one line, exit statuses."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from afsfuse import cli, daemon, logs, version
from afsfuse.config import OPTIONS
from afsfuse.errors import CellUnknown, UsageError
from afsfuse.tools import complain

if TYPE_CHECKING:
    from collections.abc import Callable

    from afsfuse.config import Config
    from tests.conftest import ExpectedWarnings


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """No logger is set up for the test process."""
    monkeypatch.setattr(logs, "set_up", lambda **_: None)


def served(monkeypatch: pytest.MonkeyPatch, outcome: BaseException | None) -> list[Config]:
    """Replace the daemon by one that ends at once."""
    configs: list[Config] = []

    def run(config: Config, on_mounted: Callable[[], None]) -> None:
        configs.append(config)
        if outcome is not None:
            raise outcome
        on_mounted()

    monkeypatch.setattr(daemon, "run", run)
    return configs


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"afsfuse {version()}\n"


@pytest.mark.parametrize("command", [[], ["mount"], ["umount"]])
def test_help_names_the_exit_statuses(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        cli.main([*command, "--help"])
    out = capsys.readouterr().out
    assert [int(n) for n in re.findall(r"^  (\d+) ", out, re.MULTILINE)] == [0, 1, 2, 4, 8, 32]


def test_help_names_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["mount", "--help"])
    out = capsys.readouterr().out
    assert "#cell:volume. or %cell:volume." in out
    for name, option in OPTIONS.items():
        assert re.search(rf"^  {name}[ =].*{re.escape(option.help)}$", out, re.MULTILINE)


def test_a_foreground_mount(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    configs = served(monkeypatch, None)
    words = ["mount", "#example.org:root.cell.", str(tmp_path), "-f", "-o", "ro", "-o", "port=7101"]
    assert cli.main(words) == 0
    (config,) = configs
    assert config.source == "#example.org:root.cell."
    assert (config.directory, config.port, config.foreground) == (str(tmp_path), 7101, True)


@pytest.mark.parametrize(
    ("outcome", "status", "said"),
    [
        (UsageError("DIR: busy", exit_code=32), 32, "afsfuse: DIR: busy\n"),
        (UsageError("port taken", exit_code=2), 2, "afsfuse: port taken\n"),
        (CellUnknown("no such cell", cell="x"), 32, "afsfuse: no such cell (cell x)\n"),
        (KeyboardInterrupt(), 8, "afsfuse: interrupted\n"),
        (BaseExceptionGroup("tasks", [KeyboardInterrupt()]), 8, "afsfuse: interrupted\n"),
    ],
)
def test_failures_are_one_line_and_a_status(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    outcome: BaseException,
    status: int,
    said: str,
) -> None:
    served(monkeypatch, outcome)
    assert cli.main(["mount", "afs", "/afs", "-f"]) == status
    assert capsys.readouterr().err == said


def test_a_bug_is_one_line_too_and_a_traceback_in_the_log(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    expected_warnings: ExpectedWarnings,
) -> None:
    expected_warnings("the daemon failed: a bug")
    served(monkeypatch, KeyError("what\nis this"))
    assert cli.main(["mount", "afs", "/afs", "-f"]) == 4
    err = capsys.readouterr().err
    assert err.startswith("afsfuse: a bug in afsfuse: KeyError: ")
    assert err.count("\n") == 1
    assert caplog.records[0].exc_info is not None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "the following arguments are required: COMMAND: see afsfuse --help"),
        (["mount"], "the following arguments are required: DIR: see afsfuse mount --help"),
        (["mount", "/afs"], "/afs: which source? write afsfuse mount afs /afs, or a section"),
        (["umount"], "the following arguments are required: DIR: see afsfuse umount --help"),
        (["mont", "afs", "/afs"], "invalid choice: 'mont'"),
        (["mount", "afs", "/afs", "-x"], "unrecognized arguments: -x"),
        (["mount", "afs", "/afs", "-o", "prot=1"], "did you mean port?"),
        (["mount", "example.org", "/afs"], "#example.org:root.cell."),
    ],
)
def test_wrong_command_lines(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(words) == 1
    err = capsys.readouterr().err
    assert err.startswith("afsfuse: ")
    assert said in err
    assert err.count("\n") == 1


def test_umount_of_what_is_not_mounted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["umount", str(tmp_path)]) == 32
    assert capsys.readouterr().err == f"afsfuse: {tmp_path}: nothing is mounted there\n"


def python(*words: str) -> subprocess.CompletedProcess[str]:
    """A fresh interpreter that finds the package where this one did."""
    root = Path(cli.__file__).parent.parent
    command = [sys.executable, *words]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=root)


def test_the_module_runs_as_a_program() -> None:
    done = python("-m", "afsfuse", "--version")
    assert done.stdout == f"afsfuse {version()}\n"


def test_nothing_heavy_is_loaded_before_the_fork() -> None:
    """The command is slow to answer by what it loads; the daemon pays for the rest."""
    code = (
        "import sys, afsfuse.cli, afsfuse.configfile, afsfuse.ending, afsfuse.helper;"
        "import afsfuse.starting, afsfuse.tools.config;"
        "afsfuse.configfile.effective('afs', '/', ['debug']);"
        "heavy = {'trio', 'pyfuse3', 'dns', 'asyncio', 'ssl', 'cryptography'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = python("-c", code)
    assert done.stdout == "[]\n"


def test_control_c_while_a_mistake_is_told_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(message: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "complain", interrupted)
    assert cli.main(["frobnicate"]) == 8


def test_a_complaint_is_one_line_without_orders_for_the_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Names of files and of processes are in it, which anybody may have chosen."""
    complain("/mnt/a\nb\x1b[2J\x07: no such directory")
    assert capsys.readouterr().err == "afsfuse: /mnt/a b\\x1b[2J\\x07: no such directory\n"
