"""Locks of two machines: each has a mount of the real cell, and processes of both use it."""

from __future__ import annotations

import sqlite3
import sys
from typing import TYPE_CHECKING

import pytest

from tests.interop.mounts import RealMount, mounted
from tests.mount.harness import Children, wait_until
from tests.mount.lockers import Locker
from tests.realcell.afsio import Afsio

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.realcell.cell import RealCell

pytestmark = [pytest.mark.realcell, pytest.mark.mount]

FILE = "scratch/slot10"
DATABASE = "scratch/slot11"

# Counts up in a database, each time in a transaction of its own: path, how often.
COUNT = """
import sqlite3, sys
database = sqlite3.connect(sys.argv[1], timeout=120, isolation_level=None)
database.execute("PRAGMA journal_mode=MEMORY")  # a journal on disk is another file, without locks
for _ in range(int(sys.argv[2])):
    database.execute("BEGIN IMMEDIATE")
    (number,) = database.execute("SELECT number FROM counter").fetchone()
    database.execute("UPDATE counter SET number = ?", (number + 1,))
    database.execute("INSERT INTO history VALUES (?, ?)", (number, "x" * 500))
    database.execute("COMMIT")
"""


@pytest.fixture(scope="module")
def there(real_cell: RealCell, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealMount]:
    """The cell as client2 sees it; `afs` is what client1 sees."""
    with mounted(real_cell, "client2", tmp_path_factory.mktemp("there") / "afs") as mount:
        yield mount


@pytest.fixture
def children() -> Iterator[Children]:
    running = Children()
    yield running
    running.end()


def opened(children: Children, mount: RealMount) -> tuple[Locker, int]:
    """A process that uses a mount, and a descriptor that it has."""
    locker = Locker(children)
    descriptor = locker("open", str(mount.writable / FILE), "w")
    assert isinstance(descriptor, int)
    return locker, descriptor


def test_flock_excludes_other_machines(
    afs: RealMount, there: RealMount, children: Children
) -> None:
    (one, mine), (two, theirs) = opened(children, afs), opened(children, there)
    assert one("flock", mine, "sh") is None
    assert two("flock", theirs, "sh") is None
    assert two("flock", theirs, "ex") == "EAGAIN"  # that cost the shared one
    assert one("flock", mine, "ex") is None
    assert two("flock", theirs, "sh") == "EAGAIN"
    assert one("flock", mine, "un") is None
    assert two("flock", theirs, "ex") is None


def test_whole_ranges_exclude_other_machines_and_others_do_not(
    afs: RealMount, there: RealMount, children: Children
) -> None:
    (one, mine), (two, theirs) = opened(children, afs), opened(children, there)
    assert one("lock", mine, "r") is None
    assert two("lock", theirs, "r") is None
    assert two("lock", theirs, "w") == "EAGAIN"
    assert two("lock", theirs, "u") is None
    assert one("lock", mine, "w") is None
    assert two("test", theirs, "r") == ("w", 0, 0, 0)  # of whom servers do not know
    assert one("close", mine) is None
    assert two("lock", theirs, "w") is None
    mine = one("open", str(afs.writable / FILE), "w")
    assert one("lock", mine, "w", 0, 10) is None
    assert one("lock", mine, "w") == "EAGAIN"
    assert one("lock", mine, "w", 10, 0) is None


def test_what_one_writes_under_a_lock_the_other_one_reads_under_his(
    afs: RealMount, there: RealMount, children: Children
) -> None:
    (one, mine), (two, theirs) = opened(children, afs), opened(children, there)
    for turn in range(10):
        data = b"turn %02d" % turn
        assert one("lock", mine, "w") is None
        assert one("write", mine, data) == 7
        two.begin("lock", theirs, "r", 0, 0, True)
        assert one("lock", mine, "u") is None
        assert two.end() is None
        assert two("read", theirs)[:7] == data
        assert two("lock", theirs, "u") is None


@pytest.mark.parametrize("mode", ["strict", "write"])
def test_two_machines_share_an_sqlite_database(
    real_cell: RealCell, children: Children, tmp_path: Path, mode: str
) -> None:
    with sqlite3.connect(tmp_path / "seed") as seed:
        seed.execute("CREATE TABLE counter (number INTEGER)")
        seed.execute("CREATE TABLE history (number INTEGER, text TEXT)")
        seed.execute("INSERT INTO counter VALUES (0)")
    seed.close()
    Afsio(real_cell.clients["client2"]).overwrite(
        f"/afs/.{real_cell.name}/{DATABASE}", (tmp_path / "seed").read_bytes()
    )
    options = f"flock={mode}"
    with (
        mounted(real_cell, "client1", tmp_path / "one", options=options) as one,
        mounted(real_cell, "client2", tmp_path / "two", options=options) as two,
    ):
        paths = [mount.writable / DATABASE for mount in (one, two)]
        running = [
            children.start(sys.executable, "-S", "-c", COUNT, path, "10")
            for path in paths
            for _ in range(2)
        ]
        for process in running:
            _, err = process.communicate(timeout=200)
            assert process.returncode == 0, err.decode()
        for path in paths:
            database = sqlite3.connect(path)
            assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert database.execute("SELECT number FROM counter").fetchall() == [(40,)]
            numbers = database.execute("SELECT number FROM history ORDER BY number").fetchall()
            assert numbers == [(number,) for number in range(40)]
            database.close()


def test_who_waits_is_woken(afs: RealMount, there: RealMount, children: Children) -> None:
    (one, mine), (two, theirs) = opened(children, afs), opened(children, there)
    assert one("flock", mine, "ex") is None
    two.begin("flock", theirs, "ex", True)
    assert two.waits()
    assert one("flock", mine, "un") is None
    assert two.end() is None


def test_a_killed_holder_holds_nothing(
    afs: RealMount, there: RealMount, children: Children
) -> None:
    (one, mine), (two, theirs) = opened(children, afs), opened(children, there)
    assert one("flock", mine, "ex") is None
    assert one("lock", mine, "r") is None
    assert two("flock", theirs, "sh") == "EAGAIN"
    one.kill()
    wait_until(lambda: two("flock", theirs, "ex") is None, "the lock to be free")


def test_a_mount_that_ends_gives_its_locks_back(
    real_cell: RealCell, there: RealMount, children: Children, tmp_path: Path
) -> None:
    two, theirs = opened(children, there)
    with mounted(real_cell, "client1", tmp_path / "afs") as mount:
        one, mine = opened(children, mount)
        assert one("flock", mine, "ex") is None
        assert two("flock", theirs, "sh") == "EAGAIN"
    assert two("flock", theirs, "sh") is None
    one.kill()


def test_read_only_copies_are_locked_here_only(
    afs: RealMount, there: RealMount, children: Children
) -> None:
    one, two, three = Locker(children), Locker(children), Locker(children)
    mine = one("open", str(afs.cell / "replicated/version"))
    also = two("open", str(afs.cell / "replicated/version"))
    theirs = three("open", str(there.cell / "replicated/version"))
    assert one("flock", mine, "ex") is None
    assert two("flock", also, "sh") == "EAGAIN"
    assert three("flock", theirs, "ex") is None
    assert one("lock", mine, "r") is None
    assert two("lock", also, "r") is None
