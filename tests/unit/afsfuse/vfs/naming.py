"""A client of a cell in one process that makes and removes names, and what its kernel is told."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio

from afsfuse.auth.identity import ANONYMOUS
from afsfuse.errors import AfsError
from tests.cell.site import in_process, walker
from tests.mount.celld import make_cell
from tests.unit.afsfuse.vfs.world import Recorder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from afsfuse.cache import Vnode
    from afsfuse.cache.leftovers import Leftovers
    from afsfuse.cell.volumes import Volume
    from afsfuse.democell import DemoCell
    from afsfuse.interfaces.common import Fid
    from afsfuse.model import Inode
    from tests.cell.site import InProcess
    from tests.cell.walker import Walker

ADDRESS = "192.0.2.11"
PATIENCE = 5.0


class NamingDesk:
    """Paths are in the cell of `tests.mount.celld`: `one` and `two` are the same volume."""

    def __init__(self, site: InProcess, walk: Walker, recorder: Recorder) -> None:
        self.site = site
        self.cell: DemoCell = site.cell
        self.walk = walk
        self.recorder = recorder
        self.vfs = walk.vfs
        self.cache = walk.cache

    async def inode(self, path: str) -> Inode:
        return (await self.walk.entry(path, writable=True)).inode

    async def names(self, path: str = "one") -> set[str]:
        return await self.walk.list(path, writable=True)

    async def open(self, path: str) -> int:
        inode = await self.inode(path)
        return (await self.vfs.open(inode, os.O_RDONLY, ANONYMOUS)).handle

    def on_server(self, volume: str = "data") -> set[str]:
        """What the server has in the root of a volume."""
        found = {name.decode() for name, _, _ in self.cell.volume(volume).root.directory}
        return found - {".", ".."}

    async def volume(self) -> Volume:
        """The volume `data` as the client knows it."""
        return (await self.vnode("one")).volume

    async def vnode(self, path: str) -> Vnode:
        entry = await self.walk.entry(path, writable=True)
        vnode = self.vfs._nodes.get(entry.inode).vnode
        assert vnode is not None
        return vnode

    async def fid(self, path: str) -> Fid:
        return (await self.vnode(path)).fid

    def calls(self) -> dict[str, int]:
        """How often each procedure was called so far."""
        return dict(self.cell.faults.counts)


@asynccontextmanager
async def naming_desk(leftovers: Leftovers | None = None) -> AsyncIterator[NamingDesk]:
    """A fresh cell and its client, for the time of a test."""
    recorder = Recorder()
    async with (
        in_process(make_cell(ADDRESS)) as site,
        walker(site, notifier=recorder, leftovers=leftovers) as walk,
    ):
        desk = NamingDesk(site, walk, recorder)
        for path in ("one", "two"):
            await desk.names(path)
        recorder.take()
        yield desk


async def errno_of(operation: Awaitable[object]) -> int:
    with pytest.raises(AfsError) as caught:
        await operation
    return caught.value.errno


async def soon(condition: Callable[[], object]) -> None:
    """What goes on in the background has been done after a while; the clock jumps there."""
    await trio.sleep(PATIENCE)
    assert condition()
