"""What is in a cell that somebody tries for the first time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from afsfuse.democell.acl import ALL_RIGHTS, READ_RIGHTS, AccessList
from afsfuse.democell.trees import Link, MountPoint, plant
from afsfuse.interfaces.protection import ADMINISTRATORS, ANYUSER

if TYPE_CHECKING:
    from afsfuse.democell.cell import DemoCell
    from afsfuse.democell.trees import Tree

_READABLE = AccessList({ANYUSER: READ_RIGHTS, ADMINISTRATORS: ALL_RIGHTS})
SCRATCH_QUOTA = 100_000
"""KiB."""
USER = "alice"
PASSWORD = "looking-glass"
"""Of the one user that there is. Everybody knows it: it protects nothing."""
DIARY = "diary"
_USER_NUMBER = 501

_README = b"""\
This is the root of a cell: the volume root.cell, which is read-only here.

  library   a volume of texts, replicated; you see a read-only copy
  scratch   a volume in which everybody may do everything, up to its quota
  private   a volume that is for alice only, and says no to everybody else

The same cell with a dot in front of its name (.demo.afs) shows the read-write volumes.
"""
_LIBRARY: Tree = {
    b"cells": b"A cell is all that one organisation administers: its servers and its volumes.\n",
    b"volumes": b"A volume is a tree of files that is moved, copied and given a quota as one.\n",
    b"callbacks": b"A server promises to tell a client when what it has cached is changed.\n",
    b"access": {
        b"lists": b"Each directory has a list of who may do what with the files in it.\n",
        b"rights": b"read lookup insert delete write lock administer\n",
    },
    b"start-here": Link(b"cells"),
}


async def furnish(cell: DemoCell) -> None:
    """Make the volumes of a cell that has none, and its user."""
    cell.add_user(USER, _USER_NUMBER, password=PASSWORD)
    for name, acl, quota in (
        ("root.afs", _READABLE, 0),
        ("root.cell", _READABLE, 0),
        ("library", _READABLE, 0),
        ("scratch", AccessList({ANYUSER: ALL_RIGHTS}), SCRATCH_QUOTA),
        ("private", AccessList({ADMINISTRATORS: ALL_RIGHTS, _USER_NUMBER: ALL_RIGHTS}), 0),
    ):
        cell.create_volume(name, acl=acl, quota=quota)
    own = cell.name.encode()
    plant(
        cell.volume("root.afs"),
        {own: MountPoint(b"#root.cell."), b"." + own: MountPoint(b"%root.cell.")},
    )
    plant(
        cell.volume("root.cell"),
        {
            b"README": _README,
            b"library": MountPoint(b"#library."),
            b"scratch": MountPoint(b"#scratch."),
            b"private": MountPoint(b"#private."),
        },
    )
    plant(cell.volume("library"), _LIBRARY)
    plant(cell.volume("scratch"), {b"put-something-here": b"Everybody may write here.\n"})
    plant(cell.volume("private"), {DIARY.encode(): b"Curiouser and curiouser!\n"})
    for name in ("root.cell", "root.afs", "library"):
        await cell.replicate(name)
    for volume in ("root.afs", "root.cell", "library", "scratch", "private"):
        cell.keep(cell.volume(volume), False)
