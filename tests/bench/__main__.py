"""`make bench` and `make profile`."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.bench import loopback, profiling, runner, secured
from tests.bench.report import METRICS, Report
from tests.bench.subjects import AfsdFuse, Afsfuse
from tests.realcell import seed
from tests.realcell.cell import CellError, RealCell


def say(text: str) -> None:
    """Progress goes to the error output, so that the result can be piped."""
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    """Run it; 0 when every ratio to reach was reached, 1 when not, 2 when it could not run."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each subject (default 3)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--profile", action="store_true", help="only profile a cold read")
    parser.add_argument("--secured", action="store_true", help="only reads with a token")
    parser.add_argument("--loopback", action="store_true", help="only the library; needs no cell")
    arguments = parser.parse_args()
    try:
        if arguments.profile:
            return _profile()
        if arguments.secured:
            return _secured(arguments.rounds)
        return _measure(arguments)
    except CellError as exc:
        say(f"no cell to measure on: {exc}")
        return 2


def _profile() -> int:
    with RealCell.start() as cell, tempfile.TemporaryDirectory() as folder:
        seed.populate(cell, runner.VOLUMES)
        output = Path(folder) / "profile"
        runner.profile(cell, output, say)
        print(profiling.as_table(output))
    return 0


def _secured(rounds: int) -> int:
    with RealCell.start() as cell:
        seed.populate(cell, runner.VOLUMES)
        figures = secured.measure(cell, rounds, say)
    print(secured.as_table(figures))
    return reached(figures)


def reached(figures: list[secured.Figures]) -> int:
    """1 when the encrypted read leaves more of the file server idle than it may."""
    (crypt,) = [one for one in figures if one.level == "crypt"]
    if crypt.reached >= secured.SHARE_TO_REACH:
        return 0
    say(f"below its target of {secured.SHARE_TO_REACH:.0%}: how busy the file server is at crypt")
    return 1


def _measure(arguments: argparse.Namespace) -> int:
    say("the library alone, on the loopback")
    report = Report(loopback=loopback.measure())
    if arguments.loopback:
        print(report.loopback_json() if arguments.json else report.loopback_table())
        return 0
    with RealCell.start() as cell:
        seed.populate(cell, runner.VOLUMES)
        runner.Bench(cell, report, say).run(arguments.rounds)
        report.secured = secured.measure(cell, arguments.rounds, say)
    ours, peer = Afsfuse.name, AfsdFuse.name
    print(report.as_json(ours, peer) if arguments.json else report.as_table(ours, peer))
    missed = [
        metric
        for metric in METRICS
        if metric.target and (report.ratio(metric, ours, peer) or 0) < metric.target
    ]
    for metric in missed:
        say(f"below its target of {metric.target}: {metric.title}")
    return 1 if missed or reached(report.secured) else 0


if __name__ == "__main__":
    sys.exit(main())
