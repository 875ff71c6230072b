"""RXAFS, the file server: structures and procedures, declared once. Source: afsint.xg, common.xg.

Every reply with a `FetchStatus` tells the state of the vnode after the call. Only the procedures
that a reading client needs are declared.

`FetchData` and `FetchData64` are split calls. The server sends how many bytes it gives (one
signed word, or for `FetchData64` two words, upper half first), then the bytes, then the reply.
"""

import enum
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
from rxrpc.rpc import Interface, Rpc, Stream, Void
from rxrpc.xdr import Array, Opaque, String, i8, i32, i64, u32, xdr_struct

PORT = 7000
SERVICE_ID = 1
STATUS_VERSION = 1  # FetchStatus.interface_version

Message = Annotated[bytes, String(OPAQUE_MAX)]
AccessList = Annotated[bytes, Opaque(OPAQUE_MAX)]


class FileType(enum.IntEnum):
    """`FetchStatus.file_type`."""

    INVALID = 0
    FILE = 1
    DIRECTORY = 2
    SYMLINK = 3


class CallBackType(enum.IntEnum):
    """`CallBack.type`. OpenAFS servers give SHARED, or DROPPED where they promise nothing."""

    EXCLUSIVE = 1
    SHARED = 2
    DROPPED = 3


class Capability(enum.IntFlag):
    """First word of a file server's capabilities."""

    ERROR_TRANSLATION = 0x1  # abort codes are UAE codes, not the server's own errno
    FILES_64BIT = 0x2
    WRITE_LOCK_ACL = 0x4
    SANE_ACLS = 0x8


@xdr_struct
class FetchStatus:
    """AFSFetchStatus: 21 words about one vnode.

    In a bulk reply a vnode with an error has the code in `error_code`, and OpenAFS servers leave
    everything else 0, the version included.
    """

    interface_version: u32
    file_type: u32
    link_count: u32
    length_low: u32
    data_version_low: u32
    author: u32
    owner: u32
    caller_access: u32
    anonymous_access: u32
    unix_mode_bits: u32
    parent_vnode: u32
    parent_unique: u32
    residency_mask: u32
    client_mod_time: u32  # Unix seconds
    server_mod_time: u32  # Unix seconds
    group: u32
    sync_counter: u32
    data_version_high: u32
    lock_count: u32
    length_high: u32
    error_code: u32

    @property
    def length(self) -> int:
        """Bytes, 64 bits."""
        return self.length_high << 32 | self.length_low

    @property
    def data_version(self) -> int:
        """Changes with every change of the data, 64 bits."""
        return self.data_version_high << 32 | self.data_version_low


@xdr_struct
class VolSync:
    """AFSVolSync: about the whole volume; OpenAFS servers fill in the first word only."""

    creation_time: u32  # Unix seconds; on a read-only volume it moves with each release
    spare2: u32 = 0
    spare3: u32 = 0
    spare4: u32 = 0
    spare5: u32 = 0
    spare6: u32 = 0


@xdr_struct
class VolumeStatus:
    """AFSFetchVolumeStatus. Sizes are KiB."""

    volume: i32
    parent: i32
    online: i8
    in_service: i8
    blessed: i8
    needs_salvage: i8
    type: i32
    min_quota: i32
    max_quota: i32  # 0: no limit
    blocks_in_use: i32
    partition_blocks_available: i32
    partition_blocks: i32


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
GIVE_UP_CALLBACKS = Rpc("GiveUpCallBacks", 147, GiveUpCallBacksArgs, Void, idempotent=True)
GET_VOLUME_STATUS = Rpc(
    "GetVolumeStatus", 149, GetVolumeStatusArgs, GetVolumeStatusReply, idempotent=True
)
GET_TIME = Rpc("GetTime", 153, Void, GetTimeReply, idempotent=True)
BULK_STATUS = Rpc("BulkStatus", 155, FidsArgs, BulkStatusReply, idempotent=True)
INLINE_BULK_STATUS = Rpc("InlineBulkStatus", 65536, FidsArgs, BulkStatusReply, idempotent=True)
FETCH_DATA64 = Rpc(
    "FetchData64",
    65537,
    FetchData64Args,
    FetchStatusReply,
    idempotent=True,
    stream=Stream.FROM_SERVER,
)
GIVE_UP_ALL_CALLBACKS = Rpc("GiveUpAllCallBacks", 65539, Void, Void, idempotent=True)
GET_CAPABILITIES = Rpc("GetCapabilities", 65540, Void, CapabilitiesReply, idempotent=True)

RXAFS = Interface(
    "RXAFS",
    service_id=SERVICE_ID,
    rpcs=(
        FETCH_DATA,
        FETCH_ACL,
        FETCH_STATUS,
        GIVE_UP_CALLBACKS,
        GET_VOLUME_STATUS,
        GET_TIME,
        BULK_STATUS,
        INLINE_BULK_STATUS,
        FETCH_DATA64,
        GIVE_UP_ALL_CALLBACKS,
        GET_CAPABILITIES,
    ),
)
