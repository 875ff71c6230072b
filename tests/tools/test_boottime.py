"""The clock that is moved, and those that are not, as Python sees them."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from tests.tools.boottime import BootTime

if TYPE_CHECKING:
    from pathlib import Path

# Tells at each line of its input how far two clocks are ahead of what they were.
PROGRAM = """
import sys, time
def both():
    return time.clock_gettime(time.CLOCK_BOOTTIME), time.monotonic()
before = both()
for line in sys.stdin:
    print(*(round((now - then) / 100) for now, then in zip(both(), before)), flush=True)
"""


def test_only_the_clock_that_runs_while_a_machine_sleeps_is_moved(tmp_path: Path) -> None:
    clock = BootTime(tmp_path)
    with subprocess.Popen(
        [sys.executable, "-S", "-c", PROGRAM], text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, **clock.environment},
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        for slept in (0, 7200, 90_000):
            clock.sleep(slept)
            process.stdin.write("\n")
            process.stdin.flush()
            assert process.stdout.readline().split() == [str(slept // 100), "0"]
