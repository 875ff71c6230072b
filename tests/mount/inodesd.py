"""A cell of very many files in a process of its own: `inodesd ADDRESS CONFDIR DIRECTORIES NAMES`.

    /afs/inodes.test/000/000/00000   a volume, a directory in it, one of NAMES empty files
                     001/...         volumes of at most `PER_VOLUME` directories each

It prints `ready`, and serves until its standard input ends. To each line that comes in, the name
of a procedure, it says how many calls of that there were.
"""

from __future__ import annotations

import sys
from pathlib import Path

import trio

from afsfuse.democell import DemoCell
from afsfuse.democell.trees import MountPoint, plant

CELL = "inodes.test"
PER_VOLUME = 20


def make_cell(address: str, directories: int, names: int) -> DemoCell:
    cell = DemoCell(CELL, [address])
    for name in ("root.afs", "root.cell"):
        cell.create_volume(name)
    files = {b"%05d" % number: b"" for number in range(names)}
    for volume in range(-(-directories // PER_VOLUME)):
        name = f"{volume:03d}"
        here = range(min(PER_VOLUME, directories - volume * PER_VOLUME))
        plant(cell.create_volume(f"f.{name}"), {b"%03d" % number: files for number in here})
        plant(cell.volume("root.cell"), {name.encode(): MountPoint(b"#f.%s." % name.encode())})
    return cell


async def main(address: str, directories: int, names: int) -> None:
    cell = make_cell(address, directories, names)
    async with cell.serving():
        print("ready", flush=True)
        while line := await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
            print(cell.faults.counts[line.strip()], flush=True)


if __name__ == "__main__":
    Path(sys.argv[2], "ThisCell").write_text(f"{CELL}\n")
    Path(sys.argv[2], "CellServDB").write_text(f">{CELL}\n{sys.argv[1]} #localhost\n")
    trio.run(main, sys.argv[1], int(sys.argv[3]), int(sys.argv[4]))
