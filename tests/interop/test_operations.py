"""What users see of a cell's everyday life: releases, moves, cuts, and a client that moves."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from afsfuse.fileserver.ownaddress import CHECK
from tests.interop.mounts import RealMount, eventually, mounted
from tests.realcell.afsio import Afsio
from tests.realcell.configuration import CELL

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.realcell.cell import RealCell

pytestmark = [pytest.mark.realcell, pytest.mark.mount]

# Reads two files in turn until its input ends; says what it has read each time it is another text.
READER = """
import os, select, sys
last = None
while not select.select([0], [], [], 0)[0]:
    for name in ("one", "two"):
        with open(os.path.join(sys.argv[1], name), "rb", buffering=0) as file:
            text = file.read()
        if text != last:
            print(text.decode(), flush=True)
            last = text
"""
# Writes ever higher numbers to a file, each to the disk, and reads them back.
WRITER = """
import os, select, sys
number = 0
while not select.select([0], [], [], 0.05)[0]:
    number += 1
    with open(sys.argv[1], "w") as file:
        file.write(str(number))
        file.flush()
        os.fsync(file.fileno())
    with open(sys.argv[1]) as file:
        assert file.read() == str(number)
print(number)
"""


@contextmanager
def volume(cell: RealCell, name: str) -> Iterator[str]:
    """A volume on fs1 in which everybody may do everything; gone at the end, wherever it is."""
    cell.volumes.create(name, "fs1")
    try:
        yield name
    finally:
        for suffix in (".readonly", ".backup", ""):
            for server in cell.servers.values():
                cell.vos(["remove", server.address, "a", name + suffix], check=False)


def running(program: str, path: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-S", "-c", program, str(path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def ended(process: subprocess.Popen[bytes]) -> list[int]:
    """Have it end; the numbers that it printed."""
    out, err = process.communicate(b"\n", timeout=120)
    assert process.returncode == 0, err.decode()
    return [int(line) for line in out.split()]


def test_a_reader_during_releases_never_sees_old_after_new(
    real_cell: RealCell, tmp_path: Path
) -> None:
    with (
        volume(real_cell, "ops.release") as name,
        mounted(real_cell, "client2", tmp_path / "rw", source=f"%{CELL}:{name}.") as writable,
    ):
        for file in ("one", "two"):
            (writable.point / file).write_text("1")
        real_cell.volumes.replicate(name)
        with mounted(real_cell, "client1", tmp_path / "ro", source=f"#{CELL}:{name}.") as replica:
            reader = running(READER, replica.point)
            try:
                assert reader.stdout is not None
                assert reader.stdout.readline() == b"1\n"  # a busy machine takes its time to start
                for version in ("2", "3"):
                    for file in ("one", "two"):
                        (writable.point / file).write_text(version)
                    real_cell.volumes.release(name, prompt=False)
                    seen = replica.point / "two"
                    assert eventually(lambda: seen.read_text() == version, 5.0)  # noqa: B023
                assert ended(reader) == [2, 3]
            finally:
                reader.kill()


def test_a_volume_is_moved_under_load(real_cell: RealCell, tmp_path: Path) -> None:
    """Once, and not back: OpenAFS's file server (1.8.9) may keep descriptors of a volume that
    left it. When that comes back in use, it takes the deleted header for the new one, salvages the
    volume sixteen times in vain, and says VNOVOL from then on until it is restarted.
    """
    with (
        volume(real_cell, "ops.move") as name,
        mounted(real_cell, "client1", tmp_path / "afs", source=f"%{CELL}:{name}.") as mount,
    ):
        numbers = mount.point / "numbers"
        writer = running(WRITER, numbers)
        try:
            assert eventually(numbers.exists, 30.0)
            move(real_cell, name)
            arrived = int(numbers.read_text() or "0")
            assert eventually(lambda: int(numbers.read_text() or "0") > arrived + 2, 30.0)
            (last,) = ended(writer)
        finally:
            writer.kill()
        assert numbers.read_text() == str(last)


def move(cell: RealCell, name: str) -> None:
    """From fs1 to fs2."""
    fs1, fs2 = (cell.servers[server].address for server in ("fs1", "fs2"))
    cell.vos(["move", name, fs1, "a", fs2, "a"])


def test_what_was_changed_while_the_network_was_cut_is_seen_after_it(
    real_cell: RealCell, tmp_path: Path
) -> None:
    afsio = Afsio(real_cell.clients["client2"])
    with mounted(real_cell, "client1", tmp_path / "afs") as mount:
        path = mount.writable / "scratch/slot09"
        before = path.read_bytes()
        with real_cell.partition("client1"):
            afsio.overwrite("/afs/.test.afs/scratch/slot09", before.swapcase())
        # Nobody asks but our own probe, or the server's next word to us.
        assert eventually(lambda: path.read_bytes() == before.swapcase(), 60.0)


def test_a_client_at_another_address(real_cell: RealCell, tmp_path: Path) -> None:
    """As a laptop that changes networks: what it has open goes on, and it is called back there."""
    host = real_cell.clients["client1"]
    afsio = Afsio(real_cell.clients["client2"])
    other = f"{host.address.rpartition('.')[0]}.199"
    with mounted(real_cell, "client1", tmp_path / "afs") as mount:
        path = mount.writable / "scratch/slot10"
        before = path.read_bytes()
        time.sleep(CHECK + 1.0)  # until it has been looked up from where we speak
        with address(real_cell, other):
            assert eventually(lambda: "all connections are made anew" in log(mount), 10.0)
            (mount.writable / "scratch/slot11").read_bytes()
            assert path.read_bytes() == before
            afsio.overwrite("/afs/.test.afs/scratch/slot10", before.swapcase())
            assert eventually(lambda: path.read_bytes() == before.swapcase(), 5.0)


def log(mount: RealMount) -> str:
    return mount.log.read_text()


@contextmanager
def address(cell: RealCell, other: str) -> Iterator[None]:
    """Client1 has this address in the place of its own."""
    host = cell.clients["client1"]
    device = next(
        line.split()[1]
        for line in ip(cell, "-o", "-4", "addr", "show").splitlines()
        if f" {host.address}/" in line
    )
    bits = ip(cell, "-o", "-4", "addr", "show", "dev", device).split("/")[1].split()[0]
    ip(cell, "addr", "add", f"{other}/{bits}", "dev", device)
    ip(cell, "addr", "del", f"{host.address}/{bits}", "dev", device)
    ip(cell, "addr", "replace", f"{other}/{bits}", "dev", device)  # it may have gone with the first
    try:
        yield
    finally:
        ip(cell, "addr", "del", f"{other}/{bits}", "dev", device)
        ip(cell, "addr", "add", f"{host.address}/{bits}", "dev", device)


def ip(cell: RealCell, *words: str) -> str:
    host = cell.clients["client1"]
    return subprocess.run(
        [*host.enter, "ip", *words], check=True, capture_output=True, text=True
    ).stdout
