"""Database servers that go down one by one, in a cell that has three of them."""

from __future__ import annotations

import errno
import time
from typing import TYPE_CHECKING

import pytest

from tests.interop.mounts import eventually, mounted
from tests.realcell import dump
from tests.realcell.cell import RealCell
from tests.realcell.configuration import CELL
from tests.realcell.contents import Bytes, Directory, File, MountPoint

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = [pytest.mark.realcell, pytest.mark.mount]

NAMES = ("v0", "v1", "v2", "v3")
BOUND = 30.0
ELECTION = 180.0  # seconds until servers that were started have elected one among them


def fill(cell: RealCell) -> None:
    """A volume that leads to some others, each with a file."""
    for name in NAMES:
        tree = Directory({b"file": File(Bytes(name.encode()))})
        cell.volumes.restore(f"db.{name}", dump.write(tree, name=f"db.{name}"))
    points = {name.encode(): MountPoint(f"#db.{name}.".encode()) for name in NAMES}
    cell.volumes.restore("db.root", dump.write(Directory(points), name="db.root"))


def stop(cell: RealCell, server: str) -> None:
    cell.bos(server, ["shutdown", "-instance", "vlserver", "-wait"])


@pytest.mark.soak
@pytest.mark.usefixtures("_realcell_possible")
def test_location_servers_go_down_one_by_one(tmp_path: Path) -> None:
    """With one of three down nothing is noticed. With none left, what is known of volumes is used
    on, and who wants another one is told within 30 s. When they are back so is everything.
    """
    with RealCell.start(servers=("fs1", "fs2", "fs3"), clients=("client1",), databases=3) as cell:
        fill(cell)
        with mounted(cell, "client1", tmp_path / "afs", source=f"%{CELL}:db.root.") as mount:

            def read(name: str) -> str:
                return (mount.point / name / "file").read_text()

            assert read("v0") == "v0"
            stop(cell, "fs3")
            begin = time.monotonic()
            assert read("v1") == "v1"
            print(f"one of three down: a new volume after {time.monotonic() - begin:.1f} s")
            for server in ("fs2", "fs1"):
                stop(cell, server)
            begin = time.monotonic()
            with pytest.raises(OSError, match="timed out") as caught:
                read("v2")
            print(f"all down: ETIMEDOUT after {time.monotonic() - begin:.1f} s")
            assert caught.value.errno == errno.ETIMEDOUT
            assert time.monotonic() - begin < BOUND
            begin = time.monotonic()
            (mount.point / "v0/another").write_text("v0, too")
            assert (mount.point / "v0/another").read_text() == "v0, too"
            assert read("v1") == "v1"
            assert time.monotonic() - begin < BOUND
            for server in ("fs1", "fs2", "fs3"):
                cell.bos(server, ["startup", "-instance", "vlserver"])
            begin = time.monotonic()
            assert eventually(lambda: found(read, "v3"), ELECTION)
            print(f"all back: a new volume after {time.monotonic() - begin:.1f} s")


def found(read: Callable[[str], str], name: str) -> bool:
    """Whether a volume is to be had."""
    try:
        return read(name) == name
    except OSError:
        return False
