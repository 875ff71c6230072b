"""Other clients change things; the mount shows it without being asked twice."""

from __future__ import annotations

import os
import uuid
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.interop.mounts import RealMount, eventually
from tests.realcell.afsio import Afsio
from tests.tools.peer import Peer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.interop.visitor import Visitor
    from tests.realcell.cell import RealCell

pytestmark = [pytest.mark.realcell, pytest.mark.mount]

SOON = 1.0  # a change is seen within a second of the end of the RPC that made it


@pytest.fixture(scope="module")
def afsio(real_cell: RealCell) -> Afsio:
    return Afsio(real_cell.clients["client2"])


@pytest.fixture(scope="module")
def peer(real_cell: RealCell) -> Iterator[Path]:
    """The read-write cell as afsd.fuse mounts it: a client that we did not write."""
    with Peer(real_cell, "client2") as peer:
        yield peer.mount_point / f".{real_cell.name}"


def text(path: Path) -> str | None:
    """What is in a file; None while there is none.

    afsd.fuse stores what was written only some time after `close` has returned.
    """
    try:
        return path.read_text()
    except FileNotFoundError:
        return None


def something_new() -> bytes:
    """What was in no file before, whoever came earlier."""
    return b"changed to %s\n" % uuid.uuid4().hex.encode()


def test_a_changed_file_is_seen(afs: RealMount, afsio: Afsio) -> None:
    path, changed = afs.writable / "scratch/slot00", something_new()
    path.read_bytes()
    afsio.overwrite("/afs/.test.afs/scratch/slot00", changed)
    assert eventually(lambda: path.read_bytes() == changed, SOON)


def test_a_change_of_the_same_length_in_the_same_second(afs: RealMount, afsio: Afsio) -> None:
    path = afs.writable / "scratch/slot01"
    for number in range(6):
        expected = b"slot 01, %06d\n" % number
        afsio.overwrite("/afs/.test.afs/scratch/slot01", expected)
        assert eventually(lambda: path.read_bytes() == expected, SOON), number  # noqa: B023


def test_an_open_file_sees_the_change(afs: RealMount, afsio: Afsio) -> None:
    path, changed = afs.writable / "scratch/slot02", something_new()
    with path.open("rb", buffering=0) as file:
        file.read()
        afsio.overwrite("/afs/.test.afs/scratch/slot02", changed)
        assert eventually(lambda: os.pread(file.fileno(), 99, 0) == changed, SOON)


def test_a_file_that_grows(afs: RealMount, afsio: Afsio) -> None:
    path = afs.writable / "scratch/slot03"
    size = path.stat().st_size
    afsio.append("/afs/.test.afs/scratch/slot03", b"x" * 100_000)
    assert eventually(lambda: path.stat().st_size == size + 100_000, SOON)
    assert path.read_bytes().endswith(b"x" * 100_000)


def test_both_file_servers_call_back(afs: RealMount, afsio: Afsio) -> None:
    path, changed = afs.writable / "scratch2/slot00", something_new()
    path.read_bytes()
    afsio.overwrite("/afs/.test.afs/scratch2/slot00", changed)
    assert eventually(lambda: path.read_bytes() == changed, SOON)


def test_names_appear_vanish_and_move(afs: RealMount, peer: Path) -> None:
    here, there = afs.writable / "scratch/directory", peer / "scratch/directory"
    assert os.listdir(here) == []
    assert not (here / "new").exists()  # the kernel holds that there is no such name
    (there / "new").write_text("made by another client\n")
    assert eventually(lambda: text(here / "new") == "made by another client\n", SOON)
    (there / "new").rename(there / "moved")
    assert eventually(lambda: os.listdir(here) == ["moved"], SOON)
    # A listing asks us; a name that the kernel holds goes when it has been told, moments later.
    assert eventually(lambda: not (here / "new").exists(), SOON)
    (there / "moved").unlink()
    assert eventually(lambda: os.listdir(here) == [], SOON)
    (there / "sub").mkdir()
    assert eventually(lambda: (here / "sub").is_dir(), SOON)
    (there / "sub").rmdir()
    assert eventually(lambda: not (here / "sub").exists(), SOON)


def test_a_name_that_becomes_another_file(afs: RealMount, peer: Path) -> None:
    here, there = afs.writable / "scratch/directory", peer / "scratch/directory"
    (there / "name").write_text("the first")
    assert eventually(lambda: text(here / "name") == "the first", SOON)
    (there / "other").write_text("the second")
    (there / "other").rename(there / "name")
    assert eventually(lambda: text(here / "name") == "the second", SOON)
    (there / "name").unlink()
    assert eventually(lambda: not (here / "name").exists(), SOON)


def test_changes_next_to_a_name_leave_the_others_alone(afs: RealMount, peer: Path) -> None:
    here, there = afs.writable / "scratch/directory", peer / "scratch/directory"
    (there / "kept").write_text("kept")
    assert eventually(lambda: text(here / "kept") == "kept", SOON)
    number = (here / "kept").stat().st_ino
    (there / "passing").write_text("")
    assert eventually(lambda: (here / "passing").exists(), SOON)
    (there / "passing").unlink()
    assert eventually(lambda: not (here / "passing").exists(), SOON)
    assert (here / "kept").stat().st_ino == number
    assert (here / "kept").read_text() == "kept"
    (there / "kept").unlink()


def shows(path: Path, content: bytes) -> bool:
    return path.read_bytes() == content


@pytest.mark.parametrize("visitor", ["crypt"], indirect=True)  # a release takes 5 s
def test_a_release_is_seen_in_the_read_only_tree(
    afs: RealMount, real_cell: RealCell, afsio: Afsio
) -> None:
    path = afs.cell / "replicated/version"
    for version in (b"2\n", b"1\n"):  # the last one is what the seed has
        afsio.overwrite("/afs/.test.afs/replicated/version", version)
        real_cell.volumes.release("replicated")
        assert eventually(partial(shows, path, version), SOON)


def test_a_restarted_file_server_voids_its_promises(
    real_cell: RealCell, visitor: Visitor, tmp_path: Path, afsio: Afsio
) -> None:
    with visitor.mounted(tmp_path / "afs") as mount:
        path, changed = mount.writable / "scratch2/slot05", something_new()
        path.read_bytes()
        real_cell.restart_file_server("fs2")
        afsio.overwrite("/afs/.test.afs/scratch2/slot05", changed)
        # The new server knows of no promise; it says so at our first call to it.
        (mount.writable / "scratch2/slot06").read_bytes()
        assert eventually(lambda: path.read_bytes() == changed, SOON)


def test_inode_numbers_survive_a_remount(visitor: Visitor, tmp_path: Path) -> None:
    numbers = []
    for turn in ("first", "second"):
        with visitor.mounted(tmp_path / turn) as mount:
            paths = ("tree", "tree/files", "tree/files/size-1", "links/mount-tree/old")
            numbers.append([(mount.cell / path).stat().st_ino for path in paths])
    assert numbers[0] == numbers[1]
