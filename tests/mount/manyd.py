"""A cell of many volumes, for a daemon in another process: `manyd CONFDIR ADDRESS COUNT`.

Each volume has three files, and is mounted in the cell's root: `v0`, `v1` and so on. It ends at end
of file.
"""

from __future__ import annotations

import sys
from pathlib import Path

import trio

from afsfuse.democell import DemoCell
from afsfuse.democell.trees import MountPoint, plant

CELL = "many.test"
PER_DIRECTORY = 1000


def make_cell(address: str, count: int) -> DemoCell:
    cell = DemoCell(CELL, [address])
    cell.create_volume("root.cell")
    for number in range(count):
        plant(cell.create_volume(f"v{number}"), {b"one": b"1", b"two": b"22", b"three": b"333"})
    plant(
        cell.volume("root.cell"),
        {
            b"d%d" % first: {
                b"v%d" % number: MountPoint(b"#v%d." % number)
                for number in range(first, min(first + PER_DIRECTORY, count))
            }
            for first in range(0, count, PER_DIRECTORY)
        },
    )
    return cell


async def main(address: str, count: int) -> None:
    async with make_cell(address, count).serving():
        print("serving", flush=True)
        await trio.to_thread.run_sync(sys.stdin.read)


if __name__ == "__main__":
    Path(sys.argv[1], "ThisCell").write_text(f"{CELL}\n")
    Path(sys.argv[1], "CellServDB").write_text(f">{CELL}\n{sys.argv[2]} #localhost\n")
    trio.run(main, sys.argv[2], int(sys.argv[3]))
