"""A cell in a process of its own, and a mount of it by the command."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from tests.mount.harness import ROOT, wait_until
from tests.mount.usersmount import Process, beside, loopback_address
from tests.tools import hasty

if TYPE_CHECKING:
    from pathlib import Path

    from tests.mount.harness import Children


class CellMount:
    """`module` serves a cell at an address, with its configuration in a folder, by what `words`
    say; it answers orders.
    """

    def __init__(self, folder: Path, children: Children, module: str, *words: int) -> None:
        self.children = children
        self.folder = folder
        self.point = folder / "afs"
        self.log = folder / "log"
        confdir = folder / "conf"
        for each in (self.point, confdir):
            each.mkdir()
        address = loopback_address()
        cell = children.start(
            sys.executable, "-m", module, address, confdir, *map(str, words),
            stdin=subprocess.PIPE, cwd=ROOT,
        )  # fmt: skip
        self.cell_process = cell.pid
        self.orders = Process(cell, b"ready")
        self._place = f"confdir={confdir},bind={beside(address)},logfile={self.log}"

    def mount(self, options: str, **times: float) -> None:
        """Start the daemon; `times` as for `tests.tools.hasty`."""
        self.daemon = self.children.start(
            sys.executable, *hasty.program(**times), "mount", "afs", self.point, "-f",
            "-o", f"{self._place},{options}", cwd=ROOT,
        )  # fmt: skip
        wait_until(lambda: os.path.ismount(self.point), "the mount")
