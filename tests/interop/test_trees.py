"""Volumes that nobody uses, at OpenAFS's servers: what they promised is given back.

The file server counts its promises (xstat's third collection); that count is the witness, and what
goes over the wire is the other one.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from afsfuse.interfaces.fileserver import FETCH_DATA, FETCH_DATA64, GIVE_UP_CALLBACKS
from tests.interop.mounts import eventually, mounted
from tests.interop.test_operations import move, volume
from tests.realcell.afsio import Afsio
from tests.realcell.capture import captured
from tests.realcell.configuration import CELL
from tests.realcell.seed import SMALL_FILES

if TYPE_CHECKING:
    from pathlib import Path

    from tests.realcell.capture import Capture
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


FS_PORT = 7000


def calls(capture: Capture) -> Counter[int]:
    """The procedures that a client called at file servers: the first DATA of each call."""
    first = [packet.payload for packet in capture.data(FS_PORT) if packet.ports[1] == FS_PORT]
    return Counter(
        int.from_bytes(payload[28:32], "big")
        for payload in first
        if int.from_bytes(payload[12:16], "big") == 1  # the sequence number
    )


def trees(point: Path) -> set[str]:
    """The paths of all trees of a mount, as the command says."""
    command = [sys.executable, "-m", "afsfuse", "mounts", "--json"]
    said = subprocess.run(command, check=True, capture_output=True, timeout=30).stdout
    return {
        tree["path"] for tree in json.loads(said)["trees"] if tree["path"].startswith(str(point))
    }


def all_gone(point: Path) -> bool:
    return eventually(lambda: not trees(point), GONE)


def test_data_stays_in_the_cache_and_promises_go_over_the_wire(
    real_cell: RealCell, tmp_path: Path
) -> None:
    options = f"expire={EXPIRE},cachedir={tmp_path / 'cache'}"
    with mounted(real_cell, "client1", tmp_path / "afs", options=options) as mount:
        path = mount.writable / "small" / "files" / "f0001"
        held = promises(real_cell, "fs2")
        with captured(real_cell.clients["client1"]) as first:
            text = path.read_bytes()
            assert text
            assert all_gone(mount.point)
            assert eventually(lambda: promises(real_cell, "fs2") <= held, GONE)
        with captured(real_cell.clients["client1"]) as second:
            assert path.read_bytes() == text
    assert calls(first)[FETCH_DATA64.opcode] + calls(first)[FETCH_DATA.opcode] > 0
    assert calls(first)[GIVE_UP_CALLBACKS.opcode] > 0
    assert calls(second), "the status is asked for"
    assert FETCH_DATA64.opcode not in calls(second)
    assert FETCH_DATA.opcode not in calls(second)


def test_a_volume_is_released_and_moved_while_nobody_is_in_it(
    real_cell: RealCell, tmp_path: Path
) -> None:
    """Nobody is told of either; the next touch finds what is there now, under the same number."""
    options = f"expire={EXPIRE},cachedir={tmp_path / 'cache'}"
    with (
        volume(real_cell, "trees.top"),
        volume(real_cell, "trees.below") as name,
        mounted(
            real_cell, "client2", tmp_path / "w", source=f"%{CELL}:{name}.", options="expire=0"
        ) as writable,
        mounted(
            real_cell, "client1", tmp_path / "r", source=f"%{CELL}:trees.top.", options=options
        ) as mount,
    ):
        (writable.point / "file").write_text("1")
        real_cell.volumes.replicate(name)
        (mount.point / "ro").symlink_to(f"#{name}.readonly.")
        (mount.point / "rw").symlink_to(f"%{name}.")
        files = [mount.point / place / "file" for place in ("ro", "rw")]
        inodes = [file.stat().st_ino for file in files]
        assert [file.read_text() for file in files] == ["1", "1"]

        assert eventually(lambda: trees(mount.point) == {str(mount.point)}, GONE)
        (writable.point / "file").write_text("2")
        real_cell.volumes.release(name)
        assert [file.read_text() for file in files] == ["2", "2"]
        assert [file.stat().st_ino for file in files] == inodes

        assert eventually(lambda: trees(mount.point) == {str(mount.point)}, GONE)
        move(real_cell, name)
        (writable.point / "file").write_text("3")
        assert [file.read_text() for file in files] == ["2", "3"]
        assert [file.stat().st_ino for file in files] == inodes
