"""A cell in a process of its own, for programs that are no tests: `python -m tests.cell.serve IP`.

It has the standard contents, says `ready` when it answers, and ends with its input. Lines of its
input are orders: `store VOLUME NAME TEXT` writes a file in a volume's root as another client would,
`promises` prints how many promises are held, `volume NAME` the number of a volume, `token USER` a
token as daemons take it; `join NAME NUMBER` and `leave NAME` make a user known and unknown, and
`quota VOLUME` prints quota and use in KiB.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING

import trio

from afsfuse.interfaces import fileserver as fs
from afsfuse.interfaces.common import Fid
from rxrpc import Endpoint
from tests.cell import site
from tests.cell.planting import VOLUMES, planted
from tests.cell.raw import RawClient
from tests.cell.site import ROOT

if TYPE_CHECKING:
    from afsfuse.democell import DemoCell


async def serve(address: str) -> None:
    volumes = [name for name in VOLUMES if name not in ("scratch2",)]
    cell = await planted(volumes, [address], sites=["fs1"])
    async with cell.serving(), trio.open_nursery() as nursery:
        client = RawClient(Endpoint(bind=(address, 0)))
        await nursery.start(client.endpoint.run)
        client.use((address, fs.PORT))
        print("ready", flush=True)
        while line := await trio.to_thread.run_sync(sys.stdin.readline):
            print(await _obey(cell, client, *line.rstrip("\n").split(" ", 3)), flush=True)
        nursery.cancel_scope.cancel()


async def _obey(cell: DemoCell, client: RawClient, what: str, *words: str) -> str:
    if what == "promises":
        return str(cell.servers["fs1"].hosts.promises)
    if what == "volume":
        return str(cell.volume(words[0]).id)
    if what == "token":
        return site.token_of(cell, words[0]).encode()
    if what == "join":
        cell.people.add_user(words[0], int(words[1]))
        return "joined"
    if what == "leave":
        cell.people.remove(words[0].encode())
        return "left"
    if what == "quota":
        return f"{cell.volume(words[0]).quota} {cell.volume(words[0]).used}"
    volume_name, name, text = words
    volume = cell.volume(volume_name)
    found = volume.root.directory.find(name.encode())
    root = Fid(volume.id, ROOT, ROOT)
    if found is None:
        await client.create(root, name.encode(), text.encode())
    else:
        await client.store(Fid(volume.id, *found), text.encode())
    return "stored"


if __name__ == "__main__":
    trio.run(partial(serve, sys.argv[1]))
