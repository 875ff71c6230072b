"""A cell whose servers demand encryption, and its mount: `leveld DIR CONFDIR ADDRESS LEVEL`.

The mount is made with `crypt=LEVEL`, and root has a token of alice's, who alone may enter the root
of the cell. It says `mounted` and ends with its input.
"""

from __future__ import annotations

import os
import signal
import sys
from functools import partial
from pathlib import Path

import trio

from afsfuse import config as settings
from afsfuse import daemon, logs
from afsfuse.auth.folders import own_folder
from afsfuse.auth.identity import Identity
from afsfuse.auth.store import TokenStore
from afsfuse.auth.token import Secret, Token
from afsfuse.democell import DemoCell
from afsfuse.democell.acl import AccessList
from afsfuse.democell.trees import plant
from rxrpc.security.base import SecurityLevel
from tests.mount.usersmount import beside

CELL = "level.test"
ALICE = 1001


def make_cell(address: str) -> DemoCell:
    cell = DemoCell(CELL, [address], min_level=SecurityLevel.CRYPT)
    cell.add_user("alice", ALICE)
    for name in ("root.afs", "root.cell"):
        cell.create_volume(name, acl=AccessList({ALICE: 127}))
    plant(cell.volume("root.cell"), {b"file": b"secret\n"})
    return cell


def give_token(cell: DemoCell) -> None:
    ticket = cell.token_for("alice")
    store = TokenStore(own_folder())
    store.load()
    token = Token(
        cell=ticket.cell, client=ticket.client, enctype=ticket.enctype,
        key=Secret(ticket.session_key), ticket=ticket.data, start=ticket.start, end=ticket.end,
        kvno=ticket.kvno,
    )  # fmt: skip
    store.set(Identity(uid=os.getuid()), token)
    store.close()


async def main(point: str, confdir: str, address: str, level: str) -> None:
    cell = make_cell(address)
    give_token(cell)
    bind = beside(address)
    options = f"confdir={confdir},bind={bind},crypt={level}"
    config = settings.pick("afs", point, [options], foreground=True)
    logs.set_up(foreground=True, logfile=None, debug=True)

    async def wait_for_the_end() -> None:
        print("mounted", flush=True)
        await trio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)
        os.kill(os.getpid(), signal.SIGTERM)

    async with cell.serving(), trio.open_nursery() as nursery:
        await daemon.serve(config, lambda: nursery.start_soon(wait_for_the_end))
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    Path(sys.argv[2], "ThisCell").write_text(f"{CELL}\n")
    Path(sys.argv[2], "CellServDB").write_text(f">{CELL}\n{sys.argv[3]} #localhost\n")
    trio.run(partial(main, *sys.argv[1:5]))
