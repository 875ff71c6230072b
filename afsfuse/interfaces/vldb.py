"""VL, the volume location service, declared once. Source: vldbint.xg, vl_opcodes.h.

A volume's record exists in three forms: the oldest knows 8 sites by address, `N` knows 13, and
`U` knows 13 servers by UUID, whose addresses `GetAddrsU` tells. The lookups by name also take a
volume's number in decimal.
"""

import enum
from typing import Annotated

from afsfuse.interfaces.common import CapabilitiesReply, Uuid
from rxrpc.rpc import Interface, Rpc, Void
from rxrpc.xdr import Array, CharVector, String, Vector, i32, u32, xdr_struct

PORT = 7003
SERVICE_ID = 52
NAME_MAX = 65  # VL_MAXNAMELEN, with the NUL inside a structure
SERVERS_OLD = 8  # OMAXNSERVERS
SERVERS_NEW = 13  # NMAXNSERVERS
TYPES = 3  # MAXTYPES: read/write, read-only, backup
ADDRESSES_MAX = 500  # bulkaddrs
ENTRIES_MAX = 400  # of one bulk reply; the definition has no bound, 400 are what servers give

VolumeName = Annotated[bytes, CharVector(NAME_MAX)]
VolumeIds = Annotated[tuple[u32, ...], Vector(TYPES)]
EightWords = Annotated[tuple[u32, ...], Vector(SERVERS_OLD)]
ThirteenWords = Annotated[tuple[u32, ...], Vector(SERVERS_NEW)]
SpareWords = Annotated[tuple[u32, ...], Vector(9)]
Addresses = Annotated[tuple[u32, ...], Array(ADDRESSES_MAX)]  # IPv4, host byte order


class EntryFlag(enum.IntFlag):
    """`flags` of a volume's record: which of its three volumes exist, and who has locked it."""

    MOVING = 0x10  # VLOP_MOVE and so on: an operation is under way, or was broken off
    RELEASING = 0x20
    BACKING_UP = 0x40
    DELETING = 0x80  # also what `vos lock` sets
    DUMPING = 0x100
    LOCKED = 0x1F0  # any of these: VLOP_ALLOPERS
    RW_EXISTS = 0x1000
    RO_EXISTS = 0x2000
    BACKUP_EXISTS = 0x4000


class SiteFlag(enum.IntFlag):
    """`server_flags` of one site of a record."""

    NEW_REPLICA = 0x01  # VLSF_NEWREPSITE: a release has already reached this replica
    READ_ONLY = 0x02
    READ_WRITE = 0x04
    BACKUP = 0x08
    UUID = 0x10  # the server is named by its UUID, not by an address
    DO_NOT_USE = 0x20  # added, but no release has reached it ever


class AddressMask(enum.IntFlag):
    """Which members of `GetAddrsUArgs` count."""

    ADDRESS = 0x1
    INDEX = 0x2
    UUID = 0x4


class ListMask(enum.IntFlag):
    """Which members of `ListAttributes` count."""

    SERVER = 0x1
    PARTITION = 0x2
    VOLUME_ID = 0x8
    FLAG = 0x10


@xdr_struct
class EntryO:
    """vldbentry, the oldest form."""

    name: VolumeName
    spare: i32
    server_count: i32
    servers: EightWords  # IPv4, host byte order
    partitions: EightWords
    server_flags: EightWords
    volume_ids: VolumeIds
    clone_id: u32
    flags: u32


@xdr_struct
class EntryN:
    """nvldbentry: more servers."""

    name: VolumeName
    server_count: i32
    servers: ThirteenWords  # IPv4, host byte order
    partitions: ThirteenWords
    server_flags: ThirteenWords
    volume_ids: VolumeIds
    clone_id: u32
    flags: u32
    spares: SpareWords


@xdr_struct
class EntryU:
    """uvldbentry: servers by UUID.

    Where a site's flags lack `SiteFlag.UUID`, the first word of its UUID is an IPv4 address.
    `uniques` change when the addresses of the server were registered anew.
    """

    name: VolumeName
    server_count: i32
    servers: Annotated[tuple[Uuid, ...], Vector(SERVERS_NEW)]
    uniques: ThirteenWords
    partitions: ThirteenWords
    server_flags: ThirteenWords
    volume_ids: VolumeIds
    clone_id: u32
    flags: u32
    spares: SpareWords


@xdr_struct
class VolumeNameArgs:
    """A volume's name, or its number in decimal."""

    name: Annotated[bytes, String(NAME_MAX)]


@xdr_struct
class VolumeIdArgs:
    """A volume's number; type -1 is any."""

    volume: u32
    type: i32


@xdr_struct
class EntryOReply:
    """A record in the oldest form."""

    entry: EntryO


@xdr_struct
class EntryNReply:
    """A record with more servers."""

    entry: EntryN


@xdr_struct
class EntryUReply:
    """A record with UUIDs."""

    entry: EntryU


@xdr_struct
class GetAddrsUArgs:
    """ListAddrByAttributes: which server."""

    mask: u32  # AddressMask
    address: u32
    index: i32
    spare: i32
    uuid: Uuid


@xdr_struct
class GetAddrsUReply:
    """The addresses of one server."""

    uuid: Uuid
    unique: u32
    count: i32
    addresses: Addresses


@xdr_struct
class GetAddrsArgs:
    """Both words are 0 for the list of all servers."""

    handle: i32
    spare: i32


@xdr_struct
class VlCallBack:
    """VLCallBack: never used."""

    version: u32
    expiration: u32
    type: u32
    handle: u32


@xdr_struct
class GetAddrsReply:
    """One address of every file server; 255.0.x.y stands for the multi-homed ones."""

    spare: VlCallBack
    count: i32
    addresses: Addresses


@xdr_struct
class ListAttributes:
    """VldbListByAttributes: which records."""

    mask: u32  # ListMask
    server: i32
    partition: i32
    spare: i32
    volume: u32
    flag: i32


@xdr_struct
class ListAttributesN2Args:
    """Which records, those whose names match an expression, from which one on."""

    attributes: ListAttributes
    name: Annotated[bytes, String(NAME_MAX)]
    start: i32


@xdr_struct
class ListAttributesN2Reply:
    """How many records, the records, and where to go on; -1 behind the last one."""

    count: i32
    entries: Annotated[tuple[EntryN, ...], Array(ENTRIES_MAX)]
    next_start: i32


GET_ENTRY_BY_ID_O = Rpc("GetEntryByID", 503, VolumeIdArgs, EntryOReply, idempotent=True)
GET_ENTRY_BY_NAME_O = Rpc("GetEntryByNameO", 504, VolumeNameArgs, EntryOReply, idempotent=True)
PROBE_SERVER = Rpc("ProbeServer", 514, Void, Void, idempotent=True)
GET_ADDRS = Rpc("GetAddrs", 515, GetAddrsArgs, GetAddrsReply, idempotent=True)
GET_ENTRY_BY_ID_N = Rpc("GetEntryByIDN", 518, VolumeIdArgs, EntryNReply, idempotent=True)
GET_ENTRY_BY_NAME_N = Rpc("GetEntryByNameN", 519, VolumeNameArgs, EntryNReply, idempotent=True)
GET_ENTRY_BY_ID_U = Rpc("GetEntryByIDU", 526, VolumeIdArgs, EntryUReply, idempotent=True)
GET_ENTRY_BY_NAME_U = Rpc("GetEntryByNameU", 527, VolumeNameArgs, EntryUReply, idempotent=True)
GET_ADDRS_U = Rpc("GetAddrsU", 533, GetAddrsUArgs, GetAddrsUReply, idempotent=True)
LIST_ATTRIBUTES_N2 = Rpc(
    "ListAttributesN2", 534, ListAttributesN2Args, ListAttributesN2Reply, idempotent=True
)
# Not in OpenAFS's own interface: other servers answer it. Source: Linux fs/afs/afs_vl.h.
GET_CAPABILITIES = Rpc("GetCapabilities", 65537, Void, CapabilitiesReply, idempotent=True)

VL = Interface(
    "VL",
    service_id=SERVICE_ID,
    rpcs=(
        GET_ENTRY_BY_ID_O,
        GET_ENTRY_BY_NAME_O,
        PROBE_SERVER,
        GET_ADDRS,
        GET_ENTRY_BY_ID_N,
        GET_ENTRY_BY_NAME_N,
        GET_ENTRY_BY_ID_U,
        GET_ENTRY_BY_NAME_U,
        GET_ADDRS_U,
        LIST_ATTRIBUTES_N2,
        GET_CAPABILITIES,
    ),
)
