"""A cell in one process, for daemons in others: `celld CONFDIR ADDRESS`.

The volume `data`, in which anybody may do everything, is mounted in the root as `one` and `two`,
`other` as `other`. Orders come in on standard input, one Python literal a line, each answered by a
line: `("names", VOLUME)` tells what is in the root of a volume, `("make", VOLUME, NAME)` and
`("remove", VOLUME, NAME)` change it as another client would.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import trio

from afsfuse.democell import DemoCell, names
from afsfuse.democell.acl import AccessList
from afsfuse.democell.trees import MountPoint, plant
from afsfuse.interfaces.common import Fid
from afsfuse.interfaces.fileserver import FileType
from afsfuse.interfaces.protection import ANYUSER

CELL = "names.test"
_EVERYTHING = AccessList({ANYUSER: 0x7F})


def make_cell(address: str) -> DemoCell:
    cell = DemoCell(CELL, [address])
    for name in ("root.afs", "root.cell", "data", "other"):
        cell.create_volume(name, acl=_EVERYTHING)
    plant(cell.volume("root.afs"), {CELL.encode(): MountPoint(b"%root.cell.")})
    points = {b"one": b"data", b"two": b"data", b"other": b"other"}
    plant(
        cell.volume("root.cell"),
        {name: MountPoint(b"%%%s." % volume) for name, volume in points.items()},
    )
    return cell


async def obey(cell: DemoCell, verb: str, name: str, *words: str) -> object:
    volume = cell.volume(name)
    root = volume.root
    if verb == "names":
        return sorted(found.decode() for found, _, _ in root.directory)
    if verb == "make":
        names.create(volume, root, words[0].encode(), FileType.FILE, data=b"theirs\n")
    else:
        names.remove(volume, root, words[0].encode(), directory=False)
    await cell.servers["fs1"].changed(volume, Fid(volume.id, 1, 1), by=None)
    return "done"


async def main(address: str) -> None:
    cell = make_cell(address)
    async with cell.serving():
        print("serving", flush=True)
        while line := await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
            print(repr(await obey(cell, *ast.literal_eval(line))), flush=True)


if __name__ == "__main__":
    Path(sys.argv[1], "ThisCell").write_text(f"{CELL}\n")
    Path(sys.argv[1], "CellServDB").write_text(f">{CELL}\n{sys.argv[2]} #localhost\n")
    trio.run(main, sys.argv[2])
