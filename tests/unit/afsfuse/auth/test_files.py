"""Files that are written whole, wiped before they go, and never followed through a link."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from afsfuse.auth.files import SIZE_MAX, Folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SECRET = b"do not leave this behind"


@pytest.fixture
def files(tmp_path: Path) -> Iterator[Folder]:
    folder = Folder(tmp_path)
    yield folder
    folder.close()


def test_a_file_is_its_owners_alone(files: Folder, tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        files.write("one", SECRET)
    finally:
        os.umask(old)
    assert (tmp_path / "one").stat().st_mode & 0o7777 == 0o600
    assert bytes(files.read("one") or b"") == SECRET
    assert files.names() == ["one"]


def test_what_is_removed_is_wiped_before(files: Folder, tmp_path: Path) -> None:
    files.write("one", SECRET)
    with (tmp_path / "one").open("rb") as held:  # its blocks, beyond the end of its name
        assert files.remove("one")
        assert held.read() == bytes(len(SECRET))
    assert files.names() == []
    assert files.read("one") is None
    assert not files.remove("one")


def test_what_is_replaced_is_wiped_too(files: Folder, tmp_path: Path) -> None:
    files.write("one", SECRET)
    with (tmp_path / "one").open("rb") as held:
        files.write("one", b"new")
        assert held.read() == bytes(len(SECRET))
    assert bytes(files.read("one") or b"") == b"new"


def test_a_failed_write_leaves_the_old_file(
    files: Folder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    files.write("one", b"old")
    monkeypatch.setattr(os, "write", lambda *_: 1)
    with pytest.raises(OSError, match="full"):
        files.write("one", b"new")
    assert bytes(files.read("one") or b"") == b"old"
    assert os.listdir(tmp_path) == ["one"]


def test_links_and_other_things_are_not_followed(files: Folder, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(SECRET)
    (tmp_path / "link").symlink_to(target)
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    for name in ("link", "fifo", "folder"):
        assert files.read(name) is None
    files.write("link", b"new")
    assert bytes(files.read("link") or b"") == b"new"
    assert target.read_bytes() == SECRET
    (tmp_path / "other").symlink_to(target)
    assert files.remove("other")
    assert target.read_bytes() == SECRET


def test_a_file_of_somebody_else_is_not_read(
    files: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.write("one", SECRET)
    uid = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: uid + 1)
    assert files.read("one") is None


def test_a_large_file_is_not_read(files: Folder, tmp_path: Path) -> None:
    with (tmp_path / "large").open("wb") as file:
        file.truncate(SIZE_MAX + 1)
    assert files.read("large") is None


def test_what_a_dead_writer_left_is_cleared(files: Folder, tmp_path: Path) -> None:
    (tmp_path / ".new-0123").write_bytes(SECRET)
    (tmp_path / ".new-4567").write_bytes(SECRET)  # somebody is just writing it
    os.utime(tmp_path / ".new-0123", (1, 1))
    files.clear()
    assert os.listdir(tmp_path) == [".new-4567"]


def test_a_name_that_somebody_has_guessed_is_not_used(
    files: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stands there, and whoever has it open, gets nothing of a secret."""
    monkeypatch.setattr("afsfuse.auth.files.secrets.token_hex", lambda count: "0" * 2 * count)
    planted = tmp_path / f".new-{'0' * 16}"
    planted.write_bytes(b"mine")
    with planted.open("rb") as held:
        with pytest.raises(FileExistsError):
            files.write("one", SECRET)
        assert held.read() == b"mine"
    assert files.read("one") is None
