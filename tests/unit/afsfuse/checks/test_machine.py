"""What is said of a machine on which nothing is set up, and what of one on which all is."""

from __future__ import annotations

import json
import os
import stat
from typing import TYPE_CHECKING

from afsfuse import cli
from afsfuse.cache.disk.folder import OVERRIDE
from afsfuse.cell.cellservdb import CellFiles, load
from afsfuse.checks import machine
from afsfuse.checks.findings import State
from afsfuse.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_a_device_that_is_not_there(tmp_path: Path) -> None:
    found = machine.fuse_device(str(tmp_path / "fuse"))
    assert (found.state, found.advice) == (
        State.WRONG, "load the kernel's module: modprobe fuse",
    )  # fmt: skip
    (tmp_path / "fuse").touch()
    assert machine.fuse_device(str(tmp_path / "fuse")).state is State.WELL


def test_who_may_share_mounts(tmp_path: Path) -> None:
    conf = tmp_path / "fuse.conf"
    assert machine.allow_other(conf).state is State.NOTE
    conf.write_text("# user_allow_other\n")
    assert machine.allow_other(conf).state is State.NOTE
    conf.write_text("mount_max = 1000\n user_allow_other\n")
    assert machine.allow_other(conf).state is State.WELL


DEBIAN = """\
PRUNE_BIND_MOUNTS="yes"
# PRUNENAMES=".git .bzr .hg .svn"
PRUNEPATHS="/tmp /var/spool /media"
PRUNEFS="NFS afs autofs fuse.glusterfs"
"""


def test_who_lists_all_files_of_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conf = tmp_path / "updatedb.conf"
    monkeypatch.setattr(machine, "UPDATEDB_CONF", conf)
    assert list(machine.left_out(conf)) == []
    for text, state in (
        (DEBIAN, State.NOTE),
        (DEBIAN.replace("glusterfs", "afs"), State.WELL),
        (DEBIAN.replace("NFS", "Fuse.AFS"), State.WELL),
        (DEBIAN.replace("/media", "/afs"), State.WELL),
        (DEBIAN.replace("/media", "/afs/home"), State.NOTE),
        ("# " + DEBIAN.replace("\n", "\n# ").replace("glusterfs", "afs"), State.NOTE),
        ("", State.NOTE),
    ):
        conf.write_text(text)
        (found,) = machine.left_out(conf)
        assert found.state is state, text
    assert found.advice == "add fuse.afs to PRUNEFS there"
    assert found in list(machine.look(CellFiles))


def test_programs_are_looked_for_where_commands_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert machine.fusermount().state is State.WRONG
    program = tmp_path / "fusermount3"
    program.touch(0o755)
    assert "not set-user-id" in machine.fusermount().text
    program.chmod(0o755 | stat.S_ISUID)
    assert machine.fusermount().state is State.WELL


def test_configuration_files() -> None:
    assert machine.cell_files(CellFiles).state is State.NOTE
    assert machine.cell_files(lambda: CellFiles("example.org")).state is State.WELL

    def broken() -> CellFiles:
        raise UsageError("/etc/afsfuse/ThisCell: no cell's name")

    found = machine.cell_files(broken)
    assert (found.state, found.text) == (State.WRONG, "/etc/afsfuse/ThisCell: no cell's name")


def test_the_folder_of_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(OVERRIDE, "none")
    assert machine.cache_folder().state is State.NOTE
    monkeypatch.setenv(OVERRIDE, str(tmp_path / "some" / "where"))
    assert str(tmp_path) in machine.cache_folder().text
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    found = machine.cache_folder()
    assert (found.state, f"{tmp_path} cannot be written to" in found.text) == (State.WRONG, True)
    assert not (tmp_path / "some").exists(), "looking changes nothing"


def test_nothing_is_configured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KRB5_CONFIG", os.devnull)
    monkeypatch.setattr("afsfuse.checks.everything.load", lambda folders: load([tmp_path]))
    assert cli.main(["check", "--json"]) in (0, 32)  # whether there is FUSE is another matter
    found = {one["what"]: one for one in json.loads(capsys.readouterr().out)["findings"]}
    assert found["files"]["state"] == "note"
    assert "ThisCell" in found["files"]["advice"]
    assert found["Kerberos"]["state"] == "note"
    assert found["cell"]["text"] == "none was looked at: there is no ThisCell"
    assert cli.main(["check", "no/cell"]) == 32
    out = capsys.readouterr().out
    assert "!!  cell" in out
    assert "add it to CellServDB" in out
