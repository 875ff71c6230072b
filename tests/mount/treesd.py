"""A cell of many volumes in a process of its own: `treesd ADDRESS CONFDIR VOLUMES`.

    /afs/trees.test/loop     the cell's root again
                    v/000    volumes that look all the same, down to their vnode numbers:
                      001      file, folder/inner, folder/deeper/innermost, big
                      ...

The first volume has a mount point `below` for the second. Orders come in on standard input, one
Python literal a line, each answered by a line: `("promises",)` how many are held;
`("write", VOLUME, TEXT)` changes its file as another client would, and says how many were told;
`("link", VOLUME)` gives the file another name, `twin`; `("quota", VOLUME, KIB)`;
`("calls", NAME)` how many calls of a procedure there were.
"""

from __future__ import annotations

import ast
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from afsfuse.democell import DemoCell
from afsfuse.democell.trees import MountPoint, plant
from afsfuse.interfaces import fileserver as fs
from afsfuse.interfaces.common import Fid
from rxrpc import Endpoint
from rxrpc.rpc import Void
from tests.cell.raw import RawClient

if TYPE_CHECKING:
    from afsfuse.democell.trees import Tree

CELL = "trees.test"
ROOT = 1
FEW = 10
"""Volumes of a cell that have all this; if there are more, each has but a file and a folder."""
_CONTENTS: Tree = {
    b"file": b"once\n",
    b"folder": {b"inner": b"deep\n", b"deeper": {b"innermost": b"deepest\n"}},
    b"big": b"0123456789abcdef" * 4096,
}


def name_of(number: int) -> str:
    return f"{number:03d}"


def make_cell(address: str, volumes: int) -> DemoCell:
    cell = DemoCell(CELL, [address])
    for name in ("root.afs", "root.cell", *(f"v.{name_of(n)}" for n in range(volumes))):
        cell.create_volume(name)
    points = {name_of(n).encode(): MountPoint(b"#v.%s." % name_of(n).encode())
              for n in range(volumes)}  # fmt: skip
    plant(cell.volume("root.cell"), {b"v": points, b"loop": MountPoint(b"#root.cell.")})
    few: Tree = {b"file": b"once\n", b"folder": {}}
    contents = _CONTENTS if volumes <= FEW else few
    for number in range(volumes):
        plant(cell.volume(f"v.{name_of(number)}"), contents)
    if volumes > 1:
        plant(cell.volume("v.000"), {b"below": MountPoint(b"#v.001.")})
    return cell


def child(cell: DemoCell, volume_name: str, name: bytes) -> Fid:
    volume = cell.volume(volume_name)
    found = volume.root.directory.find(name)
    assert found is not None
    return Fid(volume.id, *found)


async def obey(cell: DemoCell, client: RawClient, what: str, *words: str) -> object:
    server = cell.servers["fs1"]
    match what:
        case "promises":
            return server.hosts.promises
        case "write":
            volume, text = words
            before = server.hosts.promises
            await client.store(child(cell, volume, b"file"), text.encode())
            await client.call(fs.GIVE_UP_ALL_CALLBACKS, Void())
            return before - server.hosts.promises
        case "quota":
            volume, kib = words
            cell.volume(volume).quota = int(kib)
            return "done"
        case "calls":
            return cell.faults.counts[words[0]]
        case "link":
            (volume,) = words
            number = cell.volume(volume).id
            args = fs.LinkArgs(Fid(number, ROOT, ROOT), b"twin", child(cell, volume, b"file"))
            await client.call(fs.LINK, args)
            return "done"
    raise ValueError(what)


async def main(address: str, volumes: int) -> None:
    cell = make_cell(address, volumes)
    async with cell.serving(), trio.open_nursery() as nursery:
        client = RawClient(Endpoint(bind=(address, 0)))
        await nursery.start(client.endpoint.run)
        client.use((address, fs.PORT))
        print("ready", flush=True)
        while line := await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
            print(repr(await obey(cell, client, *ast.literal_eval(line))), flush=True)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    Path(sys.argv[2], "ThisCell").write_text(f"{CELL}\n")
    Path(sys.argv[2], "CellServDB").write_text(f">{CELL}\n{sys.argv[1]} #localhost\n")
    trio.run(partial(main, sys.argv[1], int(sys.argv[3])))
