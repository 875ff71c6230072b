"""A small world of cells in memory, under the real cache manager: what the vfs tests stand on.

Servers take `World.rtt` for an answer; those in `World.dead` take `DEAD_TIME` to be given up. Every
call is counted.
"""

import contextlib
import errno
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Any, cast

import trio

from afsfuse.auth.identity import ANONYMOUS, NOBODY, Caller, Identity
from afsfuse.cache import CacheManager, Vnode
from afsfuse.cell.cellservdb import CellEntry, CellFiles, DatabaseServer
from afsfuse.cell.directory import CellDirectory
from afsfuse.cell.resolver import DnsAnswer
from afsfuse.cell.volumes import Preference, Volume
from afsfuse.errors import (
    AfsError,
    CellUnknown,
    CellUnreachable,
    NotPermitted,
    ServerUnreachable,
    StaleInode,
    VolumeMissing,
)
from afsfuse.fileserver.replies import DataReply, Promise, StatusReply, VolumeStatusReply
from afsfuse.interfaces.common import Fid
from afsfuse.interfaces.fileserver import VolSync, VolumeStatus
from afsfuse.model import FileKind, Inode, Rights, Status, VolumeType
from afsfuse.vfs import FileSystem, KernelInvalidator, NodeTable, VfsOptions
from afsfuse.vfs.entry import Entry
from tests.unit.afsfuse.cache.blobs import DirectoryBuilder
from tests.unit.afsfuse.cache.fakes import SmallFiles

DEAD_TIME = 20.0
PROMISE = 3600.0
CHANNELS = 64
"""Calls to a server at a time: enough for all that is read ahead."""
ALL_READ = Rights.READ | Rights.LOOKUP | Rights.LOCK


@dataclass
class FakeFile:
    """One vnode on a server."""

    fid: Fid
    kind: FileKind
    body: bytes = b""
    mode: int = 0o644
    owner: int = 501
    group: int = 20
    links: int = 1
    mtime: int = 1_600_000_000
    version: int = 1
    rights: Rights = ALL_READ
    """Of a directory: what anybody may do in it, and with its files."""
    permits: dict[Identity, Rights] = field(default_factory=dict)
    """... and what some may do."""
    home: "FakeFile | None" = None
    """The directory in which it stands."""
    error: AfsError | None = None
    acl: bytes = b"1\n0\nsystem:anyuser\t9\n"
    """What is said of its list, whatever its rights are."""
    builder: DirectoryBuilder | None = None

    @property
    def data(self) -> bytes:
        return self.builder.blob() if self.builder else self.body

    @property
    def door(self) -> "FakeFile":
        """Whose access list counts."""
        return self if self.home is None or self.kind is FileKind.DIRECTORY else self.home

    def rights_of(self, who: Identity) -> Rights:
        return self.door.rights | self.door.permits.get(who, Rights.NONE)

    def status(self, who: Identity = NOBODY) -> Status:
        door = self.door
        return Status(
            self.kind, len(self.data), self.version, self.mode, self.owner, self.group, self.links,
            self.mtime, door.fid.vnode, door.fid.unique, self.rights_of(who), door.rights,
        )  # fmt: skip

    def refuses(self, who: Identity, *, data: bool) -> bool:
        """Whether a server would not tell. Source: Check_PermissionRights in afsfileprocs.c"""
        if self.kind is FileKind.DIRECTORY and not data:
            return False
        needed = Rights.READ if self.kind is FileKind.FILE else Rights.LOOKUP
        return not self.rights_of(who) & needed


@dataclass(frozen=True)
class FakeServer:
    uuid: str
    addresses: tuple[tuple[str, int], ...] = (("192.0.2.1", 7000),)
    host: str = "192.0.2.1"
    rtt: float | None = None


@dataclass(frozen=True)
class FakeSite:
    server: FakeServer


@dataclass(frozen=True)
class FakeCell:
    name: str


@dataclass(eq=False)
class FakeVolume:
    """A volume with its files; also what the vfs takes for a `Volume`."""

    cell: FakeCell
    id: int
    name: str
    type: VolumeType
    sites: tuple[FakeSite, ...]
    files: dict[tuple[int, int], FakeFile] = field(default_factory=dict)
    next_vnode: int = 2
    quota: int = 5000
    created: int = 1
    """When this instance of it was made, in seconds."""

    @property
    def root(self) -> FakeFile:
        return self.files[1, 1]

    @property
    def server(self) -> str:
        return self.sites[0].server.uuid

    def _new(self, kind: FileKind, body: bytes, mode: int) -> FakeFile:
        number = self.next_vnode
        self.next_vnode += 2
        if kind is FileKind.DIRECTORY:
            number += 1
        fid = Fid(self.id, number, number + 100)
        file = self.files[fid.vnode, fid.unique] = FakeFile(fid, kind, body, mode)
        return file

    def _enter(self, directory: FakeFile | None, name: bytes, file: FakeFile) -> FakeFile:
        directory = directory or self.root
        assert directory.builder is not None
        directory.builder.add(name, file.fid.vnode, file.fid.unique)
        directory.version += 1
        file.home = directory
        return file

    def file(
        self, name: bytes, body: bytes = b"", *, at: FakeFile | None = None, mode: int = 0o644
    ) -> FakeFile:
        return self._enter(at, name, self._new(FileKind.FILE, body, mode))

    def link(self, name: bytes, body: bytes, *, at: FakeFile | None = None) -> FakeFile:
        return self._enter(at, name, self._new(FileKind.SYMLINK, body, 0o755))

    def mountpoint(self, name: bytes, body: bytes, *, at: FakeFile | None = None) -> FakeFile:
        return self._enter(at, name, self._new(FileKind.MOUNTPOINT, body, 0o644))

    def hard_link(self, name: bytes, file: FakeFile, *, at: FakeFile | None = None) -> None:
        self._enter(at, name, file)
        file.links += 1

    def directory(self, name: bytes, *, at: FakeFile | None = None) -> FakeFile:
        file = self._new(FileKind.DIRECTORY, b"", 0o755)
        file.builder = DirectoryBuilder((file.fid.vnode, file.fid.unique))
        file.links = 2
        return self._enter(at, name, file)

    def unlink(self, name: bytes, *, at: FakeFile | None = None, keep: bool = False) -> None:
        directory = at or self.root
        assert directory.builder is not None
        key = directory.builder.blob()[directory.builder.slots[name] * 32 + 4 :][:8]
        directory.builder.remove(name)
        directory.version += 1
        if not keep:
            del self.files[int.from_bytes(key[:4], "big"), int.from_bytes(key[4:], "big")]

    def write(self, file: FakeFile, body: bytes) -> None:
        file.body = body
        file.version += 1


class FakeClient(SmallFiles):
    """A file server client that answers from the world."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self.calls: Counter[str] = Counter()
        self.statuses = 0
        """That were told, one by one or in bulk."""
        self.promise = PROMISE
        """Seconds; 0: nothing is promised."""
        self.callers: Counter[Identity] = Counter()
        self.tokens: set[Identity] = set()
        self.returned: list[Fid] = []
        """Promises that were given back."""
        self.forgotten: list[FakeVolume] = []

    def release_seen(self, volume: FakeVolume) -> None: ...

    async def _reach(self, volume: FakeVolume, call: str, who: Identity) -> None:
        self.calls[call] += 1
        self.callers[who] += 1
        if volume.server in self.world.dead:
            await trio.sleep(DEAD_TIME)
            raise ServerUnreachable("no answer", volume=volume.name)
        await trio.sleep(self.world.rtt)
        if (volume.cell.name, volume.name) not in self.world.volumes:
            raise VolumeMissing("no such volume here", volume=volume.name)

    def _reply(
        self, volume: FakeVolume, fid: Fid, who: Identity, *, data: bool = False
    ) -> StatusReply | AfsError:
        assert who == self.speaker(who, volume.cell.name)
        file = volume.files.get((fid.vnode, fid.unique))
        if file is None:
            return StaleInode("the file does not exist any more")
        if file.error is not None:
            return file.error.again()
        if file.refuses(who, data=data):
            return not_permitted()
        server = cast("Any", volume.sites[0].server)
        promise = Promise(trio.current_time() + self.promise, server) if self.promise else None
        sync = VolSync(volume.created)
        return StatusReply(file.status(who), promise, sync, server)

    async def fetch_status(self, volume: Any, fid: Fid, who: Identity = NOBODY) -> StatusReply:
        await self._reach(volume, "fetch_status", who)
        self.statuses += 1
        reply = self._reply(volume, fid, who)
        if isinstance(reply, AfsError):
            raise reply
        return reply

    async def bulk_status(
        self, volume: Any, fids: Sequence[Fid], who: Identity = NOBODY
    ) -> list[StatusReply | AfsError]:
        assert len(fids) <= 50
        await self._reach(volume, "bulk_status", who)
        self.statuses += len(fids)
        return [self._reply(volume, fid, who) for fid in fids]

    def loss(self, server: object) -> float:
        return 0.0

    async def fetch_data(
        self,
        volume: Any,
        fid: Fid,
        position: int,
        buffers: Sequence[memoryview],
        who: Identity = NOBODY,
    ) -> DataReply:
        await self._reach(volume, "fetch_data", who)
        reply = self._reply(volume, fid, who, data=True)
        if isinstance(reply, AfsError):
            raise reply
        data = volume.files[fid.vnode, fid.unique].data[position:]
        given = 0
        for buffer in buffers:
            piece = data[given : given + len(buffer)]
            buffer[: len(piece)] = piece
            given += len(piece)
        return DataReply(given, reply.status, reply.promise, reply.sync, reply.server)

    async def fetch_acl(self, volume: Any, fid: Fid, who: Identity = NOBODY) -> bytes:
        await self._reach(volume, "fetch_acl", who)
        file: FakeFile = volume.files[fid.vnode, fid.unique]
        if file.refuses(who, data=True):
            raise not_permitted()
        return file.acl + b"\0"  # as real servers send it

    async def give_up_callbacks(self, server: Any, fids: Sequence[Fid]) -> None:
        self.calls["give_up_callbacks"] += 1
        self.returned += fids
        await trio.sleep(self.world.rtt)

    def forget(self, volume: Any) -> None:
        self.forgotten.append(volume)

    async def volume_status(self, volume: Any, who: Identity = NOBODY) -> VolumeStatusReply:
        await self._reach(volume, "volume_status", who)
        status = VolumeStatus(
            volume.id, volume.id, 1, 1, 1, 0, 0, 0, volume.quota, 1200, 90_000, 100_000
        )
        return VolumeStatusReply(status, volume.name.encode())


class FakeDns:
    """The DNS: knows some cells, counts questions."""

    def __init__(self) -> None:
        self.cells: set[str] = set()
        self.queries: list[str] = []

    async def lookup(self, cell: str) -> DnsAnswer:
        self.queries.append(cell)
        await trio.sleep(0.02)
        if cell not in self.cells:
            raise CellUnknown("no such cell", cell=cell)
        return DnsAnswer((("192.0.2.99", 7003),), 3600.0)


class FakeLocator:
    """A volume locator with the rules of the real one, and cells that do not answer."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self.calls: Counter[str] = Counter()
        self.forgotten: list[FakeVolume] = []

    async def volume(
        self, cell: str, name: str, want: Preference, who: Identity = NOBODY
    ) -> FakeVolume:
        self.calls[f"{cell}:{name}"] += 1
        if cell in self.world.dead:
            await trio.sleep(DEAD_TIME)
            raise CellUnreachable("no answer", cell=cell)
        await trio.sleep(self.world.rtt)
        suffixes = {
            Preference.RO: (".readonly",),
            Preference.BACKUP: (".backup",),
            Preference.FORCE_RW: ("",),
            Preference.PREFER_RO: (".readonly", ""),
        }
        for suffix in suffixes[want]:
            volume = self.world.volumes.get((cell, name + suffix))
            if volume is not None:
                return volume
        raise VolumeMissing("the cell has no such volume", cell=cell, volume=name)

    def compact(self) -> None: ...

    def forget(self, volume: FakeVolume) -> None:
        self.forgotten.append(volume)


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


def not_permitted() -> AfsError:
    return NotPermitted("the access list does not allow it")


def io_error() -> AfsError:
    return AfsError("an error of the server", errno=errno.EIO)
