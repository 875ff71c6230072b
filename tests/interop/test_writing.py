"""Files are written at OpenAFS's servers: by several mounts, over quota, while servers die."""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.interop.mounts import RealMount, eventually, mounted
from tests.realcell import seed
from tests.realcell.afsio import Afsio

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.interop.desk import Desk
    from tests.realcell.cell import RealCell

pytestmark = [pytest.mark.realcell, pytest.mark.mount]

SOON = 1.0
MIB = 1 << 20
SCRATCH = "/afs/.test.afs/scratch"


@pytest.fixture
def here(real_cell: RealCell, tmp_path: Path) -> Iterator[RealMount]:
    with mounted(real_cell, "client1", tmp_path / "here") as mount:
        yield mount


@pytest.fixture
def there(real_cell: RealCell, tmp_path: Path) -> Iterator[RealMount]:
    with mounted(real_cell, "client2", tmp_path / "there") as mount:
        yield mount


@pytest.fixture(scope="module")
def afsio(real_cell: RealCell) -> Afsio:
    """Another client, which we did not write."""
    return Afsio(real_cell.clients["client2"])


def unstored() -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-m", "afsfuse", "status", "--json"], capture_output=True, check=True
    )
    found: list[dict[str, Any]] = json.loads(done.stdout)["files"]
    return found


def test_what_is_closed_is_seen_by_another_client(
    here: RealMount, there: RealMount, afsio: Afsio
) -> None:
    ours, theirs = here.writable / "scratch/slot10", there.writable / "scratch/slot10"
    for number in range(5):
        data = b"round %d\n" % number * (number * 20_000 + 1)
        ours.write_bytes(data)
        assert afsio.read(f"{SCRATCH}/slot10") == data
        assert eventually(lambda: theirs.read_bytes() == data, SOON)  # noqa: B023
        with theirs.open("ab") as file:
            file.write(b"and the other one\n")
        assert eventually(lambda: ours.read_bytes() == data + b"and the other one\n", SOON)  # noqa: B023


def test_two_mounts_write_parts_of_one_file(here: RealMount, there: RealMount) -> None:
    """Neither destroys what the other one wrote elsewhere in the file, whatever their order."""
    ours, theirs = here.writable / "scratch/slot11", there.writable / "scratch/slot11"
    ours.write_bytes(bytes(MIB))
    assert eventually(lambda: theirs.stat().st_size == MIB, SOON)
    with ours.open("r+b") as first, theirs.open("r+b") as second:
        first.write(b"a" * (MIB // 2))
        second.seek(MIB // 2)
        second.write(b"b" * MIB)
        second.flush()
        os.fsync(second.fileno())
        first.flush()
        os.fsync(first.fileno())
    expected = b"a" * (MIB // 2) + b"b" * MIB
    for path in (ours, theirs):
        assert eventually(lambda: path.read_bytes() == expected, SOON)  # noqa: B023


def test_over_quota(real_cell: RealCell, here: RealMount) -> None:
    path = here.writable / "quota" / os.listdir(here.writable / "quota")[0]
    before = path.stat().st_size
    real_cell.vos(["setfields", "-id", "quota", "-maxquota", "6000"])
    try:
        with pytest.raises(OSError, match="quota") as caught, path.open("ab") as file:
            file.write(bytes(3 * MIB))
        assert caught.value.errno == errno.EDQUOT
        (one,) = unstored()
        assert (one["path"], one["bytes"]) == (str(path), 3 * MIB)
        real_cell.vos(["setfields", "-id", "quota", "-maxquota", "20000"])
        assert eventually(lambda: not unstored(), 65.0)
        assert path.stat().st_size == before + 3 * MIB
    finally:
        os.truncate(path, before)
        real_cell.vos(["setfields", "-id", "quota", "-maxquota", str(seed.QUOTA_KIB)])


def test_a_file_server_that_dies_in_the_middle_of_a_store(
    real_cell: RealCell, here: RealMount, there: RealMount
) -> None:
    data = os.urandom(MIB) * 48
    path = here.writable / "scratch/slot12"
    with path.open("wb", buffering=0) as file:
        for start in range(0, len(data) // 2, MIB):
            file.write(data[start : start + MIB])
        real_cell.kill_file_server("fs1")
        for start in range(len(data) // 2, len(data), MIB):
            try:
                file.write(data[start : start + MIB])
            except OSError as exc:  # no server for so long that it was told
                print(start, exc)
                real_cell.wait_for_file_server("fs1")
                time.sleep(1.5)
                file.write(data[start : start + MIB])
        real_cell.wait_for_file_server("fs1")
    assert eventually(lambda: not unstored(), 65.0)
    assert (there.writable / "scratch/slot12").read_bytes() == data
    assert path.read_bytes() == data


def resident(mount: RealMount) -> int:
    """Bytes of memory that a daemon has."""
    text = Path(f"/proc/{mount.daemon.pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", text)
    assert found is not None
    return int(found[1]) << 10


def test_memory_stays_flat_while_much_is_written(real_cell: RealCell, tmp_path: Path) -> None:
    with mounted(real_cell, "client1", tmp_path / "small", options="memory=8M") as mount:
        path = mount.writable / "scratch/slot13"
        block = os.urandom(MIB)
        path.write_bytes(block * 8)
        before = resident(mount)
        most = 0
        with path.open("wb", buffering=0) as file:
            for number in range(256):
                file.write(block)
                if number % 16 == 0:
                    most = max(most, resident(mount))
        assert most - before < 40 * MIB
        assert path.stat().st_size == 256 * MIB
        os.truncate(path, 0)


def test_a_ticket_that_ends_while_data_is_not_stored(desk: Desk) -> None:
    """What an expired token keeps from the server is stored with the next one."""
    desk.aklog("-l", "20s")
    with desk.mount(options="noallow_other,debug") as mount:
        path = mount.writable / "home.alice/note"
        kept = path.read_bytes()
        with path.open("r+b", buffering=0) as file:
            file.write(b"before")
            os.fsync(file.fileno())
            assert eventually(lambda: desk.tokens()[0]["expired"], 60.0)
            file.write(b"AFTER!")
            with pytest.raises(PermissionError):
                os.fsync(file.fileno())
            with pytest.raises(PermissionError):
                file.write(b"no more")
            told = json.loads(desk.afsfuse("status", "--json").stdout)["files"]
            assert [(one["path"], one["bytes"]) for one in told] == [(str(path), 6)]
            desk.aklog()
            assert eventually(lambda: not desk_has_unstored(desk), 10.0)
            file.write(b"!")
        assert path.read_bytes()[:13] == b"beforeAFTER!!"
        path.write_bytes(kept)


def desk_has_unstored(desk: Desk) -> bool:
    return bool(json.loads(desk.afsfuse("status", "--json").stdout)["files"])
