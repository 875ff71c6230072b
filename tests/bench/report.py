"""Figures of several rounds into a table of medians and ratios, or into JSON."""

from __future__ import annotations

import json
import statistics
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from tests.bench import loopback, secured

if TYPE_CHECKING:
    from tests.bench.loopback import Figures


@dataclass(frozen=True)
class Metric:
    """A figure that is measured. `target` is the ratio to reach, better always being larger: to the
    peer, or to another figure of our own (`against`).
    """

    key: str
    title: str
    unit: str
    higher_is_better: bool = True
    target: float | None = None
    against: str | None = None


METRICS = (
    Metric("sequential-cold", "cold sequential read, 256 MiB", "MiB/s", target=1.8),
    Metric("sequential-warm", "warm sequential read, 256 MiB", "MiB/s", target=2.0),
    Metric(
        "reread",
        "the same after a restart of the daemon",
        "MiB/s",
        target=10.0,
        against="sequential-cold",
    ),
    Metric("walk-cold", "cold scandir + stat, 2,000 files", "files/s", target=1.5),
    Metric("walk-warm", "warm scandir + stat, 2,000 files", "files/s"),
    Metric("small-files-cold", "cold read of 2,000 small files", "files/s", target=1.3),
    Metric("small-files-warm", "warm read of 2,000 small files", "files/s"),
    Metric("random-reads", "2,000 random reads of 4 KiB, cold", "reads/s"),
    Metric("long-line", "cold sequential read over 12.5 ms", "MiB/s", target=20.0),
    Metric("write", "write and close, 256 MiB", "MiB/s", target=1.2),
    Metric("write-large", "write and close, 1 GiB with 64 MiB of memory", "MiB/s"),
    Metric("write-memory", "peak memory of the daemon then", "MiB", higher_is_better=False),
    Metric("rewrite", "change of a byte in a file of 256 MiB, with close", "times/s"),
    Metric("create", "create of 2,000 small files", "files/s", target=1.3),
    Metric("unlink", "unlink of 2,000 small files", "files/s", target=1.0),
    Metric("clone", "`git clone` of 1,000 files", "files/s"),
    Metric("untar", "`tar x` of 1,000 files", "files/s"),
    Metric("first-listing", "from start to first ls", "s", higher_is_better=False),
    Metric("peak-memory", "peak memory of the daemon", "MiB", higher_is_better=False),
)


@dataclass
class Report:
    """All samples: by metric, then by subject."""

    samples: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    loopback: list[Figures] = field(default_factory=list)
    """What was measured of the library alone; there is no peer to compare with."""
    secured: list[secured.Figures] = field(default_factory=list)
    """Reads with a token; the peer has none."""

    def add(self, metric: str, subject: str, value: float) -> None:
        """One more sample."""
        self.samples.setdefault(metric, {}).setdefault(subject, []).append(value)

    def median(self, metric: str, subject: str) -> float | None:
        """The middle of the samples, None when there are none."""
        values = self.samples.get(metric, {}).get(subject)
        return statistics.median(values) if values else None

    def ratio(self, metric: Metric, ours: str, peer: str) -> float | None:
        """How many times better we are than the peer, or than ourselves at something else."""
        mine, other = self.median(metric.key, ours), self.median(metric.key, peer)
        if metric.against is not None:
            other = self.median(metric.against, ours)
        if not mine or not other:
            return None
        return mine / other if metric.higher_is_better else other / mine

    def as_table(self, ours: str, peer: str) -> str:
        """A Markdown table, a row a metric."""
        lines = [
            f"| what | {ours} | {peer} | ratio | to reach |",
            "|---|---:|---:|---:|---:|",
        ]
        for metric in METRICS:
            mine, other = self.median(metric.key, ours), self.median(metric.key, peer)
            if mine is None and other is None:
                continue
            ratio = self.ratio(metric, ours, peer)
            lines.append(
                f"| {metric.title} | {_number(mine)} {metric.unit} | {_number(other)} {metric.unit}"
                f" | {'-' if ratio is None else f'{ratio:.2f}'} | {metric.target or ''} |"
            )
        return "\n".join([*lines, "", secured.as_table(self.secured), "", self.loopback_table()])

    def loopback_table(self) -> str:
        """The second table."""
        return loopback.as_table(self.loopback)

    def loopback_json(self) -> str:
        """The same for a machine."""
        return json.dumps(self._loopback_dict(), indent=2)

    def _loopback_dict(self) -> dict[str, object]:
        return {"loopback": [asdict(figures) for figures in self.loopback]}

    def as_json(self, ours: str, peer: str) -> str:
        """Medians, ratios and all samples."""
        return json.dumps(
            {
                metric.key: {
                    "title": metric.title,
                    "unit": metric.unit,
                    "target": metric.target,
                    "ratio": self.ratio(metric, ours, peer),
                    "medians": {name: self.median(metric.key, name) for name in (ours, peer)},
                    "samples": self.samples.get(metric.key, {}),
                }
                for metric in METRICS
            }
            | {"secured": [asdict(figures) for figures in self.secured]}
            | self._loopback_dict(),
            indent=2,
        )


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:,.2f}"
