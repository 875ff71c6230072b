"""A cell by itself, which outlives the daemons that mount it: `diskcelld CONFDIR ADDRESS`.

Orders come in on standard input, one Python literal a line, each answered by a line:
`("count",)` says how often data was fetched, `("make", NAME, SEED, SIZE)` makes a file of random
bytes, `("restore", NAME, SEED)` puts others into its place as a restored volume would have them:
the same data version, the same length, another creation time of the volume.
"""

from __future__ import annotations

import ast
import random
import sys
from pathlib import Path
from typing import Any

import trio

from afsfuse.democell import DemoCell
from afsfuse.democell.filedata import FileData
from afsfuse.democell.trees import MountPoint, plant
from afsfuse.interfaces.fileserver import Fid

CELL = "disk.test"


def contents(seed: int, size: int) -> bytes:
    """Bytes that differ from block to block, and for each seed."""
    block = random.Random(seed).randbytes(65521)
    return (block * (size // len(block) + 1))[:size]


class Orders:
    """What the cell does when it is told to."""

    def __init__(self, cell: DemoCell) -> None:
        self._cell = cell

    async def count(self) -> str:
        return str(self._cell.faults.counts["FetchData64"])

    async def make(self, name: str, seed: int, size: int) -> str:
        volume = self._cell.volume("root.cell")
        plant(volume, {name.encode(): contents(seed, size)})
        await self._cell.touched(volume, Fid(volume.id, 1, 1))
        return "done"

    async def restore(self, name: str, seed: int) -> str:
        volume = self._cell.volume("root.cell")
        found = volume.root.directory.find(name.encode())
        assert found is not None
        vnode = volume.vnode(*found)
        vnode.data = FileData(contents(seed, vnode.data.length))
        volume.created += 1
        return "done"


async def main(address: str) -> None:
    cell = DemoCell(CELL, [address])
    for name in ("root.afs", "root.cell"):
        cell.create_volume(name)
    plant(cell.volume("root.afs"), {CELL.encode(): MountPoint(b"%root.cell.")})
    orders = Orders(cell)
    async with cell.serving():
        print("serving", flush=True)
        while line := await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
            verb, *words = ast.literal_eval(line)
            order: Any = getattr(orders, verb)
            print(await order(*words), flush=True)


if __name__ == "__main__":
    Path(sys.argv[1], "ThisCell").write_text(f"{CELL}\n")
    Path(sys.argv[1], "CellServDB").write_text(f">{CELL}\n{sys.argv[2]} #localhost\n")
    trio.run(main, sys.argv[2])
