"""RXAFS, the file server: structures and procedures, declared once. Source: afsint.xg, common.xg.

Every reply with a `FetchStatus` tells the state of the vnode after the call.

`FetchData` and `FetchData64` are split calls. The server sends how many bytes it gives (one
signed word, or for `FetchData64` two words, upper half first), then the bytes, then the reply.
`StoreData` and `StoreData64` are split the other way: `length` bytes stand behind the arguments.

What changes a vnode is never sent twice, but for calls that set what is set already.
"""

from typing import Annotated

from afsfuse.interfaces.common import (
    FIDS_MAX,
    OPAQUE_MAX,
    CallBacks,
    CapabilitiesReply,
    Fids,
    Name,
)
from afsfuse.interfaces.common import (
    CallBack as CallBack,
)
from afsfuse.interfaces.common import (
    Fid as Fid,
)
from afsfuse.interfaces.fsvalues import STATUS_VERSION as STATUS_VERSION
from afsfuse.interfaces.fsvalues import CallBackType as CallBackType
from afsfuse.interfaces.fsvalues import Capability as Capability
from afsfuse.interfaces.fsvalues import FetchStatus as FetchStatus
from afsfuse.interfaces.fsvalues import FileType as FileType
from afsfuse.interfaces.fsvalues import LockType as LockType
from afsfuse.interfaces.fsvalues import StoreMask as StoreMask
from afsfuse.interfaces.fsvalues import StoreStatus as StoreStatus
from afsfuse.interfaces.fsvalues import StoreVolumeStatus as StoreVolumeStatus
from afsfuse.interfaces.fsvalues import VolSync as VolSync
from afsfuse.interfaces.fsvalues import VolumeMask as VolumeMask
from afsfuse.interfaces.fsvalues import VolumeStatus as VolumeStatus
from rxrpc.rpc import Interface, Rpc, Stream, Void
from rxrpc.xdr import Array, Opaque, String, Vector, i32, i64, u32, u64, xdr_struct

PORT = 7000
SERVICE_ID = 1
PATH_MAX = 1024  # AFSPATHMAX: what is in a symbolic link
FLUSH_MAX = 10  # FLUSHMAX
STATISTICS_WORDS = 45  # of ViceStatistics, before its disks
STATISTICS_DISKS = 10
STATISTICS64_MAX = 16  # STATS64_VERSION
LOCK_SECONDS = 300  # AFS_LOCKWAIT: how long a lock holds without being extended

Message = Annotated[bytes, String(OPAQUE_MAX)]
LinkTarget = Annotated[bytes, String(PATH_MAX)]
AccessList = Annotated[bytes, Opaque(OPAQUE_MAX)]


@xdr_struct
class FidArgs:
    """A procedure on one vnode."""

    fid: Fid


@xdr_struct
class FidsArgs:
    """A procedure on up to 50 vnodes."""

    fids: Fids


@xdr_struct
class FetchDataArgs:
    """Which bytes of a file, up to 2 GiB from its start."""

    fid: Fid
    position: i32
    length: i32


@xdr_struct
class FetchData64Args:
    """Which bytes of a file."""

    fid: Fid
    position: i64
    length: i64


@xdr_struct
class StoreDataArgs:
    """Bytes that follow, and how long the file is to be before they are written, up to 2 GiB."""

    fid: Fid
    status: StoreStatus
    position: u32
    length: u32
    file_length: u32


@xdr_struct
class StoreData64Args:
    """Bytes that follow; a file longer than `file_length` is cut to that first."""

    fid: Fid
    status: StoreStatus
    position: u64
    length: u64
    file_length: u64


@xdr_struct
class StoreAclArgs:
    """The access list of a directory, as text that ends with a NUL."""

    fid: Fid
    access_list: AccessList


@xdr_struct
class StoreStatusArgs:
    """What to set of a vnode."""

    fid: Fid
    status: StoreStatus


@xdr_struct
class NameArgs:
    """A name in a directory."""

    directory: Fid
    name: Name


@xdr_struct
class CreateArgs:
    """A new name in a directory, and the status of what it is to stand for."""

    directory: Fid
    name: Name
    status: StoreStatus


@xdr_struct
class RenameArgs:
    """From where to where."""

    old_directory: Fid
    old_name: Name
    new_directory: Fid
    new_name: Name


@xdr_struct
class SymlinkArgs:
    """A symbolic link, or with a mode without execute bits a mount point."""

    directory: Fid
    name: Name
    target: LinkTarget
    status: StoreStatus


@xdr_struct
class LinkArgs:
    """A further name for a file of the same directory."""

    directory: Fid
    name: Name
    existing: Fid


@xdr_struct
class SetLockArgs:
    """A lock on a whole file."""

    fid: Fid
    type: i32  # LockType


@xdr_struct
class FlushCpsArgs:
    """Users and hosts whose groups are to be looked up anew."""

    ids: Annotated[tuple[i32, ...], Array(FLUSH_MAX)]
    addresses: Annotated[tuple[i32, ...], Array(FLUSH_MAX)]
    spare: i32


@xdr_struct
class SetVolumeStatusArgs:
    """Quota, name and messages of a volume; empty texts change nothing."""

    volume: u32
    status: StoreVolumeStatus
    name: Name
    offline_message: Message
    message_of_the_day: Message


@xdr_struct
class StatisticsVersionArgs:
    """How many numbers of `GetStatistics64` the caller knows."""

    version: i32


@xdr_struct
class FetchStatusReply:
    """Status and promise; also what follows the data in `FetchData` and `FetchData64`.

    `callback.expiration` is what was left of the promise when the server wrote it, in seconds; 0
    is no promise. Source: SetCallBackStruct in viced/afsfileprocs.c.
    """

    status: FetchStatus
    callback: CallBack
    sync: VolSync


@xdr_struct
class FetchAclReply:
    """The access list as the text that AFS keeps it in; OpenAFS servers end it with a NUL."""

    access_list: AccessList
    status: FetchStatus
    sync: VolSync


@xdr_struct
class StatusReply:
    """Status of the vnode, without a promise: the caller has that already, or none."""

    status: FetchStatus
    sync: VolSync


@xdr_struct
class CreateReply:
    """What was made, the directory that it is in, and a promise for what was made."""

    fid: Fid
    status: FetchStatus
    directory_status: FetchStatus
    callback: CallBack
    sync: VolSync


@xdr_struct
class SymlinkReply:
    """What was made, and the directory that it is in."""

    fid: Fid
    status: FetchStatus
    directory_status: FetchStatus
    sync: VolSync


@xdr_struct
class RenameReply:
    """Both directories."""

    old_status: FetchStatus
    new_status: FetchStatus
    sync: VolSync


@xdr_struct
class LinkReply:
    """The file and the directory."""

    status: FetchStatus
    directory_status: FetchStatus
    sync: VolSync


@xdr_struct
class SyncReply:
    """About the volume only."""

    sync: VolSync


@xdr_struct
class FlushCpsReply:
    """Two numbers without a meaning."""

    spare2: i32
    spare3: i32


@xdr_struct
class RootVolumeReply:
    """The volume at the root of the cell's tree."""

    name: Name


@xdr_struct
class Disk:
    """ViceDisk: a partition, in KiB."""

    available: i32
    total: i32
    name: Annotated[tuple[u32, ...], Vector(8)]  # 32 characters as they stand, with NULs


@xdr_struct
class StatisticsReply:
    """ViceStatistics; the order of the words is that of afsint.xg."""

    words: Annotated[tuple[u32, ...], Vector(STATISTICS_WORDS)]
    disks: Annotated[tuple[Disk, ...], Vector(STATISTICS_DISKS)]


@xdr_struct
class Statistics64Reply:
    """As many numbers as were asked for, in the order of afsint.xg."""

    numbers: Annotated[tuple[u64, ...], Array(STATISTICS64_MAX)]


@xdr_struct
class BulkStatusReply:
    """Statuses and promises in the order of the fids."""

    statuses: Annotated[tuple[FetchStatus, ...], Array(FIDS_MAX)]
    callbacks: CallBacks
    sync: VolSync


@xdr_struct
class GiveUpCallBacksArgs:
    """Promises that the client no longer needs; the servers look at the fids only."""

    fids: Fids
    callbacks: CallBacks


@xdr_struct
class GetVolumeStatusArgs:
    """Which volume."""

    volume: u32


@xdr_struct
class GetVolumeStatusReply:
    """Quota, use and name of a volume."""

    status: VolumeStatus
    name: Name
    offline_message: Message
    message_of_the_day: Message


@xdr_struct
class GetTimeReply:
    """The server's clock."""

    seconds: u32
    microseconds: u32


FETCH_DATA = Rpc(
    "FetchData", 130, FetchDataArgs, FetchStatusReply, idempotent=True, stream=Stream.FROM_SERVER
)
FETCH_ACL = Rpc("FetchACL", 131, FidArgs, FetchAclReply, idempotent=True)
FETCH_STATUS = Rpc("FetchStatus", 132, FidArgs, FetchStatusReply, idempotent=True)
STORE_DATA = Rpc("StoreData", 133, StoreDataArgs, StatusReply, stream=Stream.TO_SERVER)
OLD_STORE_ACL = Rpc("OldStoreACL", 134, StoreAclArgs, StatusReply, idempotent=True)
STORE_STATUS = Rpc("StoreStatus", 135, StoreStatusArgs, StatusReply, idempotent=True)
REMOVE_FILE = Rpc("RemoveFile", 136, NameArgs, StatusReply)
CREATE_FILE = Rpc("CreateFile", 137, CreateArgs, CreateReply)
RENAME = Rpc("Rename", 138, RenameArgs, RenameReply)
SYMLINK = Rpc("Symlink", 139, SymlinkArgs, SymlinkReply)
LINK = Rpc("Link", 140, LinkArgs, LinkReply)
MAKE_DIR = Rpc("MakeDir", 141, CreateArgs, CreateReply)
REMOVE_DIR = Rpc("RemoveDir", 142, NameArgs, StatusReply)
GET_STATISTICS = Rpc("GetStatistics", 146, Void, StatisticsReply, idempotent=True)
GIVE_UP_CALLBACKS = Rpc("GiveUpCallBacks", 147, GiveUpCallBacksArgs, Void, idempotent=True)
GET_VOLUME_STATUS = Rpc(
    "GetVolumeStatus", 149, GetVolumeStatusArgs, GetVolumeStatusReply, idempotent=True
)
SET_VOLUME_STATUS = Rpc("SetVolumeStatus", 150, SetVolumeStatusArgs, Void, idempotent=True)
GET_ROOT_VOLUME = Rpc("GetRootVolume", 151, Void, RootVolumeReply, idempotent=True)
GET_TIME = Rpc("GetTime", 153, Void, GetTimeReply, idempotent=True)
BULK_STATUS = Rpc("BulkStatus", 155, FidsArgs, BulkStatusReply, idempotent=True)
SET_LOCK = Rpc("SetLock", 156, SetLockArgs, SyncReply)
EXTEND_LOCK = Rpc("ExtendLock", 157, FidArgs, SyncReply, idempotent=True)
RELEASE_LOCK = Rpc("ReleaseLock", 158, FidArgs, SyncReply)
LOOKUP = Rpc("Lookup", 161, NameArgs, CreateReply, idempotent=True)
FLUSH_CPS = Rpc("FlushCPS", 162, FlushCpsArgs, FlushCpsReply, idempotent=True)
STORE_ACL = Rpc("StoreACL", 164, StoreAclArgs, StatusReply, idempotent=True)
INLINE_BULK_STATUS = Rpc("InlineBulkStatus", 65536, FidsArgs, BulkStatusReply, idempotent=True)
FETCH_DATA64 = Rpc(
    "FetchData64",
    65537,
    FetchData64Args,
    FetchStatusReply,
    idempotent=True,
    stream=Stream.FROM_SERVER,
)
STORE_DATA64 = Rpc("StoreData64", 65538, StoreData64Args, StatusReply, stream=Stream.TO_SERVER)
GIVE_UP_ALL_CALLBACKS = Rpc("GiveUpAllCallBacks", 65539, Void, Void, idempotent=True)
GET_CAPABILITIES = Rpc("GetCapabilities", 65540, Void, CapabilitiesReply, idempotent=True)
GET_STATISTICS64 = Rpc(
    "GetStatistics64", 65542, StatisticsVersionArgs, Statistics64Reply, idempotent=True
)

RXAFS = Interface(
    "RXAFS",
    service_id=SERVICE_ID,
    rpcs=(
        FETCH_DATA,
        FETCH_ACL,
        FETCH_STATUS,
        STORE_DATA,
        OLD_STORE_ACL,
        STORE_STATUS,
        REMOVE_FILE,
        CREATE_FILE,
        RENAME,
        SYMLINK,
        LINK,
        MAKE_DIR,
        REMOVE_DIR,
        GET_STATISTICS,
        GIVE_UP_CALLBACKS,
        GET_VOLUME_STATUS,
        SET_VOLUME_STATUS,
        GET_ROOT_VOLUME,
        GET_TIME,
        BULK_STATUS,
        SET_LOCK,
        EXTEND_LOCK,
        RELEASE_LOCK,
        LOOKUP,
        FLUSH_CPS,
        STORE_ACL,
        INLINE_BULK_STATUS,
        FETCH_DATA64,
        STORE_DATA64,
        GIVE_UP_ALL_CALLBACKS,
        GET_CAPABILITIES,
        GET_STATISTICS64,
    ),
)
