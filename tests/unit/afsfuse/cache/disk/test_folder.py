"""The folder of the cache: whose it is, and who has it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from afsfuse.cache.disk import folder
from afsfuse.cache.disk.folder import FolderRefused, default_folder, measure, take
from tests.mount.harness import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

_HOLD = """
import sys, pathlib
from afsfuse.cache.disk.folder import take
room = take(pathlib.Path(sys.argv[1]))
print(room.path.name, flush=True)
sys.stdin.read()
"""


class Holder:
    """Another process that has a room."""

    def __init__(self, where: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", _HOLD, str(where)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
        )  # fmt: skip
        assert self.process.stdout is not None
        self.room = self.process.stdout.readline().strip()

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[Holder]:
    made = Holder(tmp_path / "cache")
    yield made
    made.end()


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


def test_only_its_user_can_look_into_it(tmp_path: Path) -> None:
    where = tmp_path / "deep" / "cache"
    room = take(where)
    for path in (where, room.path, room.parts, room.journals):
        assert mode(path) == 0o700
    assert mode(room.path / "lock") == 0o600
    assert (where / "CACHEDIR.TAG").read_text().startswith("Signature: 8a477f597d28d172789f06")
    room.release()
    where.chmod(0o755)
    take(where).release()
    assert mode(where) == 0o700


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path) -> None:
    where = tmp_path / "home"
    where.mkdir(0o755)
    (where / "thesis.tex").write_text("x")
    with pytest.raises(FolderRefused, match="holds other things"):
        take(where)
    assert mode(where) == 0o755
    assert [path.name for path in where.iterdir()] == ["thesis.tex"]


def test_a_symbolic_link_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "cache").symlink_to(tmp_path / "real")
    with pytest.raises(FolderRefused, match="is no folder"):
        take(tmp_path / "cache")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give folders away")
def test_somebody_elses_folder_is_refused(tmp_path: Path) -> None:
    where = tmp_path / "cache"
    where.mkdir()
    os.chown(where, 12345, 12345)
    with pytest.raises(FolderRefused, match="belongs to somebody else"):
        take(where)


def test_a_file_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("x")
    with pytest.raises(FolderRefused, match=str(tmp_path)):
        take(tmp_path / "cache")


def test_a_second_daemon_has_a_room_of_its_own(tmp_path: Path, holder: Holder) -> None:
    assert holder.room == "0"
    room = take(tmp_path / "cache")
    assert room.path.name == "1"
    room.release()
    holder.end()
    room = take(tmp_path / "cache")
    assert room.path.name == "0"
    room.release()


def test_there_are_not_more_rooms_than_that(
    tmp_path: Path, holder: Holder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder, "ROOMS", 1)
    with pytest.raises(FolderRefused, match="1 daemons have a room"):
        take(tmp_path / "cache")


def test_journals_of_the_dead_are_inherited_and_those_of_the_living_not(
    tmp_path: Path, holder: Holder
) -> None:
    where = tmp_path / "cache"
    (where / "0" / "journal" / "1").write_bytes(b"the living one's")
    second = Holder(where)
    assert second.room == "1"
    (where / "1" / "journal" / "1").write_bytes(b"the dead one's")
    second.end()
    third = Holder(where)  # takes its room, and with it what is there
    assert third.room == "1"
    fourth = take(where)
    assert not list(fourth.journals.iterdir())
    third.end()
    fourth.release()
    (where / "1").rename(where / "5")
    room = take(where)
    assert room.path.name == "1"
    assert [path.read_bytes() for path in room.journals.iterdir()] == [b"the dead one's"]
    assert (where / "0" / "journal" / "1").exists()
    room.release()


def test_all_journals_of_a_dead_daemon_are_told_to_be_of_one(tmp_path: Path) -> None:
    """Only what it wrote last may be torn: any other that is has lost something."""
    where = tmp_path / "cache"
    take(where).release()
    for number in (3, 5):
        shutil.copytree(where / "0", where / str(number))
        for name in ("1", "2"):
            (where / str(number) / "journal" / name).write_bytes(b"")
    room = take(where)
    owners = [path.name.partition(".")[2] for path in sorted(room.journals.iterdir())]
    room.release()
    assert len(owners) == 4
    assert len(set(owners)) == 2


def test_rooms_long_abandoned_are_emptied(tmp_path: Path) -> None:
    where = tmp_path / "cache"
    take(where).release()
    for number, age in ((3, 40), (4, 20)):
        (where / "0").rename(where / "moved") if number == 3 else None
        (where / str(number)).mkdir()
        lock = where / str(number) / "lock"
        lock.write_bytes(b"")
        past = time.time() - age * 86400
        os.utime(lock, (past, past))
    take(where).release()
    assert not (where / "3").exists()
    assert (where / "4").exists()


def test_the_default_is_the_systems_or_the_users_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(folder.OVERRIDE)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert default_folder() == Path("/var/cache/afsfuse")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("HOME", "/home/alice")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert default_folder() == Path("/home/alice/.cache/afsfuse")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert default_folder() == Path("/home/alice/.cache/afsfuse")
    monkeypatch.setenv("XDG_CACHE_HOME", "/scratch/alice")
    assert default_folder() == Path("/scratch/alice/afsfuse")
    monkeypatch.setenv(folder.OVERRIDE, "none")
    assert default_folder() is None
    monkeypatch.setenv(folder.OVERRIDE, "/elsewhere")
    assert default_folder() == Path("/elsewhere")


@pytest.mark.parametrize(
    ("free", "limit"),
    [(100 << 30, 25 << 30), (4 << 40, 32 << 30), (200 << 20, 0), (256 << 20, 64 << 20)],
)
def test_the_default_limit_is_a_share_of_what_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, limit: int
) -> None:
    room = take(tmp_path / "cache")
    held = measure(room.path)
    real = os.statvfs(room.path)
    said = list(real)
    said[0] = said[1] = 4096
    said[4] = (free - held) // 4096
    monkeypatch.setattr(os, "statvfs", lambda path: os.statvfs_result(said))
    assert room.default_limit() // 4096 == limit // 4096
    room.release()


def test_reads_that_do_not_wait_are_known_to_work_here(tmp_path: Path) -> None:
    room = take(tmp_path / "cache")
    assert room.nowait() in (0, None, os.RWF_NOWAIT)
    room.release()


def test_what_a_tree_takes_is_measured(tmp_path: Path) -> None:
    before = measure(tmp_path)
    (tmp_path / "file").write_bytes(bytes(100_000))
    os.sync()
    assert 100_000 <= measure(tmp_path) - before <= 200_000
