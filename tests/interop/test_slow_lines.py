"""A line of 256 kbit/s: a large file is read, another one written, and everything else goes on."""

from __future__ import annotations

import hashlib
import os
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from tests.interop.mounts import mounted
from tests.interop.test_contents import digest_of_file
from tests.realcell.contents import PseudoRandom
from tests.tools.relay import Line, Relay

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future
    from pathlib import Path

    from tests.realcell.cell import RealCell

pytestmark = [pytest.mark.realcell, pytest.mark.mount]

SLOW = Line(round_trip_ms=40, rate_kbit=256, queue_ms=1000)
KIB = 1024
BOUND = 15.0
"""Seconds in which a small file is read, whatever else is on the line."""


def test_a_slow_line(real_cell: RealCell, tmp_path: Path) -> None:
    both_ways(real_cell, tmp_path, 160 * KIB)


@pytest.mark.soak
def test_a_slow_line_for_long(real_cell: RealCell, tmp_path: Path) -> None:
    both_ways(real_cell, tmp_path, 2048 * KIB)


def both_ways(cell: RealCell, folder: Path, size: int) -> None:
    content = PseudoRandom("slow", size)
    data = content.read(0, size)
    relay = Relay(cell, "client1", SLOW)
    with mounted(cell, "client2", folder / "there") as there:
        (there.writable / "scratch/slot23").write_bytes(data)
        with relay, mounted(cell, "client1", folder / "here", options="hard") as here:
            folders = [here.writable / name for name in ("scratch", "scratch2")]
            for path in folders:
                assert (path / "slot00").exists()  # its volume and its server are known
            began = time.monotonic()
            with ThreadPoolExecutor(2) as pool:
                read = pool.submit(digest_of_file, folders[0] / "slot23")
                written = pool.submit(write, folders[0] / "slot24", data)
                waits = list(small_files(folders[1], (read, written)))
                assert read.result() == hashlib.sha256(data).hexdigest()
                written.result()
            took = time.monotonic() - began
            log = here.log.read_text()
        assert (there.writable / "scratch/slot24").read_bytes() == data
    print(
        f"{size >> 10} KiB each way in {took:.1f} s, {size / took / 32_000:.0%} of the line; "
        f"{len(waits)} small files meanwhile, {max(waits):.1f} s at most; {relay.carried}"
    )
    assert max(waits) < BOUND
    assert "lost contact" not in log


def write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        os.fsync(file.fileno())


def small_files(folder: Path, others: tuple[Future[Any], ...]) -> Iterator[float]:
    """List a folder and read its files, none twice, while others are at work. -> seconds each"""
    began = time.monotonic()
    names = sorted(os.listdir(folder))
    yield time.monotonic() - began
    for name in filter("directory".__ne__, names):
        if all(other.done() for other in others):
            return
        began = time.monotonic()
        assert (folder / name).read_bytes()
        yield time.monotonic() - began
