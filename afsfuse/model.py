"""Values of the domain: what a vnode is, what one may do with it, where volumes are.

A fid is the structure of the wire, `afsfuse.interfaces.fileserver.Fid`.
"""

import enum
from dataclasses import dataclass
from typing import NamedTuple, NewType
from uuid import UUID

from afsfuse.errors import DataCorrupt
from afsfuse.interfaces.fileserver import STATUS_VERSION, FetchStatus, FileType

Inode = NewType("Inode", int)
"""A number by which the kernel knows a node; 63 bits, never 0."""

_MODE_BITS = 0o7777
_EXECUTE_BITS = 0o111
_MAX_LENGTH = 2**63 - 1


class VolumeType(enum.IntEnum):
    """Which of the three volumes of one name; also their order in a VLDB record."""

    RW = 0
    RO = 1
    BACKUP = 2


class FileKind(enum.Enum):
    """What a vnode is to a client: a mount point travels as a symlink without execute bits."""

    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symlink"
    MOUNTPOINT = "mount point"


class Rights(enum.IntFlag):
    """Rights of an access list. Source: prs_fs.h."""

    NONE = 0
    READ = 1
    WRITE = 2
    INSERT = 4
    LOOKUP = 8
    DELETE = 16
    LOCK = 32
    ADMINISTER = 64
    USR0 = 0x01000000
    USR1 = 0x02000000
    USR2 = 0x04000000
    USR3 = 0x08000000
    USR4 = 0x10000000
    USR5 = 0x20000000
    USR6 = 0x40000000
    USR7 = 0x80000000


_ALL_RIGHTS = sum(Rights)  # of an IntFlag, `~` sets bits that have no name


class _RightsTable(dict[int, Rights]):
    """Making an `IntFlag` costs more than the rest of a status, so each is made once."""

    def __missing__(self, bits: int) -> Rights:
        rights = self[bits] = Rights(bits)
        return rights


_RIGHTS = _RightsTable()
_KINDS = {int(FileType.FILE): FileKind.FILE, int(FileType.DIRECTORY): FileKind.DIRECTORY}


class Status(NamedTuple):
    """The status of one vnode. A named tuple, since listings make thousands of them."""

    kind: FileKind
    length: int  # bytes
    data_version: int
    mode: int  # permission bits, at most 0o7777
    owner: int
    group: int
    links: int
    mtime: int  # Unix seconds
    parent_vnode: int
    parent_unique: int
    caller_access: Rights
    anonymous_access: Rights

    @classmethod
    def from_wire(cls, wire: FetchStatus) -> "Status":
        """What a server said of a vnode; `DataCorrupt` when it cannot be."""
        if wire.interface_version != STATUS_VERSION:
            raise DataCorrupt(f"a file status of the unknown version {wire.interface_version}")
        mode = wire.unix_mode_bits
        kind = _KINDS.get(wire.file_type)
        if kind is None:
            if wire.file_type != FileType.SYMLINK:
                raise DataCorrupt(f"a file status with the unknown file type {wire.file_type}")
            kind = FileKind.SYMLINK if mode & _EXECUTE_BITS else FileKind.MOUNTPOINT
        length = wire.length_high << 32 | wire.length_low
        if length > _MAX_LENGTH:
            raise DataCorrupt(f"a file status with the impossible length {length}")
        return cls(
            kind,
            length,
            wire.data_version_high << 32 | wire.data_version_low,
            mode & _MODE_BITS,
            wire.owner,
            wire.group,
            wire.link_count,
            wire.client_mod_time,
            wire.parent_vnode,
            wire.parent_unique,
            _RIGHTS[wire.caller_access & _ALL_RIGHTS],
            _RIGHTS[wire.anonymous_access & _ALL_RIGHTS],
        )


@dataclass(frozen=True, slots=True)
class SiteInfo:
    """One site of a volume's record: a server that has some of the volumes of that name."""

    server: UUID  # made of its address if the server registered none
    address: str | None  # IPv4, where the record names the server by its address
    unique: int  # changes when the server's addresses were registered anew
    partition: int  # 0 is /vicepa
    types: frozenset[VolumeType]
    new_replica: bool  # a release that is under way has reached this replica
    usable: bool  # False: added as a replica, but no release has ever reached it


@dataclass(frozen=True, slots=True)
class VolumeInfo:
    """A record of the VLDB: up to three volumes of one name, and where they are."""

    name: str  # of the read/write volume, without suffix
    ids: tuple[int, int, int]  # by VolumeType; 0: there is none
    sites: tuple[SiteInfo, ...]
    locked: bool = False  # by an operation of the administrators, such as a move or a release

    def has(self, type: VolumeType) -> bool:
        """Whether the volume of that type exists and can be reached somewhere."""
        return bool(self.ids[type]) and any(type in s.types and s.usable for s in self.sites)
