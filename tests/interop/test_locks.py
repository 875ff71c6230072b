"""Locks of two machines: each has a mount of the real cell, and processes of both use it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.interop.mounts import RealMount, mounted
from tests.mount.harness import Children, wait_until
from tests.mount.lockers import Locker

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.realcell.cell import RealCell

pytestmark = [pytest.mark.realcell, pytest.mark.mount]

FILE = "scratch/slot10"


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
    descriptor = locker("open", str(mount.writable / FILE))
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
    assert two("flock", theirs, "ex") == "EAGAIN"
    assert two("test", theirs, "r") == ("u",)
    assert one("close", mine) is None
    assert two("flock", theirs, "ex") is None
    mine = one("open", str(afs.writable / FILE))
    assert one("lock", mine, "r", 0, 10) is None
    assert one("lock", mine, "r") == "EAGAIN"
    assert one("lock", mine, "r", 10, 0) is None


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
