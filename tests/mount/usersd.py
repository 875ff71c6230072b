"""A cell in which users have rights of their own, and its mount: `usersd DIR CONFDIR ADDRESS RULE`.

The uids 1001 and 1002 have tokens, as `alice` and `bob`; nobody else has. Orders come in on
standard input, one Python literal a line, each answered by a line: `("make", NAME, ACL)` makes a
directory with the standard contents, `("acl", NAME, ACL)` changes its list as another client would,
and `("chmod", NAME, {CHILD: MODE})` the mode of a file in it.
With the RULE `leaky` the kernel may keep everything that is true, whoever may know it.
"""

from __future__ import annotations

import ast
import os
import signal
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from afsfuse import config as settings
from afsfuse import daemon
from afsfuse.acl import from_letters
from afsfuse.auth.security import Credentials
from afsfuse.democell import DemoCell
from afsfuse.democell.acl import AccessList
from afsfuse.democell.trees import Link, MountPoint, plant
from afsfuse.interfaces.common import Fid
from afsfuse.interfaces.protection import ANYUSER
from afsfuse.vfs import access, attributes
from rxrpc import NULL
from tests.mount.usersmount import beside

if TYPE_CHECKING:
    from afsfuse.auth.identity import Identity
    from afsfuse.democell.trees import Tree
    from afsfuse.democell.vnode import Vnode
    from rxrpc.security.base import ClientSecurity

CELL = "users.test"
USERS = {1001: "alice", 1002: "bob"}
_CONTENTS: Tree = {
    b"file": b"secret\n",
    b"link": Link(b"file"),
    b"folder": {b"inner": b"also secret\n"},
}


class Tokens(Credentials):
    """Who has which token."""

    def __init__(self, cell: DemoCell) -> None:
        self._clients: dict[int | None, ClientSecurity] = {
            uid: cell.token_for(name).security(time.time) for uid, name in USERS.items()
        }

    def of(self, who: Identity, cell: str) -> ClientSecurity:
        return self._clients.get(who.uid, NULL)


def access_list(cell: DemoCell, described: dict[str, str]) -> AccessList:
    entries = {}
    for name, letters in described.items():
        number = ANYUSER if name == "anybody" else cell.people.id_of(name.encode())
        assert number is not None
        entries[number] = from_letters(letters)
    return AccessList(entries)


def make_cell(address: str) -> DemoCell:
    cell = DemoCell(CELL, [address])
    for number, user in USERS.items():
        cell.people.add_user(user, number)
    readable = access_list(cell, {"anybody": "rl"})
    for name in ("root.afs", "root.cell"):
        cell.create_volume(name, acl=readable)
    plant(cell.volume("root.afs"), {CELL.encode(): MountPoint(b"%root.cell.")})
    return cell


def directory(cell: DemoCell, name: str) -> Vnode:
    volume = cell.volume("root.cell")
    found = volume.root.directory.find(name.encode())
    assert found is not None
    return volume.vnode(*found)


async def obey(cell: DemoCell, verb: str, name: str, described: dict[str, str]) -> None:
    volume, server = cell.volume("root.cell"), cell.servers["fs1"]
    if verb == "make":
        plant(volume, {name.encode(): _CONTENTS})
        made = directory(cell, name)
        made.acl = access_list(cell, described)
        await server.changed(volume, Fid(volume.id, 1, 1), by=None)
    elif verb == "chmod":
        for child, mode in described.items():
            found = directory(cell, name).directory.find(child.encode())
            assert found is not None
            file = volume.vnode(*found)
            file.mode = int(mode, 8)
            await server.changed(volume, volume.fid(file), by=None)
    else:
        changed = directory(cell, name)
        changed.acl = access_list(cell, described)
        await server.changed(volume, volume.fid(changed), by=None)


def leak() -> None:
    """Break the rule that the kernel keeps only what anybody may see."""

    def kept_for(true_until: float, open_until: float, now: float) -> float:
        return max(0.0, true_until - now)

    access.kept_for = kept_for
    attributes.kept_for = kept_for  # type: ignore[attr-defined]  # a name of its own there


async def main(point: str, confdir: str, address: str) -> None:
    cell = make_cell(address)
    options = f"confdir={confdir},bind={beside(address)},allow_other"
    config = settings.pick("afs", point, [options], foreground=True)

    async def follow_orders() -> None:
        print("mounted", flush=True)
        while line := await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
            await obey(cell, *ast.literal_eval(line))
            print("done", flush=True)
        os.kill(os.getpid(), signal.SIGTERM)

    async with cell.serving(), trio.open_nursery() as nursery:
        await daemon.serve(config, lambda: nursery.start_soon(follow_orders), Tokens(cell))
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    if sys.argv[4] == "leaky":
        leak()
    Path(sys.argv[2], "ThisCell").write_text(f"{CELL}\n")
    Path(sys.argv[2], "CellServDB").write_text(f">{CELL}\n{sys.argv[3]} #localhost\n")
    trio.run(partial(main, *sys.argv[1:4]))
