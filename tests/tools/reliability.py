"""Plays the fault matrix in full and writes its table into `docs/reliability.md`:

    python -m tests.tools.reliability [FAULT …]    all faults, or these; rows of others stay

As root, with a real cell of its own; all of it takes about 25 minutes. Exit status 1 when a load
did not survive: the row says so, and what it complained of is printed.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from afsfuse.auth.folders import OVERRIDE
from afsfuse.cache.disk.folder import OVERRIDE as CACHE_OVERRIDE
from tests.interop.matrix import report
from tests.interop.matrix.faults import FAULTS
from tests.interop.matrix.play import play
from tests.interop.matrix.stage import stage
from tests.realcell.cell import RealCell

PAGE = Path(__file__).parent.parent.parent / "docs" / "reliability.md"


def main() -> int:
    """Entry point; see the head of the file."""
    parser = argparse.ArgumentParser(prog="python -m tests.tools.reliability")
    names = [fault.name for fault in FAULTS]
    parser.add_argument("fault", nargs="*", choices=[*names, []])
    wanted = parser.parse_args().fault or names
    survived = True
    with tempfile.TemporaryDirectory(prefix="afsfuse-matrix-") as name, RealCell.start() as cell:
        folder = Path(name)
        os.environ |= {OVERRIDE: f"{folder}/run", CACHE_OVERRIDE: "none"}
        with stage(cell, folder, wanted, "hard") as made:
            for fault in (fault for fault in FAULTS if fault.name in wanted):
                outcomes = play(made, fault, fault.seconds, folder / fault.name)
                print("\n".join(report.lines(outcomes)), flush=True)
                survived &= not any(outcome.problems for outcome in outcomes)
                rows = {fault.name: report.row(fault, outcomes)}
                PAGE.write_text(report.renew(PAGE.read_text(), rows))
    return 0 if survived else 1


if __name__ == "__main__":
    sys.exit(main())
