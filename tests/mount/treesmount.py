"""A mount of a cell of many volumes that are all alike (`treesd`), by the command."""

from __future__ import annotations

import ast
import json
import sys
from typing import TYPE_CHECKING, Any

from tests.mount import treesd
from tests.mount.cellmount import CellMount
from tests.mount.harness import ROOT
from tests.mount.treesd import CELL

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from tests.mount.harness import Children

EXPIRE = 1


class TreesMount(CellMount):
    """Mounted with the same options each time."""

    def __init__(self, folder: Path, children: Children, volumes: int, options: str) -> None:
        super().__init__(folder, children, treesd.__name__, volumes)
        self._options = f"cachedir={folder / 'cache'},{options}"
        self.start()

    def start(self) -> None:
        self.mount(self._options)

    def stop(self) -> None:
        self.daemon.terminate()
        assert self.daemon.wait(30) == 0

    @property
    def cell(self) -> Path:
        return self.point / CELL

    def volume(self, number: int) -> Path:
        return self.cell / "v" / f"{number:03d}"

    def ask(self, *words: object) -> Any:
        return ast.literal_eval(self.orders.ask(repr(words)))

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
