"""A machine that sleeps, for one process: a preloaded library moves its CLOCK_BOOTTIME ahead.

It is the one clock that runs while a machine sleeps, and no process can be told to see it so but
from inside: time namespaces are set before anybody lives in them.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_SOURCE = Path(__file__).with_suffix(".c")


class BootTime:
    """The clock of one process, which is started with `environment`."""

    def __init__(self, folder: Path) -> None:
        """Builds the library in `folder`. Raises CalledProcessError."""
        self._ahead = folder / "ahead"
        library = folder / "boottime.so"
        command = ["gcc", "-O2", "-Wall", "-Wextra", "-shared", "-fPIC"]
        subprocess.run([*command, "-o", str(library), str(_SOURCE), "-ldl"], check=True)
        self.environment: Mapping[str, str] = {
            "LD_PRELOAD": str(library),
            "BOOTTIME_AHEAD": str(self._ahead),
        }

    def sleep(self, seconds: int) -> None:
        """The process will see that the machine has slept for so long in all."""
        whole = self._ahead.with_suffix(".new")
        whole.write_text(f"{seconds}\n")
        whole.rename(self._ahead)
