"""Volumes of a small world, with the files in them."""

from dataclasses import dataclass, field

from afsfuse.auth.identity import NOBODY, Identity
from afsfuse.errors import AfsError
from afsfuse.interfaces.common import Fid
from afsfuse.model import FileKind, Rights, Status, VolumeType
from tests.unit.afsfuse.cache.blobs import DirectoryBuilder

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
