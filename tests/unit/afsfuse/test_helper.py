"""What mount(8) and umount(8) run: their conventions, up to where a mount would be made."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest

from afsfuse import cli, ending, helper, starting
from afsfuse.tools import COMMANDS

if TYPE_CHECKING:
    from pathlib import Path

    from afsfuse.config import Config


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Config]:
    """What would have been mounted."""
    configs: list[Config] = []

    def start(config: Config) -> int:
        configs.append(config)
        return 0

    monkeypatch.setattr(starting, "start", start)
    return configs


def test_as_mount_8_calls_it(started: list[Config], capsys: pytest.CaptureFixture[str]) -> None:
    words = ["#example.org:root.cell.", "/mnt", "-n", "-o", "ro,_netdev,crypt=auth,x-a=b"]
    assert cli.main(["mount.fuse.afs", *words, "-t", "fuse.afs"]) == 0
    (config,) = started
    assert (config.source, config.directory) == ("#example.org:root.cell.", "/mnt")
    assert (config.read_only, config.crypt, config.foreground) == (True, "auth", False)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("spec", ["afs", "/afs", "/home/alice/afs"])
def test_a_path_is_no_source_but_what_mount_8_makes_of_one(
    started: list[Config], spec: str
) -> None:
    assert cli.main(["mount.fuse.afs", spec, "/mnt"]) == 0
    assert started[0].source == "afs"


def test_unknown_options_are_refused_unless_sloppy(
    started: list[Config], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["mount.fuse.afs", "afs", "/mnt", "-o", "ro,prot=1"]) == 1
    assert "-o prot: unknown option: did you mean port?" in capsys.readouterr().err
    assert cli.main(["mount.fuse.afs", "afs", "/mnt", "-s", "-o", "ro,prot=1,remout"]) == 0
    assert started[0].read_only
    assert capsys.readouterr() == ("", "")
    assert cli.main(["mount.fuse.afs", "afs", "/mnt", "-sv", "-o", "prot=1"]) == 0
    out, err = capsys.readouterr()
    assert err == "afsfuse: -o prot=1: unknown option: ignored\n"
    assert out == "mount.fuse.afs: afs mounted on /mnt\n"


def test_sloppy_is_not_blind(started: list[Config], capsys: pytest.CaptureFixture[str]) -> None:
    for words, said in (("port=0", "a number"), ("remount", "unmount it and mount it anew")):
        assert cli.main(["mount.fuse.afs", "afs", "/mnt", "-s", "-o", words]) == 1
        assert said in capsys.readouterr().err
    assert not started


def test_a_fake_mount_looks_and_does_nothing(
    started: list[Config], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["mount.fuse.afs", "afs", str(tmp_path), "-fv"]) == 0
    assert capsys.readouterr().out == f"mount.fuse.afs: afs would be mounted on {tmp_path}\n"
    assert cli.main(["mount.fuse.afs", "afs", str(tmp_path / "no"), "-f"]) == 32
    assert capsys.readouterr().err.endswith("no: no such directory: create it with mkdir -p\n")
    assert not started


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["afs"], "the following arguments are required: DIR: see mount.fuse.afs --help"),
        (["afs", "/mnt", "-x"], "unrecognized arguments: -x"),
        (["afs", "/mnt", "-N", "/nowhere"], "-N /nowhere: No such file or directory"),
        (["example.org", "/mnt"], "for this cell write afs"),
    ],
)
def test_wrong_command_lines(
    started: list[Config], words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["mount.fuse.afs", *words]) == 1
    assert said in capsys.readouterr().err


def test_umount_8(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    ended: list[tuple[str, bool, bool]] = []

    def end(given: str, *, lazy: bool, force: bool) -> int:
        ended.append((given, lazy, force))
        return 0

    monkeypatch.setattr(ending, "end", end)
    assert cli.main(["umount.fuse.afs", "/mnt", "-l", "-n", "-t", "fuse.afs"]) == 0
    assert cli.main(["umount.fuse.afs", "/mnt", "-frv"]) == 0
    assert ended == [("/mnt", True, False), ("/mnt", False, True)]
    assert capsys.readouterr().out == "umount.fuse.afs: /mnt unmounted\n"


def test_the_name_chooses_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, expected in {
        "/sbin/mount.fuse.afs": ["mount.fuse.afs", "afs", "/mnt"],
        "umount.fuse.afs": ["umount.fuse.afs", "afs", "/mnt"],
        "/usr/local/bin/tokens": ["tokens", "afs", "/mnt"],
        "/usr/bin/afsfuse": ["afs", "/mnt"],
        "/somewhere/afsfuse/__main__.py": ["afs", "/mnt"],
        "/usr/bin/status": ["afs", "/mnt"],
    }.items():
        monkeypatch.setattr(sys, "argv", [name, "afs", "/mnt"])
        assert cli.called() == expected
    assert {"aklog", "klog", "pagsh", "tokens", "unlog"} <= set(cli.LINKS) & set(COMMANDS)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may enter")
def test_a_namespace_that_is_not_ours(
    started: list[Config], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["mount.fuse.afs", "afs", "/mnt", "-N", "/proc/self/ns/mnt"]) == 2
    assert "Operation not permitted" in capsys.readouterr().err


def test_the_helps_name_every_letter_of_the_convention() -> None:
    assert all(f"-{letter}" in helper.mount_parser().format_help() for letter in "sfnvNot")
    assert all(f"-{letter}" in helper.umount_parser().format_help() for letter in "flnrvNt")
