"""The cache on disk behind real mounts: daemons come and go, and die, and the cell stays."""

from __future__ import annotations

import ast
import json
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tests.mount.diskcelld import CELL, contents
from tests.mount.harness import ROOT, SECONDS, Children, clear, wait_until
from tests.mount.usersmount import Process, beside, loopback_address

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.mount

SIZE = 20_000_003


class Machine:
    """A cell, and a place to mount it at with a cache on disk."""

    def __init__(self, folder: Path, children: Children) -> None:
        self.point = folder / "afs"
        self.point.mkdir()
        self.cache = folder / "cache"
        self.log = folder / "log"
        self._confdir = folder / "conf"
        self._confdir.mkdir()
        self._children = children
        self._address = loopback_address()
        cell = children.start(
            sys.executable, "-m", "tests.mount.diskcelld", self._confdir, self._address,
            stdin=subprocess.PIPE, cwd=ROOT,
        )  # fmt: skip
        self._cell = Process(cell, b"serving")
        self.daemon: subprocess.Popen[bytes] | None = None

    def ask(self, *words: object) -> str:
        return self._cell.ask(repr(words))

    def calls(self, procedure: str) -> int:
        return int(ast.literal_eval(self.ask("calls")).get(procedure, 0))

    def fetches(self) -> int:
        return int(self.ask("count"))

    def mount(self, *more: str) -> None:
        """Start a daemon, and list the directory."""
        options = (
            f"confdir={self._confdir}", f"bind={beside(self._address)}",
            f"cachedir={self.cache}", f"logfile={self.log}", *more,
        )  # fmt: skip
        self.daemon = self._children.start(
            sys.executable, "-m", "afsfuse", "mount", "afs", self.point, "-f",
            "-o", ",".join(options), cwd=ROOT,
        )  # fmt: skip
        wait_until(lambda: os.path.ismount(self.point), "the mount")
        os.listdir(self.point / CELL)

    def end(self, number: int = signal.SIGTERM) -> None:
        assert self.daemon is not None
        self.daemon.send_signal(number)
        self.daemon.wait(SECONDS)
        clear(self.point)

    def read(self, name: str) -> bytes:
        return (self.point / CELL / name).read_bytes()


@pytest.fixture
def machine(tmp_path: Path, children: Children) -> Iterator[Machine]:
    made = Machine(tmp_path.resolve(), children)
    yield made
    clear(made.point)


def test_a_file_is_fetched_once_whatever_daemons_come_and_go(machine: Machine) -> None:
    machine.ask("make", "big", 1, SIZE)
    machine.ask("make", "small", 2, 100)
    machine.mount()
    assert machine.read("big") == contents(1, SIZE)
    assert machine.read("small") == contents(2, 100)
    machine.end()
    for _ in range(2):
        machine.mount()
        before = machine.fetches()
        assert machine.read("big") == contents(1, SIZE)
        assert machine.read("small") == contents(2, 100)
        assert machine.fetches() == before
        machine.end()


def everything(top: Path) -> dict[str, bytes | list[str]]:
    """Names, contents, and where links lead, below a directory."""
    found: dict[str, bytes | list[str]] = {}
    for folder, folders, files in os.walk(top):
        found[folder] = sorted(folders + files)
        for name in folders + files:
            path = os.path.join(folder, name)
            if os.path.islink(path):
                found[path] = os.fsencode(os.readlink(path))
            elif name in files:
                with open(path, "rb") as file:
                    found[path] = file.read()
    return found


def test_yesterday_s_tree_costs_no_data(machine: Machine) -> None:
    """Nor directories or links, be they read or made yesterday, and at a mount point or above."""
    machine.ask("make", "small", 2, 100)
    machine.mount()
    top = machine.point / CELL
    for name in ("one", "two", "two/three"):
        (top / name).mkdir()
        for number in range(20):
            (top / name / f"file{number}").write_text(f"{name} {number}")
        (top / name / "link").symlink_to(f"file{len(name)}")
    (top / "one/file7").unlink()
    (top / "two/file7").rename(top / "two/three/moved")
    seen = everything(top)
    machine.end()
    for number in (signal.SIGKILL, signal.SIGTERM):
        before = machine.fetches()
        statuses = machine.calls("FetchStatus")
        machine.mount()
        assert everything(top) == seen
        assert machine.fetches() == before
        # One by one only what the way leads through; the 64 files and links are asked for in bulk.
        assert machine.calls("FetchStatus") - statuses <= 4
        machine.end(number)


def test_a_file_larger_than_memory_is_fetched_once(machine: Machine) -> None:
    machine.ask("make", "big", 1, SIZE)
    machine.mount("memory=1M")
    assert machine.read("big") == contents(1, SIZE)
    before = machine.fetches()
    descriptor = os.open(machine.point / CELL / "big", os.O_RDONLY)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)
    assert machine.read("big") == contents(1, SIZE)
    assert machine.fetches() == before
    machine.end()


def test_a_restored_volume_is_read_anew(machine: Machine) -> None:
    machine.ask("make", "big", 1, SIZE)
    machine.mount()
    assert machine.read("big") == contents(1, SIZE)
    machine.end()
    machine.ask("restore", "big", 2)
    machine.mount()
    assert machine.read("big") == contents(2, SIZE)
    machine.end()


def test_a_killed_daemon_leaves_a_cache_that_is_right(machine: Machine) -> None:
    machine.ask("make", "big", 1, SIZE)
    machine.mount()
    assert machine.read("big") == contents(1, SIZE)
    wait_until(lambda: indexed(machine.cache / "0" / "index.sqlite") >= SIZE, "all is indexed")
    machine.end(signal.SIGKILL)
    machine.mount()
    before = machine.fetches()
    assert machine.read("big") == contents(1, SIZE)
    assert machine.fetches() == before
    machine.end()


def indexed(index: Path) -> int:
    """The bytes that an index tells of."""
    with closing(sqlite3.connect(f"file:{index}?mode=ro", uri=True)) as database:
        (size,) = database.execute("SELECT coalesce(sum(size), 0) FROM parts").fetchone()
    return int(size)


WRITER = """
import os, sys
file = os.open(sys.argv[1], os.O_RDWR)
os.pwrite(file, b"written", 5)
os.ftruncate(file, 40)
os.pwrite(file, b"more", 50)
print("written", flush=True)
sys.stdin.read()
"""


def leave_something(machine: Machine, children: Children) -> bytes:
    """Write to a file of 100 bytes, and kill the daemon before anything is stored."""
    machine.ask("make", "file", 3, 100)
    machine.mount()
    machine.ask("hold")
    writer = children.start(
        sys.executable, "-c", WRITER, machine.point / CELL / "file", stdin=subprocess.PIPE
    )
    assert writer.stdout is not None
    assert writer.stdout.readline() == b"written\n"
    machine.end(signal.SIGKILL)
    writer.communicate()
    machine.ask("let")
    known = bytearray(contents(3, 100))
    known[5:12] = b"written"
    return bytes(known[:40]) + bytes(10) + b"more"


def held(machine: Machine, name: str) -> bytes:
    """What a file holds at the server."""
    held: bytes = ast.literal_eval(machine.ask("data", name))
    return held


def test_what_a_killed_daemon_had_not_stored_is_stored_by_the_next_one(
    machine: Machine, children: Children
) -> None:
    wanted = leave_something(machine, children)
    assert held(machine, "file") == contents(3, 100)
    machine.mount()
    assert machine.read("file") == wanted
    wait_until(lambda: held(machine, "file") == wanted, "it is stored")
    machine.end()
    assert not list(machine.cache.glob("*/journal/*"))
    machine.mount()
    machine.end()
    assert machine.log.read_text().count("is being stored") == 1


def test_what_was_left_of_a_file_that_has_moved_on_is_put_aside(
    machine: Machine, children: Children
) -> None:
    wanted = leave_something(machine, children)
    for _ in range(3):
        machine.ask("append", "file", b"another's")
    theirs = contents(3, 100) + 3 * b"another's"
    machine.mount()
    assert machine.read("file") == theirs
    machine.end()
    assert held(machine, "file") == theirs
    (aside,) = machine.cache.glob("recovered/*-file")
    assert aside.stat().st_mode & 0o7777 == 0o600
    assert aside.read_bytes()[5:12] == b"written"
    assert aside.read_bytes()[40:] == wanted[40:]
    told = json.loads(aside.with_name(f"{aside.name}.json").read_text())
    assert told["path"] == f"/{CELL}/file"
    assert told["written"] == [[5, 12], [50, 54]]
    assert str(aside) in machine.log.read_text()
    machine.mount()
    machine.end()
    assert len(list(machine.cache.glob("recovered/*"))) == 2, "and that is done with"


def test_a_removed_file_goes_also_after_the_machine_was_started_anew(
    machine: Machine, children: Children, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AFSFUSE_RUNTIME_DIR", str(tmp_path / "run"))
    machine.ask("make", "file", 3, 100)
    machine.mount()
    path = machine.point / CELL / "file"
    holder = children.start(
        sys.executable, "-c", "import sys; file = open(sys.argv[1]); print(flush=True); input()",
        path,
        stdin=subprocess.PIPE,
    )  # fmt: skip
    assert holder.stdout is not None
    holder.stdout.readline()
    path.unlink()
    assert ".__afs" in machine.ask("names")
    machine.end(signal.SIGKILL)
    holder.communicate()
    monkeypatch.setenv("AFSFUSE_RUNTIME_DIR", str(tmp_path / "run of another day"))
    machine.mount()
    wait_until(lambda: ".__afs" not in machine.ask("names"), "the name to be removed")
    machine.end()
    assert not list((machine.cache / "unlinked").iterdir())


def test_two_mounts_share_a_folder_and_no_room(machine: Machine, tmp_path: Path) -> None:
    machine.ask("make", "small", 2, 100)
    machine.mount()
    first, point = machine.daemon, machine.point
    machine.point = tmp_path.resolve() / "afs2"
    machine.point.mkdir()
    machine.mount()
    assert machine.read("small") == contents(2, 100)
    assert sorted(path.name for path in machine.cache.glob("[0-9]")) == ["0", "1"]
    machine.end()
    machine.daemon, machine.point = first, point
    assert machine.read("small") == contents(2, 100)
    machine.end()


def test_without_a_folder_there_is_no_cache_on_disk(machine: Machine) -> None:
    machine.ask("make", "small", 2, 100)
    machine.mount("cachedir=none")
    assert machine.read("small") == contents(2, 100)
    machine.end()
    assert not machine.cache.exists()


def test_a_folder_that_cannot_be_used_is_no_obstacle(machine: Machine) -> None:
    machine.ask("make", "small", 2, 100)
    machine.cache.mkdir()
    (machine.cache / "something").write_text("else")
    machine.mount()
    assert machine.read("small") == contents(2, 100)
    machine.end()
    assert "no cache on disk" in machine.log.read_text()
