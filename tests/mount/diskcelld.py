"""A cell by itself, which outlives the daemons that mount it: `diskcelld CONFDIR ADDRESS`.

Orders come in on standard input, one Python literal a line, each answered by a line: `("count",)`
says how often data was fetched, `("calls",)` how often anything was asked, `("make", NAME, SEED,
SIZE)` makes a file of random bytes, `("restore", NAME, SEED)` puts others into its place as a
restored volume would have them: the same data version, the same length, another creation time of
the volume. `("hold",)` lets no store end from now on, `("let",)` lets them; `("data", NAME)` tells
what a file holds, and `("append", NAME, BYTES)` writes to it as another client does. `("names",)`
tells what names there are.
"""

from __future__ import annotations

import ast
import random
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio

from afsfuse.democell import DemoCell
from afsfuse.democell.filedata import FileData
from afsfuse.democell.trees import MountPoint, plant
from afsfuse.interfaces.fileserver import STORE_DATA64, Fid

if TYPE_CHECKING:
    from afsfuse.democell.vnode import Vnode
    from afsfuse.democell.volume import Volume

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

    async def calls(self) -> str:
        return repr(dict(self._cell.faults.counts))

    async def make(self, name: str, seed: int, size: int) -> str:
        volume = self._cell.volume("root.cell")
        plant(volume, {name.encode(): contents(seed, size)})
        await self._cell.touched(volume, Fid(volume.id, 1, 1))
        return "done"

    async def restore(self, name: str, seed: int) -> str:
        volume, vnode = self._vnode(name)
        vnode.data = FileData(contents(seed, vnode.data.length))
        volume.created += 1
        return "done"

    def _vnode(self, name: str) -> tuple[Volume, Vnode]:
        volume = self._cell.volume("root.cell")
        found = volume.root.directory.find(name.encode())
        assert found is not None
        return volume, volume.vnode(*found)

    async def hold(self) -> str:
        self._cell.faults.delay(STORE_DATA64, 3600, times=1000)
        return "done"

    async def let(self) -> str:
        self._cell.faults.clear()
        return "done"

    async def data(self, name: str) -> str:
        data = self._vnode(name)[1].data
        return repr(data.read(0, data.length))

    async def names(self) -> str:
        return repr([name for name, _, _ in self._cell.volume("root.cell").root.directory])

    async def append(self, name: str, more: bytes) -> str:
        volume, vnode = self._vnode(name)
        assert isinstance(vnode.data, FileData)
        vnode.data.write(vnode.data.length, more)
        vnode.version += 1
        await self._cell.touched(volume, volume.fid(vnode))
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
