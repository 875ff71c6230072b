"""A cell in which everybody may do everything, and its mount.

It is started as `writesd DIR CONFDIR ADDRESS OPTIONS`.

The files `f0` to `f9` are there, and empty; `full` has a megabyte. Orders come in on standard
input, one Python literal a line, each answered by a line: `("abort", PROCEDURE, CODE, TIMES)` and
`("delay", PROCEDURE, SECONDS, TIMES)` have the server misbehave, `("clear",)` behave again,
`("silence", WHETHER)` has the file server say and hear nothing, `("quota", KIB)` sets the volume's,
`("append", NAME, DATA)` is another client's doing, `("server", NAME)` tells a file as the server
has it, and `("calls",)` how often it was called; `("touch", NAME)` breaks the promise of a file.
"""

from __future__ import annotations

import ast
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
from afsfuse.democell.trees import MountPoint, plant
from afsfuse.interfaces import fileserver as fs
from afsfuse.interfaces.common import Fid
from afsfuse.interfaces.protection import ANYUSER
from afsfuse.model import Rights
from rxrpc.net.sockets import UdpSocket

if TYPE_CHECKING:
    from collections.abc import Sequence

    from afsfuse.democell.trees import Tree
    from rxrpc import Address

CELL = "writes.test"
_EVERYTHING = int(
    Rights.READ | Rights.LOOKUP | Rights.WRITE | Rights.INSERT | Rights.DELETE | Rights.LOCK
)
_CONTENTS: Tree = {
    **{b"f%d" % number: b"" for number in range(10)},
    b"full": bytes(range(256)) * 4096,
}


def make_cell(address: str) -> DemoCell:
    cell = DemoCell(CELL, [address])
    acl = AccessList({ANYUSER: _EVERYTHING})
    for name in ("root.afs", "root.cell"):
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
            found = volume.root.directory.find(name.encode())
            assert found is not None
            return cell.touched(volume, Fid(volume.id, *found))
        case "calls", ():
            return dict(cell.faults.counts)
        case _:
            raise ValueError(verb)
    return None


async def main(point: str, confdir: str, address: str, options: str) -> None:
    cell = make_cell(address)
    words = f"confdir={confdir},bind={address.rpartition('.')[0]}.254,{options}"
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
    trio.run(main, sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4])
