"""What the daemon takes of memory while very much is looked at, and that it gives it back.

A user's case: the daemon and a cell are processes of their own, and a program walks through the
kernel. The start is the daemon after a first `ls` in a volume. What counts is the resident size, as
`ps` and `top` show it; `RssAnon`, the part of it that is in no file, is printed, too.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import pytest

from afsfuse.memory import able
from tests.mount import inodesd, treesd
from tests.mount.cellmount import CellMount
from tests.mount.harness import Children, clear, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = [
    pytest.mark.mount,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root to see all processes"),
    pytest.mark.skipif(not able(), reason="another Python, or another C library"),
]

MIB = 1 << 20
SHARED = 200  # volumes after which what all share, such as the logs of fixed length, is full
WALK = """
import os, sys
place, first, end = sys.argv[1:]
for name in sorted(os.listdir(place))[int(first) : int(end)]:
    for entry in os.scandir(os.path.join(place, name)):
        entry.stat(follow_symlinks=False)
"""


class Taken(NamedTuple):
    """Bytes of memory of a process."""

    resident: int
    anonymous: int

    def __str__(self) -> str:
        return f"{self.resident / MIB:.1f} MiB ({self.anonymous / MIB:.1f} anonymous)"


class Watched(CellMount):
    """With the memory of its daemon."""

    def _sizes(self, *names: str) -> list[int]:
        """Bytes, by their names in proc(5)."""
        with open(f"/proc/{self.daemon.pid}/status", encoding="utf-8") as file:
            fields = dict(line.split(":", 1) for line in file)
        return [int(fields[name].split()[0]) << 10 for name in names]

    def taken(self) -> Taken:
        return Taken(*self._sizes("VmRSS", "RssAnon"))

    def highest(self) -> int:
        """The most bytes that were resident since the start."""
        (peak,) = self._sizes("VmHWM")
        return peak

    def returned(self, start: Taken, share: float, seconds: float) -> Taken:
        """Wait until the memory is within a share of its start, or tell that it is not."""
        try:
            wait_until(lambda: self.taken().resident <= start.resident * share, "less", seconds)
        except AssertionError:
            pytest.fail(f"{start} at the start, still {self.taken()} at the end")
        return self.taken()


@pytest.fixture
def watched(tmp_path: Path, children: Children) -> Iterator[Callable[..., Watched]]:
    made: list[Path] = []
    numbers = itertools.count()

    def make(cell: str, *words: int) -> Watched:
        folder = tmp_path.resolve() / str(next(numbers))
        made.append(folder)
        folder.mkdir()
        return Watched(folder, children, cell, *words)

    yield make
    children.end()
    for folder in made:
        clear(folder / "afs")


def volumes_come_and_go(
    watched: Callable[..., Watched], cache: str, volumes: int, expire: int, most: int
) -> None:
    """`most`: bytes of memory that each volume after the first may take."""
    w = watched(treesd.__name__, volumes)
    cachedir = "none" if cache == "none" else f"{w.folder / 'cache'},cachesize=1G"
    w.mount(f"expire={expire},cachedir={cachedir}")
    place = w.point / treesd.CELL / "v"
    os.listdir(place / treesd.name_of(0))
    start = w.taken()

    def walk(first: int, end: int) -> Taken:
        subprocess.run([sys.executable, "-c", WALK, place, str(first), str(end)], check=True)
        return w.taken()

    shared, peak = walk(0, SHARED), walk(SHARED, volumes)
    each = (peak.resident - shared.resident) / (volumes - SHARED)
    print(f"{volumes} volumes, cache {cache}: {start} at the start, {shared} after", end=" ")
    print(f"{SHARED}, {peak} at the peak, {each:.0f} bytes each")
    assert 1000 < each < most
    wait_until(lambda: w.orders.ask("('promises',)") == "0", "the trees go", 3 * expire + 60)
    end = w.returned(start, 1.10, 60)
    print(f"{end} at the end: {100 * (end.resident / start.resident - 1):.1f} % more")


def inodes_come_and_go(
    watched: Callable[..., Watched], directories: int, names: int, most: int, share: float
) -> None:
    """`find` looks at all; then the volumes expire, and the kernel drops what it remembers."""
    count = directories * names
    expire = 5
    w = watched(inodesd.__name__, directories, names)
    w.mount(f"expire={expire},cachedir=none")
    place = w.point / inodesd.CELL
    os.listdir(place / "000")
    start = w.taken()
    find = subprocess.run(
        ["find", place, "-type", "f", "-size", "0", "-printf", "."], check=True, capture_output=True
    )
    assert len(find.stdout) == count
    peak = w.highest()
    print(f"{count} inodes: {start} at the start, {peak / MIB:.1f} MiB at the peak,", end=" ")
    print(f"{(peak - start.resident) / count:.0f} bytes each")
    assert peak < most
    calls = sum(int(w.orders.ask(name)) for name in ("InlineBulkStatus", "FetchStatus"))
    print(f"{calls} calls for statuses, {calls / count:.4f} each")
    assert calls < count / 24  # a call has room for 49
    end = w.returned(start, share, 3 * expire + 120)
    print(f"{end} at the end: {100 * (end.resident / start.resident - 1):.1f} % more")


def test_what_comes_and_goes_gives_its_memory_back(watched: Callable[..., Watched]) -> None:
    """All that is mostly waiting, so that three daemons do it at once."""
    with ThreadPoolExecutor() as pool:
        for future in [
            pool.submit(volumes_come_and_go, watched, "none", 500, 3, 20_000),
            pool.submit(volumes_come_and_go, watched, "disk", 500, 3, 20_000),
            pool.submit(inodes_come_and_go, watched, 4, 5_000, 120 * MIB, 1.10),
        ]:
            future.result()


@pytest.mark.soak
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("cache", ["none", "disk"])
def test_ten_thousand_volumes_give_their_memory_back(
    watched: Callable[..., Watched], cache: str
) -> None:
    volumes_come_and_go(watched, cache, 10_000, 60, 16_000)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_million_inodes_give_their_memory_back(watched: Callable[..., Watched]) -> None:
    inodes_come_and_go(watched, 100, 10_000, 400 * MIB, 1.10)
