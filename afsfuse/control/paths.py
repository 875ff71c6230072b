"""Paths, as commands name them to the daemon that serves them.

A command holds a path open and names its device and its inode (`tools/daemons.py`). Here that
becomes a vnode, in the name of whoever asks: he is told what he could see himself.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from afsfuse.control.protocol import raw
from afsfuse.errors import ControlRefused
from afsfuse.model import Inode

if TYPE_CHECKING:
    from collections.abc import Callable

    from afsfuse.auth.identity import Identity
    from afsfuse.control.verbs import Peer, Request, Verb
    from afsfuse.vfs.behind import Behind
    from afsfuse.vfs.filesystem import FileSystem
    from afsfuse.vfs.inodes import Node


class Paths:
    """The paths of one mount."""

    def __init__(
        self,
        filesystem: FileSystem,
        directory: str,
        device: Callable[[], str | None],
        identify: Callable[[Peer], Identity],
    ) -> None:
        """`directory`: where it is mounted, `device`: as what (`major:minor`); `identify` says who
        asks.
        """
        self._filesystem = filesystem
        self._directory = directory
        self._device = device
        self.identify = identify
        self.verbs: dict[str, Verb] = {
            "serves": self._serves,
        }

    async def _serves(self, request: Request, peer: Peer) -> dict[str, Any]:
        """What is served here: to everybody, since the mount table tells as much."""
        return {"device": self._device(), "directory": self._directory, "pid": os.getpid()}

    def shown(self, node: Node) -> str:
        """The path of a node as people know it; for those who may see it."""
        path = node.path()
        return self._directory if path == "/" else self._directory.rstrip("/") + path

    async def node(self, request: Request, peer: Peer) -> Node:
        """The node that a request names, as it is; a mount point is not entered.

        Raises `ControlRefused`, and `AfsError`s: `NotPermitted` for whom it may not be shown.
        """
        return await self._filesystem.finder.node(self._inode(request), self.identify(peer))

    async def find(self, request: Request, peer: Peer) -> Behind:
        """The vnode that a request names; of a mount point its target's root. Raises as `node`."""
        found = await self._filesystem.finder.find(self._inode(request), self.identify(peer))
        if found is None:
            raise ControlRefused("this shows cells, and is in no volume")
        return found

    def known(self, request: Request, peer: Peer) -> Node | None:
        """The node at the request's `path` below the mount, or the last one known on the way
        there that may be shown. Asks nobody, so it is of use while a server is dead.
        """
        path = request.get("path")
        if not isinstance(path, str):
            raise ControlRefused("a path below the mount is expected")
        return self._filesystem.finder.known(raw(path), self.identify(peer))

    def _inode(self, request: Request) -> Inode:
        if request.get("device") != self._device():
            raise ControlRefused("this daemon does not serve it: was it mounted anew just now?")
        number = request.get("inode")
        if not isinstance(number, int):
            raise ControlRefused("an inode number is expected")
        return Inode(number)
