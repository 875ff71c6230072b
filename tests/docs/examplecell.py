"""The cell that the documentation speaks of, and its mount: `examplecell POINT CONFDIR FS1 FS2`.

Its name is example.org, its file servers are at the two addresses, and its users are alice and bob.
It says `mounted` when it answers, and ends with its input.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from afsfuse import config as settings
from afsfuse import daemon
from afsfuse.auth.hardening import harden
from afsfuse.democell import DemoCell
from afsfuse.democell.acl import ALL_RIGHTS, READ_RIGHTS, AccessList
from afsfuse.democell.trees import Link, MountPoint, plant
from afsfuse.interfaces.protection import ADMINISTRATORS, ANYUSER
from tests.mount.usersmount import beside

if TYPE_CHECKING:
    from afsfuse.democell.trees import Tree

CELL = "example.org"
PASSWORD = "open sesame"
USERS = {"alice": 1001, "bob": 1002}
QUOTA = 100_000
"""KiB, of each user's volume."""

_README = b"This is the root of the cell example.org.\n"


async def example(addresses: list[str]) -> DemoCell:
    cell = DemoCell(CELL, addresses)
    for user, number in USERS.items():
        cell.add_user(user, number, password=PASSWORD)
    alice, bob = USERS.values()
    readable = {ANYUSER: READ_RIGHTS, ADMINISTRATORS: ALL_RIGHTS}
    for name in ("root.afs", "root.cell", "sw"):
        cell.create_volume(name, acl=AccessList(readable))
    cell.create_volume("project", acl=AccessList({**readable, alice: ALL_RIGHTS, bob: READ_RIGHTS}))
    for user, number in USERS.items():
        acl = AccessList({ADMINISTRATORS: ALL_RIGHTS, number: ALL_RIGHTS})
        cell.create_volume(f"user.{user}", acl=acl, quota=QUOTA)
    points = {CELL.encode(): MountPoint(b"#root.cell.")}
    plant(cell.volume("root.afs"), points)
    people: Tree = {user.encode(): MountPoint(b"%%user.%s." % user.encode()) for user in USERS}
    names: Tree = {
        b"README": _README,
        b"sw": MountPoint(b"#sw."),
        b"project": MountPoint(b"#project."),
    }
    plant(cell.volume("root.cell"), {**names, b"user": people})
    plant(cell.volume("sw"), {b"bin": {b"hello": b"#!/bin/sh\necho hello\n"}})
    plan: Tree = {b"plan.txt": b"Read, write, and have lunch.\n", b"latest": Link(b"plan.txt")}
    plant(cell.volume("project"), plan)
    plant(cell.volume("user.alice"), {b"notes.txt": b"Curiouser and curiouser!\n"})
    for name in ("root.afs", "root.cell", "sw"):
        await cell.replicate(name, ["fs1", "fs2"] if name == "sw" else ["fs1"])
    return cell


async def main(point: str, confdir: str, addresses: list[str]) -> None:
    cell = await example(addresses)
    words = f"confdir={confdir},bind={beside(addresses[0])},cachedir=none"
    config = settings.pick("afs", point, [words], foreground=True)

    async def watch_input() -> None:
        print("mounted", flush=True)
        await trio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)
        os.kill(os.getpid(), signal.SIGTERM)

    async with cell.serving(), trio.open_nursery() as nursery:
        await daemon.serve(config, lambda: nursery.start_soon(watch_input))
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    harden()
    place, configuration, *hosts = sys.argv[1:]
    servers = f">{CELL}  #Example\n{hosts[0]} #fs1.example.org\n"
    Path(configuration, "ThisCell").write_text(f"{CELL}\n")
    Path(configuration, "CellServDB").write_text(servers)
    trio.run(main, place, configuration, hosts)
