"""Values of the file server's interface: what stands inside its messages. Source: afsint.xg."""

import enum

from rxrpc.xdr import i8, i32, u32, xdr_struct

STATUS_VERSION = 1  # FetchStatus.interface_version


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


class StoreMask(enum.IntFlag):
    """`StoreStatus.mask`: which members count."""

    NONE = 0
    MODIFICATION_TIME = 1
    OWNER = 2
    GROUP = 4
    MODE = 8
    SEGMENT_SIZE = 16
    FSYNC = 1024  # of a store: do not answer before the data is safe


class VolumeMask(enum.IntFlag):
    """`StoreVolumeStatus.mask`: which members count."""

    MIN_QUOTA = 1
    MAX_QUOTA = 2


class LockType(enum.IntEnum):
    """What `SetLock` may ask for."""

    READ = 0
    WRITE = 1


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
class StoreStatus:
    """AFSStoreStatus: what is to be set of a vnode's status."""

    mask: u32  # StoreMask
    client_mod_time: u32 = 0  # Unix seconds
    owner: u32 = 0
    group: u32 = 0
    unix_mode_bits: u32 = 0
    segment_size: u32 = 0


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
class StoreVolumeStatus:
    """AFSStoreVolumeStatus. Sizes are KiB."""

    mask: u32  # VolumeMask
    min_quota: i32
    max_quota: i32
