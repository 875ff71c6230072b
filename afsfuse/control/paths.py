"""Paths, as commands name them to the daemon that serves them.

A command holds a path open and names its device and its inode (`tools/daemons.py`). Here that
becomes a vnode, in the name of whoever asks: he is told what he could see himself.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from afsfuse.errors import ControlRefused
from afsfuse.model import Inode

if TYPE_CHECKING:
    from afsfuse.control.mounted import Mounted
    from afsfuse.control.verbs import Peer, Request, Verb
    from afsfuse.vfs.behind import Behind
    from afsfuse.vfs.inodes import Node


class Paths:
    """The paths of one mount."""

    def __init__(self, mounted: Mounted) -> None:
        self.mounted = mounted
        self.identify = mounted.identify
        self.verbs: dict[str, Verb] = {
            "serves": self._serves,
        }

    async def _serves(self, request: Request, peer: Peer) -> dict[str, Any]:
        """What is served here: to everybody, since the mount table tells as much."""
        mounted = self.mounted
        return {"device": mounted.device(), "directory": mounted.directory, "pid": os.getpid()}

    async def node(self, request: Request, peer: Peer) -> Node:
        """The node that a request names, as it is; a mount point is not entered.

        Raises `ControlRefused`, and `AfsError`s: `NotPermitted` for whom it may not be shown.
        """
        return await self.mounted.filesystem.finder.node(self._inode(request), self.identify(peer))

    async def find(self, request: Request, peer: Peer) -> Behind:
        """The vnode that a request names; of a mount point its target's root. Raises as `node`."""
        found = await self.mounted.filesystem.finder.find(self._inode(request), self.identify(peer))
        if found is None:
            raise ControlRefused("this shows cells, and is in no volume")
        return found

    def _inode(self, request: Request) -> Inode:
        if request.get("device") != self.mounted.device():
            raise ControlRefused("this daemon does not serve it: was it mounted anew just now?")
        number = request.get("inode")
        if not isinstance(number, int):
            raise ControlRefused("an inode number is expected")
        return Inode(number)
