"""Where tokens are kept, and whom those folders must not belong to."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from afsfuse.auth import folders
from afsfuse.errors import UsageError


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(folders.OVERRIDE, raising=False)
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)


def as_uid(monkeypatch: pytest.MonkeyPatch, uid: int) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: uid)


def test_roots_folder_is_the_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    as_uid(monkeypatch, 0)
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/0")
    assert folders.own_folder() == folders.SYSTEM
    assert folders.folders() == (folders.SYSTEM,)


def test_a_user_asks_the_machine_and_himself(monkeypatch: pytest.MonkeyPatch) -> None:
    as_uid(monkeypatch, 54321)
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/54321")
    own = Path("/run/user/54321/afsfuse")
    assert folders.own_folder() == own
    assert folders.folders() == (folders.SYSTEM, own)
    assert folders.is_ours(own)
    assert not folders.is_ours(folders.SYSTEM)


@pytest.mark.parametrize("given", [None, "", "relative"])
def test_without_a_session_there_is_tmp(monkeypatch: pytest.MonkeyPatch, given: str | None) -> None:
    as_uid(monkeypatch, 54321)
    if given is not None:
        monkeypatch.setenv("XDG_RUNTIME_DIR", given)
    assert folders.own_folder() == Path("/tmp/afsfuse-54321")


def test_one_folder_can_stand_for_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(folders.OVERRIDE, str(tmp_path))
    assert folders.folders() == (tmp_path,)
    as_uid(monkeypatch, 54321)
    assert folders.folders() == (tmp_path,)
    assert not folders.is_ours(tmp_path)


def test_the_folders_are_made_with_their_modes(tmp_path: Path) -> None:
    top = tmp_path / "afsfuse"
    old = os.umask(0o077)
    try:
        folders.prepare(top)
    finally:
        os.umask(old)
    (top / "tokens").chmod(0o777)
    folders.prepare(top)
    modes = {path.name: path.stat().st_mode & 0o7777 for path in (top, *top.iterdir())}
    assert modes == {"afsfuse": 0o755, "tokens": 0o700, "pags": 0o700, "control": 0o755}


def test_a_link_in_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "afsfuse").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="afsfuse: belongs to somebody else, or is no folder"):
        folders.prepare(tmp_path / "afsfuse")


def test_a_folder_of_somebody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "afsfuse").mkdir()
    as_uid(monkeypatch, os.geteuid() + 1)
    with pytest.raises(UsageError, match="belongs to somebody else"):
        folders.prepare(tmp_path / "afsfuse")


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot be made: Not a directory"):
        folders.prepare(tmp_path / "file" / "afsfuse")


@pytest.mark.parametrize(("kind", "answer"), [("tmpfs", True), ("ext4", False)])
def test_whether_a_folder_is_in_memory(tmp_path: Path, kind: str, answer: bool) -> None:
    device = tmp_path.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    table = tmp_path / "mountinfo"
    table.write_text(
        "21 1 0:20 / /proc rw shared:5 - proc proc rw\n"
        f"22 1 {number} / / rw,relatime shared:1 master:2 - {kind} /dev/vda rw\n"
    )
    assert folders.in_memory(tmp_path, str(table)) is answer


def test_a_folder_that_the_mount_table_does_not_have(tmp_path: Path) -> None:
    (tmp_path / "mountinfo").touch()
    assert not folders.in_memory(tmp_path, str(tmp_path / "mountinfo"))
