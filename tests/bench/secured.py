"""Reads with a token, encrypted and not, and how much of the file server's processor they take.

One process of the file server serves all; what it does in a second of its processor's time is what
can be had of it. So the share of the time in which it works, or is kept from it because others have
the processor, is how much of that we get: the rest of the time it waits for us.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from afsfuse.auth.folders import OVERRIDE
from afsfuse.auth.identity import Identity
from afsfuse.auth.store import TokenStore
from tests.bench import workload
from tests.bench.subjects import NO_DISK, Afsfuse
from tests.realcell.tokens import made_token, service_keys

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.bench.subjects import Mounted
    from tests.realcell.cell import RealCell

MIB = 1 << 20
LEVELS = ("clear", "auth", "crypt")
SHARE_TO_REACH = 0.85


@dataclass
class Figures:
    """What was measured at one level, a round each."""

    level: str
    rates: list[float] = field(default_factory=list)
    """MiB/s."""
    shares: list[float] = field(default_factory=list)
    """Of a core, that the file server used."""
    occupied: list[float] = field(default_factory=list)
    """The same with the time that it waited for a core."""
    daemon: list[float] = field(default_factory=list)
    """Of a core, that our daemon was busy."""

    @property
    def reached(self) -> float:
        """How much of what the file server can do was had of it."""
        return statistics.median(self.occupied)


def measure(
    cell: RealCell, rounds: int, say: Callable[[str], None], profile: Path | None = None
) -> list[Figures]:
    """Cold sequential reads of the large file, the levels alternating within each round."""
    figures = [Figures(level) for level in LEVELS]
    with _token(cell) as runtime:
        for number in range(1, rounds + 1):
            for one in figures:
                subject = Afsfuse(
                    profile=profile if one.level == "crypt" else None,
                    options=f"{NO_DISK},noallow_other,crypt={one.level}",
                    env={OVERRIDE: runtime},
                )
                with subject.mount(cell, cell.clients["client1"]) as mounted:
                    _add(one, cell, mounted)
                say(
                    f"round {number} of {rounds}: {one.level}: {one.rates[-1]:.0f} MiB/s,"
                    f" server {one.shares[-1]:.0%} of a core"
                    f" (with waiting {one.occupied[-1]:.0%}), daemon {one.daemon[-1]:.0%}"
                )
    return figures


def _add(figures: Figures, cell: RealCell, mounted: Mounted) -> None:
    (server,) = cell.fs1.pids("dafileserver")
    command = [sys.executable, workload.__file__, "sequential", str(mounted.cell / "big/big.bin")]
    used, waited = cpu_seconds(server)
    used_here, _ = cpu_seconds(mounted.pid)
    done = cell.clients["client1"].run(command, mounts=False, timeout=600)
    result = json.loads(done.stdout)
    figures.rates.append(result["units"] / result["seconds"] / MIB)
    used_now, waited_now = cpu_seconds(server)
    used, waited = used_now - used, waited_now - waited
    figures.shares.append(used / result["seconds"])
    figures.occupied.append((used + waited) / result["seconds"])
    figures.daemon.append((cpu_seconds(mounted.pid)[0] - used_here) / result["seconds"])


def cpu_seconds(pid: int) -> tuple[float, float]:
    """What the threads of a process have had of the processor, and how long they waited for it.

    Both are the scheduler's own counts. Source: Documentation/scheduler/sched-stats.rst of Linux
    """
    counts = [
        (task / "schedstat").read_text().split() for task in Path(f"/proc/{pid}/task").iterdir()
    ]
    return sum(int(one[0]) for one in counts) / 1e9, sum(int(one[1]) for one in counts) / 1e9


@contextmanager
def _token(cell: RealCell) -> Iterator[str]:
    """A folder in which root has a token, as after `afsfuse aklog`."""
    with tempfile.TemporaryDirectory(prefix="afsfuse-bench-") as folder:
        store = TokenStore(Path(folder) / "run")
        store.load()
        store.set(Identity(uid=0), made_token(service_keys(cell), "alice"))
        store.close()
        yield str(store.folder)


def as_table(figures: list[Figures]) -> str:
    """A Markdown table, a row a level."""
    lines = [
        "| cold read, 256 MiB, with a token | min | median | max | server | + waiting | daemon |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for one in figures:
        low, middle, high = min(one.rates), statistics.median(one.rates), max(one.rates)
        lines.append(
            f"| crypt={one.level} | {low:.0f} MiB/s | {middle:.0f} MiB/s | {high:.0f} MiB/s"
            f" | {statistics.median(one.shares):.0%} | {one.reached:.0%}"
            f" | {statistics.median(one.daemon):.0%} |"
        )
    return "\n".join(lines)
