"""RXAFSCB, the cache manager's callback service, declared once. Source: afscbint.xg, common.xg.

File servers call it to break promises; `cmdebug` calls it to look into a cache manager.
"""

import enum
from typing import Annotated

from afsfuse.interfaces.common import (
    CallBacks,
    Capabilities,
    Fids,
    Name,
    Uuid,
)
from afsfuse.interfaces.common import (
    Fid as Fid,
)
from rxrpc.rpc import Interface, Rpc, Void
from rxrpc.xdr import Array, CharVector, Vector, i8, i16, i32, i64, u32, xdr_struct

PORT = 7001
SERVICE_ID = 1
INTERFACES_MAX = 32  # AFS_MAX_INTERFACE_ADDR
CELL_HOSTS_MAX = 8  # AFSMAXCELLHOSTS
CACHE_CONFIG_MAX = 64  # words; the definition has no bound, its only version has 9
XSTATS_MAX = 2048  # AFSCB_MAX_XSTAT_LONGS
XSTATS_VERSION = 2  # AFSCB_XSTAT_VERSION
CACHE_CONFIG_VERSION = 1  # AFS_CLIENT_RETRIEVAL_FIRST_EDITION. Source: afs_args.h

InterfaceWords = Annotated[tuple[i32, ...], Vector(INTERFACES_MAX)]
CellHosts = Annotated[tuple[u32, ...], Array(CELL_HOSTS_MAX)]  # IPv4, host byte order


class ClientCapability(enum.IntFlag):
    """First word of a cache manager's capabilities."""

    ERROR_TRANSLATION = 0x1  # understands UAE codes


class EntryKind(enum.IntEnum):
    """`CacheEntry.mount_state`. Source: cmdebug.c."""

    NORMAL = 0
    MOUNT_POINT = 1
    VOLUME_ROOT = 2
    DIRECTORY = 3
    SYMLINK = 4


class EntryState(enum.IntFlag):
    """`CacheEntry.states`. Source: cmdebug.c."""

    STATUS_VALID = 0x01
    BACKUP = 0x02
    READ_ONLY = 0x04
    MOUNT_POINT_VALID = 0x08
    PENDING_CORE = 0x10
    WAIT_FOR_STORE = 0x40


@xdr_struct
class LockDescription:
    """AFSDBLockDesc: the state of one lock."""

    wait_states: i8 = 0
    exclusively_locked: i8 = 0
    readers: i16 = 0
    waiting: i16 = 0
    spare: i16 = 0
    last_reader_pid: i32 = 0
    writer_pid: i32 = 0
    source: i32 = 0


@xdr_struct
class Lock:
    """AFSDBLock: a lock by name."""

    name: Annotated[bytes, CharVector(16)]
    lock: LockDescription


@xdr_struct
class CacheEntry:
    """AFSDBCacheEntry: a cached vnode, its length cut to 32 bits."""

    address: i32  # identifies the entry; 0 would mean that this is a process
    cell: i32  # cell number, see GetCellByNum
    fid: Fid
    length: i32
    data_version: i32
    lock: LockDescription
    callback: i32  # not 0: there is a promise
    callback_expires: i32  # Unix seconds
    references: i16
    opens: i16
    writers: i16
    mount_state: i8  # EntryKind
    states: i8  # EntryState


@xdr_struct
class CacheEntry64:
    """AFSDBCacheEntry64: a cached vnode."""

    address: i32
    cell: i32
    fid: Fid
    length: i64
    data_version: i32
    lock: LockDescription
    callback: i32
    callback_expires: i32
    references: i16
    opens: i16
    writers: i16
    mount_state: i8
    states: i8


@xdr_struct
class InterfaceAddresses:
    """interfaceAddr: who a client is, and optionally where."""

    count: i32
    uuid: Uuid
    addresses: InterfaceWords
    netmasks: InterfaceWords
    mtus: InterfaceWords


@xdr_struct
class CallBackArgs:
    """Broken promises. The servers send as many callbacks as fids, or none."""

    fids: Fids
    callbacks: CallBacks


@xdr_struct
class IndexArgs:
    """An index, counted from 0, or a cell's number."""

    index: i32


@xdr_struct
class LockReply:
    """One lock."""

    lock: Lock


@xdr_struct
class CacheEntryReply:
    """One cached vnode."""

    entry: CacheEntry


@xdr_struct
class CacheEntry64Reply:
    """One cached vnode."""

    entry: CacheEntry64


@xdr_struct
class XStatsVersionReply:
    """Version of the extended statistics."""

    version: i32


@xdr_struct
class GetXStatsArgs:
    """Which collection of the extended statistics."""

    client_version: i32
    collection: i32


@xdr_struct
class GetXStatsReply:
    """A collection of the extended statistics."""

    version: i32
    time: i32
    data: Annotated[tuple[i32, ...], Array(XSTATS_MAX)]


@xdr_struct
class InterfaceAddressesReply:
    """Who the client is."""

    interfaces: InterfaceAddresses


@xdr_struct
class UuidArgs:
    """A server's UUID, or the one which the server believes that the client has."""

    uuid: Uuid


@xdr_struct
class ServerPrefsReply:
    """A server's address and rank, lower first; both all ones behind the last server."""

    address: u32  # IPv4, host byte order
    rank: i32


@xdr_struct
class CellReply:
    """A cell and its database servers; an empty name says that there is no such cell."""

    name: Name
    hosts: CellHosts


@xdr_struct
class CellNameReply:
    """The client's own cell."""

    name: Name


@xdr_struct
class GetCacheConfigArgs:
    """The newest layout which the caller understands."""

    caller_version: u32


@xdr_struct
class GetCacheConfigReply:
    """The layout, its size in bytes, and its words. See `CacheConfig` for the only layout."""

    server_version: u32
    size: u32
    config: Annotated[tuple[u32, ...], Array(CACHE_CONFIG_MAX)]


@xdr_struct
class CacheConfig:
    """cm_initparams_v1: what GetCacheConfig's words mean in version 1. Source: afs_args.h."""

    chunk_files: u32
    stat_caches: u32
    data_caches: u32
    volume_caches: u32
    first_chunk_size: u32
    other_chunk_size: u32
    cache_size: u32  # KiB
    set_time: u32
    memory_cache: u32


@xdr_struct
class TellMeAboutYourselfReply:
    """Who the client is and what it can do."""

    interfaces: InterfaceAddresses
    capabilities: Capabilities


CALL_BACK = Rpc("CallBack", 204, CallBackArgs, Void, idempotent=True)
INIT_CALL_BACK_STATE = Rpc("InitCallBackState", 205, Void, Void, idempotent=True)
PROBE = Rpc("Probe", 206, Void, Void, idempotent=True)
GET_LOCK = Rpc("GetLock", 207, IndexArgs, LockReply, idempotent=True)
GET_CE = Rpc("GetCE", 208, IndexArgs, CacheEntryReply, idempotent=True)
XSTATS_VERSION_RPC = Rpc("XStatsVersion", 209, Void, XStatsVersionReply, idempotent=True)
GET_XSTATS = Rpc("GetXStats", 210, GetXStatsArgs, GetXStatsReply, idempotent=True)
INIT_CALL_BACK_STATE2 = Rpc(
    "InitCallBackState2", 211, Void, InterfaceAddressesReply, idempotent=True
)
WHO_ARE_YOU = Rpc("WhoAreYou", 212, Void, InterfaceAddressesReply, idempotent=True)
INIT_CALL_BACK_STATE3 = Rpc("InitCallBackState3", 213, UuidArgs, Void, idempotent=True)
PROBE_UUID = Rpc("ProbeUuid", 214, UuidArgs, Void, idempotent=True)
GET_SERVER_PREFS = Rpc("GetServerPrefs", 215, IndexArgs, ServerPrefsReply, idempotent=True)
GET_CELL_SERV_DB = Rpc("GetCellServDB", 216, IndexArgs, CellReply, idempotent=True)
GET_LOCAL_CELL = Rpc("GetLocalCell", 217, Void, CellNameReply, idempotent=True)
GET_CACHE_CONFIG = Rpc(
    "GetCacheConfig", 218, GetCacheConfigArgs, GetCacheConfigReply, idempotent=True
)
GET_CE64 = Rpc("GetCE64", 65536, IndexArgs, CacheEntry64Reply, idempotent=True)
GET_CELL_BY_NUM = Rpc("GetCellByNum", 65537, IndexArgs, CellReply, idempotent=True)
TELL_ME_ABOUT_YOURSELF = Rpc(
    "TellMeAboutYourself", 65538, Void, TellMeAboutYourselfReply, idempotent=True
)

RXAFSCB = Interface(
    "RXAFSCB",
    service_id=SERVICE_ID,
    rpcs=(
        CALL_BACK,
        INIT_CALL_BACK_STATE,
        PROBE,
        GET_LOCK,
        GET_CE,
        XSTATS_VERSION_RPC,
        GET_XSTATS,
        INIT_CALL_BACK_STATE2,
        WHO_ARE_YOU,
        INIT_CALL_BACK_STATE3,
        PROBE_UUID,
        GET_SERVER_PREFS,
        GET_CELL_SERV_DB,
        GET_LOCAL_CELL,
        GET_CACHE_CONFIG,
        GET_CE64,
        GET_CELL_BY_NUM,
        TELL_ME_ABOUT_YOURSELF,
    ),
)
