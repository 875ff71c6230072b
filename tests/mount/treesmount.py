"""A mount of a cell of many volumes that are all alike (`treesd`), by the command."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from tests.mount.harness import ROOT, wait_until
from tests.mount.treesd import CELL
from tests.mount.usersmount import Process, beside, loopback_address

if TYPE_CHECKING:
    from pathlib import Path

    from tests.mount.harness import Children

EXPIRE = 1


class TreesMount:
    """A cell, and a mount of it by the command."""

    def __init__(self, folder: Path, children: Children, volumes: int, options: str) -> None:
        self.children = children
        self.folder = folder
        self.point = folder / "afs"
        self.point.mkdir()
        confdir = folder / "conf"
        confdir.mkdir()
        address = loopback_address()
        cell = children.start(
            sys.executable, "-m", "tests.mount.treesd", address, confdir, str(volumes),
            stdin=subprocess.PIPE, cwd=ROOT,
        )  # fmt: skip
        self.cell_process = cell.pid
        self._cell = Process(cell, b"ready")
        self.log = folder / "log"
        words = f"confdir={confdir},bind={beside(address)},logfile={self.log}"
        words += f",cachedir={folder / 'cache'}"
        self._options = f"{words},{options}"
        self.start()

    def start(self) -> None:
        self.daemon = self.children.start(
            sys.executable, "-m", "afsfuse", "mount", "afs", self.point, "-f",
            "-o", self._options, cwd=ROOT,
        )  # fmt: skip
        wait_until(lambda: os.path.ismount(self.point), "the mount")

    def stop(self) -> None:
        self.daemon.terminate()
        assert self.daemon.wait(30) == 0

    @property
    def cell(self) -> Path:
        return self.point / CELL

    def volume(self, number: int) -> Path:
        return self.cell / "v" / f"{number:03d}"

    def ask(self, *words: object) -> Any:
        return ast.literal_eval(self._cell.ask(repr(words)))

    def afsfuse(self, *words: str | Path) -> subprocess.CompletedProcess[bytes]:
        return self.children.run(sys.executable, "-m", "afsfuse", *words, cwd=ROOT)

    def trees(self) -> dict[str, dict[str, Any]]:
        """What the command says of each, by its path below the cell."""
        done = self.afsfuse("mounts", "--json")
        assert done.returncode == 0, done.stderr
        return {
            tree["path"].removeprefix(f"{self.point}/{CELL}"): tree
            for tree in json.loads(done.stdout)["trees"]
            if tree["path"].startswith(str(self.point))
        }

    def gone(self, *paths: str) -> bool:
        return not set(paths) & self.trees().keys()
