"""Reads with a token, encrypted and not, and how much of the file server's processor they take.

One process of the file server serves all; what it does in a second of its processor's time is what
can be had of it, so the share of a core that it is busy is how much of that we get.
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
from tests.bench.subjects import Afsfuse
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
    """Of a core, that the file server was busy."""
    daemon: list[float] = field(default_factory=list)
    """Of a core, that our daemon was busy."""

    @property
    def share(self) -> float:
        return statistics.median(self.shares)


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
                    options=f"noallow_other,crypt={one.level}",
                    env={OVERRIDE: runtime},
                )
                with subject.mount(cell, cell.clients["client1"]) as mounted:
                    _add(one, cell, mounted)
                say(
                    f"round {number} of {rounds}: {one.level}: {one.rates[-1]:.0f} MiB/s,"
                    f" server {one.shares[-1]:.0%} of a core, daemon {one.daemon[-1]:.0%}"
                )
    return figures


def _add(figures: Figures, cell: RealCell, mounted: Mounted) -> None:
    (server,) = cell.fs1.pids("dafileserver")
    command = [sys.executable, workload.__file__, "sequential", str(mounted.cell / "big/big.bin")]
    before = cpu_seconds(server), cpu_seconds(mounted.pid)
    done = cell.clients["client1"].run(command, mounts=False, timeout=600)
    result = json.loads(done.stdout)
    figures.rates.append(result["units"] / result["seconds"] / MIB)
    figures.shares.append((cpu_seconds(server) - before[0]) / result["seconds"])
    figures.daemon.append((cpu_seconds(mounted.pid) - before[1]) / result["seconds"])


def cpu_seconds(pid: int) -> float:
    """What a process has had of the processor, by the scheduler's own count of all its threads."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


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
        "| cold read of 256 MiB with a token | min | median | max | file server | daemon |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for one in figures:
        low, middle, high = min(one.rates), statistics.median(one.rates), max(one.rates)
        lines.append(
            f"| crypt={one.level} | {low:.0f} MiB/s | {middle:.0f} MiB/s | {high:.0f} MiB/s"
            f" | {one.share:.0%} | {statistics.median(one.daemon):.0%} |"
        )
    return "\n".join(lines)
