"""The cache on disk with OpenAFS's servers: what was read once travels once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from tests.interop.mounts import RealMount, eventually, mounted
from tests.interop.test_contents import digest, digest_of_file
from tests.realcell import seed
from tests.realcell.afsio import Afsio

if TYPE_CHECKING:
    from pathlib import Path

    from tests.realcell.cell import RealCell
    from tests.realcell.hosts import Host

pytestmark = [pytest.mark.realcell, pytest.mark.mount]

MIB = 1 << 20
FEW = 2 * MIB
"""Bytes that statuses and directories take, and whatever else a host receives meanwhile."""
SECONDS = 20.0
CLOSED_NEVER = """
import os, sys
file = os.open(sys.argv[1], os.O_RDWR)
os.pwrite(file, b"written", 5)
os.ftruncate(file, 40)
os.pwrite(file, b"more", 50)
print("written", flush=True)
sys.stdin.read()
"""


def received(host: Host) -> int:
    """Bytes that have come to a host by its network."""
    lines = host.run(["cat", "/proc/net/dev"]).stdout.splitlines()
    fields = [line.split() for line in lines if ":" in line]
    return sum(int(field[1]) for field in fields if field[0] != "lo:")


@pytest.fixture
def options(tmp_path: Path) -> str:
    return f"cachedir={tmp_path / 'cache'},cachesize=1G"


def test_a_file_travels_once(real_cell: RealCell, tmp_path: Path, options: str) -> None:
    host = real_cell.clients["client1"]
    wanted, rates = digest(seed.BIG), []
    for number in range(2):
        with mounted(real_cell, "client1", tmp_path / "afs", options=options) as mount:
            os.listdir(mount.cell / "big")
            before, begin = received(host), time.perf_counter()
            assert digest_of_file(mount.cell / "big/big.bin") == wanted
            rates.append(seed.BIG.length / MIB / (time.perf_counter() - begin))
            came = received(host) - before
            assert (came > seed.BIG.length) if number == 0 else (came < FEW)
    print(f"cold {rates[0]:.0f} MiB/s, after a restart {rates[1]:.0f} MiB/s, digests included")


def test_a_directory_travels_once(real_cell: RealCell, tmp_path: Path, options: str) -> None:
    """It has two MiB. What has to be asked for again are statuses."""
    host = real_cell.clients["client1"]
    came, names = [], []
    for _ in range(2):
        with mounted(real_cell, "client1", tmp_path / "afs", options=options) as mount:
            before = received(host)
            names.append(os.listdir(mount.cell / "many/directory"))
            came.append(received(host) - before)
    assert names[0] == names[1]
    assert len(names[0]) == seed.MANY_NAMES
    assert came[0] > FEW * 0.9
    assert came[1] < came[0] - FEW * 0.8, came


def test_a_release_lets_what_is_the_same_stay(
    real_cell: RealCell, tmp_path: Path, options: str
) -> None:
    """A release gives the read-only volume another creation time, and its files keep versions."""
    host = real_cell.clients["client1"]
    for number in range(2):
        with mounted(real_cell, "client1", tmp_path / "afs", options=options) as mount:
            os.listdir(mount.cell / "replicated")
            before = received(host)
            data = (mount.cell / "replicated/data.bin").read_bytes()
            assert data == seed.REPLICATED.read(0, len(data))
            assert number == 0 or received(host) - before < FEW
        real_cell.volumes.release("replicated")


def test_what_another_client_has_changed_meanwhile_is_read_anew(
    real_cell: RealCell, tmp_path: Path, options: str
) -> None:
    afsio = Afsio(real_cell.clients["client2"])
    path = "/afs/.test.afs/scratch/slot26"
    for text in (b"one" * 10_000, b"two" * 10_000):
        afsio.overwrite(path, text)
        with mounted(real_cell, "client1", tmp_path / "afs", options=options) as mount:
            assert (mount.writable / "scratch/slot26").read_bytes() == text


def test_what_a_killed_daemon_left_is_stored_by_the_next_one(
    real_cell: RealCell, tmp_path: Path, options: str
) -> None:
    afsio = Afsio(real_cell.clients["client2"])
    host = real_cell.clients["client1"]
    path = "/afs/.test.afs/scratch/slot27"
    afsio.overwrite(path, b"x" * 100)
    point = tmp_path / "afs"
    point.mkdir()
    mount = RealMount(real_cell, host, "afs", point, options)
    try:
        mount.wait_until_mounted()
        target = str(mount.writable / "scratch/slot27")
        command = [sys.executable, "-c", CLOSED_NEVER, target]
        pipe = subprocess.PIPE
        with host.popen(command, mounts=False, stdin=pipe, stdout=pipe) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"written\n"
            mount.daemon.send_signal(signal.SIGKILL)
            mount.daemon.wait(SECONDS)
            writer.communicate()
    finally:
        mount.clear()
    assert afsio.read(path) == b"x" * 100
    wanted = b"x" * 5 + b"written" + b"x" * 28 + bytes(10) + b"more"
    with mounted(real_cell, "client1", point, options=options):
        assert eventually(lambda: afsio.read(path) == wanted, SECONDS)
    assert not list((tmp_path / "cache/0/journal").iterdir())
