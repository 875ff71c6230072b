"""A kernel above a world of volumes, that forgets what it is told to, or does not."""

from __future__ import annotations

from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import trio

from afsfuse.auth.identity import ANONYMOUS, Caller
from afsfuse.model import Inode
from afsfuse.vfs import ROOT_INODE
from tests.unit.afsfuse.vfs.world import World

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from afsfuse.vfs.entry import Entry
    from tests.unit.afsfuse.vfs.world import Mounted
    from tests.unit.afsfuse.vfs.worldfiles import FakeVolume

EXPIRE = 100.0
DAEMON = Caller(0, 0, 4711)
"""A thread of the daemon's own."""


class Kernel:
    """Remembers names below names; one that it is to forget goes with all below it.

    What somebody is inside of (`busy`) loses its name, but stays.
    """

    def __init__(self, m: Mounted) -> None:
        self.m = m
        self.references: Counter[int] = Counter()
        self.children: dict[int, dict[bytes, int]] = {}
        self.busy: set[int] = set()
        self.order: list[bytes] = []
        """Names in the order in which they were dropped."""
        self.asked = trio.Event()
        m.world.notifier.wake = lambda: self.asked.set()
        m.fs.mender.walk = self.walk_again
        self.again: list[Entry] = []
        """What was found when the daemon walked itself."""

    async def walk(self, path: str) -> Inode:
        inode = ROOT_INODE
        for name in path.encode().split(b"/"):
            entry = await self.m.look_up(inode, name, ANONYMOUS)
            assert entry.inode, path
            self.references[entry.inode] += 1
            self.children.setdefault(inode, {})[name] = entry.inode
            inode = entry.inode
        return inode

    async def walk_again(self, path: bytes, started: Callable[[int], object]) -> None:
        """The daemon looks a path up; what it is told is all the kernel has of it then."""
        started(DAEMON.tid)
        inode = ROOT_INODE
        for name in path.split(b"/"):
            entry = self.m.fs.lookup_at_once(inode, name, DAEMON)
            assert entry is not None, path
            self.again.append(entry)
            self.references[entry.inode] += 1
            self.children.setdefault(inode, {})[name] = entry.inode
            inode = entry.inode

    async def list(self, path: str) -> list[bytes]:
        """Lists a directory, and keeps what it is given."""
        inode = await self.walk(path) if path else ROOT_INODE
        handle = await self.m.fs.opendir(inode, ANONYMOUS)
        names, offset = [], 0
        while page := await self.m.fs.readdir(handle, offset, 100):
            for listing in page:
                offset = listing.next_offset
                self.m.fs.listed(handle, listing)
                if listing.name not in (b".", b".."):
                    names.append(listing.name)
                    self.references[listing.entry.inode] += 1
                    self.children.setdefault(inode, {})[listing.name] = listing.entry.inode
        self.m.fs.releasedir(handle)
        return names

    def obey(self) -> None:
        for event in self.m.world.notifier.take():
            if len(event) == 3:
                _, parent, name = event
                inode = self.children.get(parent, {}).pop(name, None)
                if inode is not None:
                    self.order.append(name)
                    self._drop(inode)

    def _drop(self, inode: int) -> None:
        for name in list(self.children.get(inode, ())):
            if self.children[inode][name] not in self.busy:
                self._drop(self.children[inode].pop(name))
        if inode not in self.busy and not self.children.get(inode):
            self.m.fs.forget([(Inode(inode), self.references.pop(inode))])

    async def run(self) -> None:
        while True:
            await self.asked.wait()
            self.asked = trio.Event()
            await trio.sleep(0.005)
            self.obey()


@asynccontextmanager
async def mounted(world: World, **options: Any) -> AsyncIterator[Kernel]:
    """A mount of a world, and its kernel."""
    options.setdefault("expire", EXPIRE)
    async with world.mounted(**options) as m, trio.open_nursery() as nursery:
        kernel = Kernel(m)
        nursery.start_soon(kernel.run)
        yield kernel
        nursery.cancel_scope.cancel()


def cell_of(*names: str) -> tuple[World, dict[str, FakeVolume]]:
    """Volumes with a file and a folder each; a dot in a name says which one it is mounted in."""
    world = World()
    volumes = {}
    for name in names:
        volume = volumes[name] = world.volume(name)
        volume.file(b"file", b"text of " + name.encode())
        volume.file(b"inner", at=volume.directory(b"folder"))
        above, _, last = name.rpartition(".")
        around = volumes[above] if above else world.home
        around.mountpoint(last.encode(), b"#%s." % name.encode())
    return world, volumes


def shown(kernel: Kernel) -> set[str]:
    return {tree.point.path() for tree in kernel.m.nodes.trees}
