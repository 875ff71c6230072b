"""Where faults are played: two mounts, what is replicated, and a fresh volume for each fault.

The volume for a fault is on fs2, which the faults are about; fs1 has the location server. The big
file that is read is in a volume with replicas on both, of which fs2's is preferred.
"""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.interop.matrix.worker import BLOCK, digest
from tests.interop.mounts import mounted
from tests.realcell import dump
from tests.realcell.configuration import CELL
from tests.realcell.contents import Bytes, Directory, File, MountPoint, PseudoRandom

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tests.interop.mounts import RealMount
    from tests.realcell.cell import RealCell
    from tests.realcell.contents import Node

ROOT, COPIES = "matrix.root", "matrix.copies"
READ = PseudoRandom("matrix", 24 * BLOCK)  # three times what the mount keeps in memory
FOLDERS, FILES = 5, 6


@dataclass(frozen=True)
class Place:
    """The volume for one fault."""

    volume: str
    here: Path
    """In the mount that meets the fault, on client1."""
    there: Path
    """In the other one, on client2, which judges."""


class Stage:
    """Two mounts of one volume that leads to all others."""

    def __init__(self, cell: RealCell, here: RealMount, there: RealMount) -> None:
        self.cell = cell
        self.here = here
        self._there = there
        self.facts = {
            "copy": str(here.point / "copies/big"),
            "digests": [digest(READ.read(at, BLOCK)) for at in range(0, READ.length, BLOCK)],
            "files": FOLDERS * FILES,
        }
        """What loads have to know; see `worker`."""

    @contextmanager
    def place(self, name: str) -> Iterator[Place]:
        """A fresh volume for the fault of this name."""
        volume = f"matrix.{name}"
        self.cell.volumes.restore(volume, dump.write(_tree(), name=volume), "fs2")
        try:
            yield Place(volume, self.here.point / name, self._there.point / name)
        finally:
            _remove(self.cell, volume)

    def unstored(self) -> list[dict[str, Any]]:
        """What a mount has written and no server has."""
        done = subprocess.run(
            [sys.executable, "-m", "afsfuse", "status", "--json"], capture_output=True, check=True
        )
        files: list[dict[str, Any]] = json.loads(done.stdout)["files"]
        return files


@contextmanager
def stage(cell: RealCell, folder: Path, names: Sequence[str], options: str) -> Iterator[Stage]:
    """Both mounts, for faults of these names; `options` are those of the mount that meets them."""
    places: dict[bytes, Node] = {
        name.encode(): MountPoint(f"%matrix.{name}.".encode()) for name in names
    }
    places[b"copies"] = MountPoint(f"#{COPIES}.readonly.".encode())
    copies = Directory({b"big": File(READ)})
    near = f"serverprefs={cell.servers['fs2'].address}=10"
    source = f"%{CELL}:{ROOT}."
    with ExitStack() as stack:
        for volume, tree in ((ROOT, Directory(places)), (COPIES, copies)):
            cell.volumes.restore(volume, dump.write(tree, name=volume), "fs1")
            stack.callback(_remove, cell, volume)
        cell.volumes.replicate(COPIES)
        options = f"memory=8M,{near},{options}"
        here = mounted(cell, "client1", folder / "here", source=source, options=options)
        there = mounted(cell, "client2", folder / "there", source=source)
        yield Stage(cell, stack.enter_context(here), stack.enter_context(there))


def _tree() -> Directory:
    """What each load begins with."""
    folders: dict[bytes, Node] = {}
    for number in range(FOLDERS):
        names = [f"tree/d{number}/f{file}" for file in range(FILES)]
        files: dict[bytes, Node] = {
            name.rpartition("/")[2].encode(): File(Bytes(name.encode())) for name in names
        }
        folders[f"d{number}".encode()] = Directory(files)
    return Directory(
        {
            b"held": File(Bytes(b"before\n")),
            b"big": File(Bytes(b"")),
            b"tree": Directory(folders),
            b"new": Directory(),
        }
    )


def _remove(cell: RealCell, volume: str) -> None:
    """A volume with its replicas, wherever they are."""
    for suffix in (".readonly", ".backup", ""):
        for server in cell.servers.values():
            cell.vos(["remove", server.address, "a", volume + suffix], check=False)
