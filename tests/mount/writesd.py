"""A cell in which everybody may do everything, and its mount.

It is started as `writesd DIR CONFDIR ADDRESS OPTIONS [PLACE=SECONDS …]`; for the latter see
`tests.tools.hasty`.

The files `f0` to `f9` are there, and empty; `full` has a megabyte. For waits there is a directory
of its own for each of many programs, `w0`, `w1` and so on, and a volume, `v0` and so on. Orders
come in on standard input, one Python literal a line, each answered by a line:

- `("abort", PROCEDURE, CODE, TIMES)` and `("delay", PROCEDURE, SECONDS, TIMES)` have the server
  misbehave, `("clear",)` behave again; `("silence", WHETHER)` has it say and hear nothing;
- `("fault", WHAT)` has nothing work: `busy` and `offline` are all volumes, `silent` is the file
  server, `location` the location server, and `none` ends it;
- `("quota", KIB)` sets the volume's;
- `("append", NAME, DATA)` is another client's doing, `("touch", PATH)` breaks the promise of it;
- `("server", NAME)` tells a file as the server has it, and `("calls",)` how often it was called.
"""

from __future__ import annotations

import ast
import logging
import os
import signal
import sys
from collections.abc import Awaitable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import trio

from afsfuse import config as settings
from afsfuse import daemon
from afsfuse.democell import DemoCell
from afsfuse.democell.acl import AccessList
from afsfuse.democell.trees import Link, MountPoint, plant
from afsfuse.errors import ViceCode
from afsfuse.interfaces import fileserver as fs
from afsfuse.interfaces import vldb
from afsfuse.interfaces.common import Fid
from afsfuse.interfaces.protection import ANYUSER
from afsfuse.model import Rights
from rxrpc.net.sockets import UdpSocket
from tests.mount.usersmount import beside
from tests.tools import hasty

if TYPE_CHECKING:
    from collections.abc import Sequence

    from afsfuse.democell.trees import Tree
    from rxrpc import Address

CELL = "writes.test"
WAITERS = 140
_EVERYTHING = int(
    Rights.READ | Rights.LOOKUP | Rights.WRITE | Rights.INSERT | Rights.DELETE | Rights.LOCK
)
_CONTENTS: Tree = {
    **{b"f%d" % number: b"" for number in range(10)},
    b"full": bytes(range(256)) * 4096,
    **{
        b"w%d" % number: {b"f": b"content", b"g": b"content", b"link": Link(b"to"), b"sub": {}}
        for number in range(WAITERS)
    },
    **{b"v%d" % number: MountPoint(b"#v%d." % number) for number in range(WAITERS)},
}
_FAULTS = {"busy": ViceCode.VBUSY, "offline": ViceCode.VOFFLINE}
_FOR_EVER = 1 << 30


def make_cell(address: str) -> DemoCell:
    cell = DemoCell(CELL, [address])
    acl = AccessList({ANYUSER: _EVERYTHING})
    for name in ("root.afs", "root.cell", *(f"v{number}" for number in range(WAITERS))):
        cell.create_volume(name, acl=acl)
    plant(cell.volume("root.afs"), {CELL.encode(): MountPoint(b"%root.cell.")})
    plant(cell.volume("root.cell"), _CONTENTS)
    return cell


async def append(cell: DemoCell, name: str, data: bytes) -> None:
    """As another client would. Returns when the mount has heard of it."""
    volume = cell.volume("root.cell")
    found = volume.root.directory.find(name.encode())
    assert found is not None
    vnode = volume.change(volume.vnode(*found))
    vnode.file.write(vnode.file.length, data)
    vnode.version += 1
    await cell.servers["fs1"].changed(volume, volume.fid(vnode), by=None)


class Mutable(UdpSocket):
    """A server's socket, which can be cut off from the network."""

    cut_off: ClassVar[set[int]] = set()  # ports

    def receive(self, limit: int) -> list[tuple[bytes, Address]]:
        arrived = super().receive(limit)
        return [] if self.local_address[1] in self.cut_off else arrived

    def send(self, datagrams: Sequence[tuple[bytes, Address]]) -> int:
        return len(datagrams) if self.local_address[1] in self.cut_off else super().send(datagrams)


def misbehave(cell: DemoCell, what: str) -> None:
    """Have nothing work, in one way or none."""
    cell.faults.clear()
    Mutable.cut_off = {"silent": {fs.PORT}, "location": {vldb.PORT}}.get(what, set())
    if what in _FAULTS:
        for rpc in fs.RXAFS.rpcs:
            if rpc is not fs.GET_CAPABILITIES:
                cell.faults.abort(rpc, _FAULTS[what], times=_FOR_EVER)


def find(cell: DemoCell, path: str) -> tuple[int, int]:
    """Vnode and uniquifier of a path in the root volume."""
    volume = cell.volume("root.cell")
    vnode = volume.root
    for name in path.split("/"):
        found = vnode.directory.find(name.encode())
        assert found is not None
        vnode = volume.vnode(*found)
    return vnode.number, vnode.unique


def obey(cell: DemoCell, verb: str, *rest: Any) -> object:
    volume = cell.volume("root.cell")
    match verb, rest:
        case "abort", (procedure, code, times):
            cell.faults.abort(getattr(fs, procedure), code, times=times)
        case "delay", (procedure, seconds, times):
            cell.faults.delay(getattr(fs, procedure), seconds, times=times)
        case "silence", (whether,):
            Mutable.cut_off = {fs.PORT} if whether else set()
        case "clear", ():
            cell.faults.clear()
        case "quota", (size,):
            volume.quota = size
        case "server", (name,):
            found = volume.root.directory.find(name.encode())
            assert found is not None
            vnode = volume.vnode(*found)
            return vnode.file.length, vnode.file.read(0, 1 << 24), vnode.version
        case "touch", (name,):
            return cell.touched(volume, Fid(volume.id, *find(cell, name)))
        case "fault", (what,):
            misbehave(cell, what)
        case "calls", ():
            return dict(cell.faults.counts)
        case _:
            raise ValueError(verb)
    return None


async def main(point: str, confdir: str, address: str, options: str) -> None:
    cell = make_cell(address)
    words = f"confdir={confdir},bind={beside(address)},{options}"
    config = settings.pick("afs", point, [words], foreground=True)

    async def follow_orders() -> None:
        print("mounted", flush=True)
        while line := await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
            verb, *rest = ast.literal_eval(line)
            done = append(cell, *rest) if verb == "append" else obey(cell, verb, *rest)
            print(repr(await done if isinstance(done, Awaitable) else done), flush=True)
        os.kill(os.getpid(), signal.SIGTERM)

    async with (
        cell.serving(lambda address: Mutable(address, 1 << 20)),
        trio.open_nursery() as nursery,
    ):
        await daemon.serve(config, lambda: nursery.start_soon(follow_orders))
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    Path(sys.argv[2], "ThisCell").write_text(f"{CELL}\n")
    Path(sys.argv[2], "CellServDB").write_text(f">{CELL}\n{sys.argv[3]} #localhost\n")
    logging.basicConfig(level=logging.WARNING)
    logging.getLogger("afsfuse.fileserver.health").setLevel(logging.INFO)  # who answers, who not
    hasty.hasten_all(sys.argv[5:])
    trio.run(main, sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4])
