"""The rounds: each subject in turn, each time freshly mounted."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.bench import workload
from tests.bench.subjects import AfsdFuse, Afsfuse, Mounted, Subject
from tests.bench.writing import Writing
from tests.realcell import seed
from tests.tools.relay import Line, Relay

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.bench.report import Report
    from tests.realcell.cell import RealCell
    from tests.realcell.hosts import Host

MIB = 1 << 20
ROUND_TRIP_MS = 12.5
PEER_LONG_LINE_BYTES = 32 * MIB  # at its 2.5 MiB/s the whole file would take two minutes
VOLUMES = ("root.afs", "small", "big", "scratch", "home.alice", "root.cell")


@dataclass
class Bench:
    """A cell, its client hosts, and where the figures go."""

    cell: RealCell
    report: Report
    say: Callable[[str], None]

    def run(self, rounds: int) -> None:
        """All metrics, the subjects alternating within each round."""
        subjects: tuple[Subject, ...] = (Afsfuse(), AfsdFuse())
        host = self.cell.clients["client1"]
        writing = Writing(self.cell, self.report, self.say)
        for number in range(1, rounds + 1):
            for subject in subjects:
                self.say(f"round {number} of {rounds}: {subject.name}")
                self._usual(subject, host)
                self._random(subject, host)
                writing.run(subject, host, number)
            writing.run_large(host)
            writing.run_reread(host)
        self.say(f"the long line: {ROUND_TRIP_MS} ms")
        for subject in subjects:
            self._long_line(subject)

    def _usual(self, subject: Subject, host: Host) -> None:
        with subject.mount(self.cell, host) as mounted:
            self._add("first-listing", subject, mounted.seconds)
            for name, path in (("walk", "small/files"), ("small-files", "small/files")):
                for heat in ("cold", "warm"):
                    self._add(f"{name}-{heat}", subject, self._rate(mounted, name, path))
            for heat in ("cold", "warm"):
                rate = self._rate(mounted, "sequential", "big/big.bin") / MIB
                self._add(f"sequential-{heat}", subject, rate)
            self._add("peak-memory", subject, mounted.peak_mebibytes())

    def _random(self, subject: Subject, host: Host) -> None:
        with subject.mount(self.cell, host) as mounted:
            rate = self._rate(mounted, "random-reads", "big/big.bin")
            self._add("random-reads", subject, rate)

    def _long_line(self, subject: Subject) -> None:
        limit = seed.BIG.length if isinstance(subject, Afsfuse) else PEER_LONG_LINE_BYTES
        host = self.cell.clients["client2"]
        with (
            Relay(self.cell, host.name, Line(round_trip_ms=ROUND_TRIP_MS)),
            subject.mount(self.cell, host) as mounted,
        ):
            rate = self._rate(mounted, "sequential", "big/big.bin", str(limit))
            self._add("long-line", subject, rate / MIB)

    def _rate(self, mounted: Mounted, name: str, path: str, *arguments: str) -> float:
        """Units a second, measured by a process that has nothing else to do."""
        done = self.cell.clients["client1"].run(
            [sys.executable, workload.__file__, name, str(mounted.cell / path), *arguments],
            mounts=False,
            timeout=600,
        )
        result = json.loads(done.stdout)
        return float(result["units"] / result["seconds"])

    def _add(self, metric: str, subject: Subject, value: float) -> None:
        self.say(f"  {subject.name}: {metric} {value:,.2f}")
        self.report.add(metric, subject.name, value)


def profile(cell: RealCell, output: Path, say: Callable[[str], None]) -> None:
    """A cold read of the large file, with the daemon under cProfile."""
    host = cell.clients["client1"]
    with Afsfuse(profile=output).mount(cell, host) as mounted:
        bench = [sys.executable, workload.__file__, "sequential", str(mounted.cell / "big/big.bin")]
        say(host.run(bench, mounts=False, timeout=600).stdout)
