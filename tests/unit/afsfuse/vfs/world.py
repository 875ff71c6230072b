"""A small world of cells in memory, under the real cache manager: what the vfs tests stand on."""

import contextlib
from collections.abc import AsyncIterator, Callable, Iterable
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Any, cast

import trio

from afsfuse.auth.identity import ANONYMOUS, Caller
from afsfuse.cache import CacheManager, Vnode
from afsfuse.cell.cellservdb import CellEntry, CellFiles, DatabaseServer
from afsfuse.cell.directory import CellDirectory
from afsfuse.interfaces.common import Fid
from afsfuse.model import FileKind, Inode, VolumeType
from afsfuse.vfs import FileSystem, KernelInvalidator, NodeTable, VfsOptions
from afsfuse.vfs.entry import Entry
from tests.unit.afsfuse.cache.blobs import DirectoryBuilder
from tests.unit.afsfuse.vfs.worldfiles import (
    FakeCell,
    FakeFile,
    FakeServer,
    FakeSite,
    FakeVolume,
)
from tests.unit.afsfuse.vfs.worldservers import FakeClient, FakeDns, FakeLocator

if TYPE_CHECKING:
    from afsfuse.cell.volumes import Volume

CHANNELS = 64
"""Calls to a server at a time: enough for all that is read ahead."""

Event = tuple[str, int] | tuple[str, int, bytes]


class Recorder:
    """A kernel notifier that writes down what it is told."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.wake: Callable[[], object] = lambda: None
        """Called when there is something new."""

    def invalidate_attributes(self, inode: Inode) -> None:
        self.events.append(("attributes", inode))

    def invalidate_data(self, inode: Inode) -> None:
        self.events.append(("data", inode))

    def invalidate_name(self, parent: Inode, name: bytes) -> None:
        self.events.append(("name", parent, name))
        self.wake()

    def take(self) -> list[Event]:
        """What came since the last time."""
        events, self.events = self.events, []
        return events


class World:
    """All cells, and a file system that shows them."""

    def __init__(self) -> None:
        self.rtt = 0.001
        self.dead: set[str] = set()
        """Cells whose location servers, and servers (by uuid) that, do not answer."""
        self.volumes: dict[tuple[str, str], FakeVolume] = {}
        self.client = FakeClient(self)
        self.dns = FakeDns()
        self.this_cell: str | None = "home.org"
        self.configured = ["home.org"]
        self.aliases: dict[str, str] = {}
        self.locator = FakeLocator(self)
        self.notifier = Recorder()
        self._ids = iter(range(536_870_912, 600_000_000, 3))
        self.home = self.volume("root.cell")

    def volume(
        self,
        name: str,
        *,
        cell: str = "home.org",
        server: str = "fs1",
        type: VolumeType = VolumeType.RW,
    ) -> FakeVolume:
        """A new volume with an empty root directory."""
        site = FakeSite(FakeServer(server))
        volume = FakeVolume(FakeCell(cell), next(self._ids), name, type, (site,))
        root = FakeFile(Fid(volume.id, 1, 1), FileKind.DIRECTORY, mode=0o755, links=2)
        root.builder = DirectoryBuilder()
        volume.files[1, 1] = root
        self.volumes[cell, name] = volume
        return volume

    def cell_directory(self) -> CellDirectory:
        """The real directory of cells, over this world's configuration and DNS."""
        servers = (DatabaseServer(IPv4Address("192.0.2.9"), "", clone=False),)
        cells = {name: CellEntry(name, servers) for name in self.configured}
        return CellDirectory(CellFiles(self.this_cell, cells, self.aliases), self.dns)

    @contextlib.asynccontextmanager
    async def mounted(
        self, *, absent_limit: int = 65536, **options: Any
    ) -> AsyncIterator["Mounted"]:
        """A file system with everything that belongs to it, running."""
        mounted = Mounted(self, VfsOptions(**options), absent_limit)
        async with trio.open_nursery() as nursery:
            await nursery.start(mounted.cache.run)
            await nursery.start(mounted.fs.run)
            await nursery.start(mounted.fs.expiry.run)
            await mounted.fs.prepare()
            yield mounted
            nursery.cancel_scope.cancel()


class Mounted:
    """One mount of a world, and short ways to use it."""

    def __init__(self, world: World, options: VfsOptions, absent_limit: int = 65536) -> None:
        self.world = world
        self.nodes = NodeTable(absent_limit=absent_limit)
        self.invalidator = KernelInvalidator(self.nodes, world.notifier, options.sysnames)
        self.cache = CacheManager(
            cast("Any", world.client), channels=CHANNELS, listener=self.invalidator
        )
        self.fs = FileSystem(
            world.cell_directory(),
            cast("Any", world.locator),
            self.cache,
            cast("Any", world.client),
            nodes=self.nodes,
            notifier=world.notifier,
            options=options,
        )

    async def look_up(self, parent: Inode, name: bytes, caller: Caller = ANONYMOUS) -> Entry:
        """A lookup as the kernel does it. What is answered at once is what would be otherwise."""
        entry = self.fs.lookup_at_once(parent, name, caller)
        if entry is None:
            return await self.fs.lookup(parent, name, caller)
        assert await self.fs.lookup(parent, name, caller) == entry
        if entry.inode:
            self.fs.forget([(entry.inode, 1)])
        return entry

    async def stat(self, inode: Inode, caller: Caller = ANONYMOUS) -> Entry:
        """As `look_up`, of attributes."""
        entry = self.fs.getattr_at_once(inode)
        if entry is None:
            return await self.fs.getattr(inode, caller)
        assert await self.fs.getattr(inode, caller) == entry
        return entry

    async def walk(self, path: bytes, caller: Caller = ANONYMOUS) -> Inode:
        """The inode at the end of a path from the root; every step is held by the kernel."""
        inode = Inode(1)
        for name in path.split(b"/"):
            entry = await self.look_up(inode, name, caller)
            assert entry.inode, f"no {name!r} in {path!r}"
            inode = entry.inode
        return inode

    async def names(
        self,
        inode: Inode,
        *,
        room: int = 100,
        take: bool = True,
        caller: Caller = ANONYMOUS,
    ) -> list[bytes]:
        """A whole listing, as the kernel would do it."""
        handle = await self.fs.opendir(inode, caller)
        names: list[bytes] = []
        offset = 0
        while page := await self.fs.readdir(handle, offset, room):
            for listing in page:
                names.append(listing.name)
                offset = listing.next_offset
                if take:
                    self.fs.listed(handle, listing)
        self.fs.releasedir(handle)
        return names

    async def page_inode(self, inode: Inode, name: bytes) -> Inode:
        """The inode of a name, had by a listing, which does not look at mount points."""
        handle = await self.fs.opendir(inode, ANONYMOUS)
        found = Inode(0)
        for listing in await self.fs.readdir(handle, 0, 1000):
            if listing.name == name:
                self.fs.listed(handle, listing)
                found = listing.entry.inode
        self.fs.releasedir(handle)
        return found

    async def read_all(self, inode: Inode, caller: Caller = ANONYMOUS) -> bytes:
        """The contents of a file."""
        opened = await self.fs.open(inode, 0, caller)
        data = bytes(await self.fs.read(opened.handle, 0, 1 << 20))
        self.fs.release(opened.handle)
        return data

    def vnode(self, volume: FakeVolume, file: FakeFile) -> Vnode:
        """What the cache knows of a file."""
        vnode = self.cache.peek(cast("Volume", volume), file.fid)
        assert vnode is not None
        return vnode

    def break_callback(self, files: Iterable[FakeFile]) -> None:
        """A server takes its promises on these files back."""
        self.cache.break_callback(("192.0.2.1", 7000), [file.fid for file in files])
