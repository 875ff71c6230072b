"""`afsfuse config`: values and where they come from; what it prints is a configuration file."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from afsfuse import cli, configfile
from afsfuse.configfile import effective, keys

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "afsfuse.toml"
    monkeypatch.setenv(configfile.OVERRIDE, str(path))
    return path


FILE = """\
memory = "256M"
serverprefs = "192.0.2.0/24=10:192.0.2.1=5"
allow_other = false
[mount."/home/alice/afs"]
source = "#example.org:project."
hard = true
"""


def test_each_value_has_its_origin(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(FILE)
    assert cli.main(["config", "/home/alice/afs", "-o", "port=7101,noexec"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == [
        "# #example.org:project. on /home/alice/afs",
        f"# {file}: read",
        f'# source = "#example.org:project."  # {file}:5',
    ]
    told = {line.split(" ")[0]: line for line in lines[3:]}
    assert told["memory"].split() == ["memory", "=", '"256M"', "#", f"{file}:1"]
    assert told["port"].split() == ["port", "=", "7101", "#", "-o", "port=7101"]
    assert told["hard"].split() == ["hard", "=", "true", "#", f"{file}:6"]
    assert told["noexec"].split() == ["noexec", "=", "true", "#", "-o", "noexec"]
    assert told["crypt"].split() == ["crypt", "=", '"crypt"', "#", "default"]
    assert "# cell: not set: the local cell, in place of what ThisCell says" in lines


def test_what_it_prints_is_a_file_that_says_the_same(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text(FILE)
    assert cli.main(["config", "-o", "hard,sysname=a_sys:b_sys,nodiratime"]) == 0
    before = effective("afs", "/afs", ["hard,sysname=a_sys:b_sys,nodiratime"]).config
    file.write_text(capsys.readouterr().out)
    assert effective("afs", "/afs").config == before


def test_for_programs(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["config", "--json"]) == 0
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert told["files"] == [{"path": str(file), "there": False}]
    assert told["mount"] == {"source": "afs", "directory": "/afs"}
    settings = {one["key"]: one for one in told["settings"]}
    assert settings["expire"] == {"key": "expire", "value": 600, "origin": "default"}
    assert settings["port"]["value"] is None
    assert settings["source"]["origin"] == "default"
    assert set(keys()) < set(settings)


def test_a_mistake_is_told(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text("prot = 1\n")
    assert cli.main(["config"]) == 1
    said = capsys.readouterr().err
    assert said == f"afsfuse: {file}:1: prot: unknown key: did you mean port?\n"
