"""Volumes that nobody uses, at OpenAFS's servers: what they promised is given back.

The file server counts its promises (xstat's third collection); that count is the witness.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import pytest

from tests.interop.mounts import eventually, mounted
from tests.realcell.afsio import Afsio
from tests.realcell.seed import SMALL_FILES

if TYPE_CHECKING:
    from pathlib import Path

    from tests.realcell.cell import RealCell

pytestmark = [pytest.mark.realcell, pytest.mark.mount]

EXPIRE = 2
GONE = 6 * EXPIRE
"""Seconds in which idle trees have gone for certain."""


def promises(cell: RealCell, server: str) -> int:
    """How many promises a file server holds for all its clients."""
    host = cell.servers[server]
    words = ["-fsname", host.address, "-collID", "3", "-onceonly", "-period", "1"]
    said = str(cell.clients["client2"].run(["xstat_fs_test", *words]).stdout)
    found = re.search(r"(\d+)\s+nCBs", said)
    assert found, said
    return int(found[1])


def test_promises_of_a_read_write_volume_are_given_back(
    real_cell: RealCell, tmp_path: Path
) -> None:
    with mounted(real_cell, "client1", tmp_path / "afs", options=f"expire={EXPIRE}") as mount:
        before = promises(real_cell, "fs2")
        with os.scandir(mount.writable / "small" / "files") as entries:
            inodes = {entry.name: entry.stat().st_ino for entry in entries}
        assert len(inodes) == SMALL_FILES
        assert promises(real_cell, "fs2") >= before + SMALL_FILES
        assert eventually(lambda: promises(real_cell, "fs2") <= before + 5, GONE)
        file = mount.writable / "small" / "files" / "f0000"
        assert file.stat().st_ino == inodes["f0000"], "it comes back as it was"
        assert promises(real_cell, "fs2") > before


def test_the_promise_of_a_read_only_volume_is_given_back(
    real_cell: RealCell, tmp_path: Path
) -> None:
    """There it is one for the whole volume, whatever was asked for."""
    with mounted(real_cell, "client1", tmp_path / "afs", options=f"expire={EXPIRE}") as mount:
        held = [promises(real_cell, server) for server in ("fs1", "fs2")]
        assert (mount.cell / "replicated" / "version").read_bytes()
        assert sum(promises(real_cell, server) for server in ("fs1", "fs2")) > sum(held)
        assert eventually(
            lambda: [promises(real_cell, server) for server in ("fs1", "fs2")] <= held, GONE
        )


def test_a_change_meanwhile_is_seen_on_the_next_touch(real_cell: RealCell, tmp_path: Path) -> None:
    with mounted(real_cell, "client1", tmp_path / "afs", options=f"expire={EXPIRE}") as mount:
        path = mount.writable / "scratch" / "slot30"
        text = path.read_bytes()
        before = promises(real_cell, "fs1")
        assert eventually(lambda: promises(real_cell, "fs1") < before, GONE)
        Afsio(real_cell.clients["client2"]).overwrite(
            "/afs/.test.afs/scratch/slot30", text.swapcase()
        )
        assert path.read_bytes() == text.swapcase()
