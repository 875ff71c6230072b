"""RXAFSCB: what file servers and `cmdebug` ask of this cache manager.

File servers break promises here. A break is complete in our own cache before the reply leaves,
so that the writer who waits for it at the server may rely on it. The kernel's caches follow: their
invalidation is begun before the reply, but waited for only a short time, since the kernel may be
waiting for a page of the very file that the server holds until we reply.

Nothing here is authenticated, and anybody can forge a packet. All that a forged one achieves is
that promises are forgotten and files are asked for again; no address, name or state is learnt
from a caller. OpenAFS's servers call back without security; whoever comes with rxkad, which we
have no key to check, is told that there is no such service (RX_INVALID_OPERATION).
"""

import struct
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from ipaddress import IPv4Address
from typing import Any, Protocol
from uuid import UUID

import trio

from afsfuse.cell.directory import Cell, CellDirectory
from afsfuse.cell.servers import ServerRegistry
from afsfuse.interfaces import callback as cb
from afsfuse.interfaces.common import Fid
from rxrpc import CallAborted, ServerCall, Service
from rxrpc.rpc import Void
from rxrpc.xdr import encode

NO_SUCH = 1
"""Abort code: an index is past the end, or a UUID is not ours. Source: afs_callback.c"""

_SETTLE_TIME = 0.25  # seconds that a reply waits for the kernel's caches
_LAST_SERVER = 0xFFFFFFFF  # the address that says that there are no more
_UNMEASURED_RANK = 40_000  # of a server whose round trip is unknown. Source: afs_server.c
_ROOT = (1, 1)  # vnode and unique of a volume's root


class CachedVnode(Protocol):
    """What the cache tells of one vnode."""

    @property
    def fid(self) -> Fid: ...
    @property
    def cell(self) -> str: ...
    @property
    def length(self) -> int: ...
    @property
    def data_version(self) -> int: ...
    @property
    def server(self) -> str | None:
        """Address of the server that made a promise; None without one."""
        ...

    @property
    def expires_in(self) -> float:
        """Seconds that the promise still holds."""
        ...

    @property
    def held(self) -> bool:
        """Whether the kernel uses it."""
        ...

    @property
    def read_only(self) -> bool: ...
    @property
    def mount_point(self) -> bool: ...


class PromiseCache(Protocol):
    """What is asked of the cache. All of it is synchronous; breaks give the vnodes concerned."""

    def break_callback(self, server: tuple[str, int], fids: Iterable[Fid]) -> Sequence[object]:
        """Promises end; vnode and unique 0 stand for a whole volume."""
        ...

    def break_server(self, server: tuple[str, int], uuid: UUID | None = None) -> Sequence[object]:
        """All promises of the server with this address or UUID end."""
        ...

    def entries(self, index: int) -> CachedVnode | None:
        """The cached vnode of a number, counted from 0; None past the end."""
        ...


async def _nothing_to_settle(vnodes: Sequence[object]) -> None:
    """There is no kernel to wait for."""


class CallbackService:
    """Answers the callback interface."""

    def __init__(
        self,
        cache: PromiseCache,
        cells: CellDirectory,
        servers: ServerRegistry,
        uuid: UUID,
        *,
        config: cb.CacheConfig,
        settle: Callable[[Sequence[Any]], Awaitable[object]] = _nothing_to_settle,
        restarted: Callable[[tuple[str, int]], None] = lambda server: None,
    ) -> None:
        """`uuid` is this client's own; `settle` waits until the kernel has let go of vnodes.

        `restarted` is told who says that it knows nothing of us: a server does when it was started
        anew, and also when it has forgotten us for another reason.
        """
        self._cache = cache
        self._cells = cells
        self._servers = servers
        self._uuid = uuid
        self._config = config
        self._settle = settle
        self._restarted = restarted
        self.service = self._make_service()
        """To be added to the endpoint that makes the calls to the file servers."""

    @property
    def uuid(self) -> UUID:
        """By which servers know this client."""
        return self._uuid

    @uuid.setter
    def uuid(self, uuid: UUID) -> None:
        """Servers take it for another client from now on: what they have promised is to be given
        up, see `FileServerClient.renounce`.
        """
        self._uuid = uuid

    def _make_service(self) -> Service:
        service = Service(cb.RXAFSCB, whole=True)  # so nobody can have handlers wait for him
        service.handles(cb.CALL_BACK)(self._call_back)
        service.handles(cb.INIT_CALL_BACK_STATE)(self._init_state)
        service.handles(cb.INIT_CALL_BACK_STATE2)(self._init_state2)
        service.handles(cb.INIT_CALL_BACK_STATE3)(self._init_state3)
        service.handles(cb.PROBE)(self._probe)
        service.handles(cb.PROBE_UUID)(self._probe_uuid)
        service.handles(cb.WHO_ARE_YOU)(self._who_are_you)
        service.handles(cb.TELL_ME_ABOUT_YOURSELF)(self._tell_me_about_yourself)
        service.handles(cb.GET_LOCK)(self._get_lock)
        service.handles(cb.GET_CE)(self._get_ce)
        service.handles(cb.GET_CE64)(self._get_ce64)
        service.handles(cb.XSTATS_VERSION_RPC)(self._xstats_version)
        service.handles(cb.GET_CELL_SERV_DB)(self._get_cell_serv_db)
        service.handles(cb.GET_CELL_BY_NUM)(self._get_cell_by_num)
        service.handles(cb.GET_LOCAL_CELL)(self._get_local_cell)
        service.handles(cb.GET_CACHE_CONFIG)(self._get_cache_config)
        service.handles(cb.GET_SERVER_PREFS)(self._get_server_prefs)
        return service

    # What file servers ask

    async def _call_back(self, call: ServerCall, args: cb.CallBackArgs) -> Void:
        await self._let_settle(self._cache.break_callback(call.peer, args.fids))
        return Void()

    async def _init_state(self, call: ServerCall, args: Void) -> Void:
        await self._begin_anew(call)
        return Void()

    async def _init_state2(self, call: ServerCall, args: Void) -> cb.InterfaceAddressesReply:
        await self._begin_anew(call)
        return cb.InterfaceAddressesReply(self._interfaces())

    async def _init_state3(self, call: ServerCall, args: cb.UuidArgs) -> Void:
        await self._begin_anew(call, args.uuid)
        return Void()

    async def _begin_anew(self, call: ServerCall, uuid: UUID | None = None) -> None:
        """A server has promised us nothing, and may know nothing of our calls either."""
        self._restarted(call.peer)
        await self._let_settle(self._cache.break_server(call.peer, uuid))

    async def _let_settle(self, vnodes: Sequence[object]) -> None:
        if vnodes:
            with trio.move_on_after(_SETTLE_TIME):
                await self._settle(vnodes)

    async def _probe(self, call: ServerCall, args: Void) -> Void:
        return Void()

    async def _probe_uuid(self, call: ServerCall, args: cb.UuidArgs) -> Void:
        if args.uuid != self._uuid:
            raise CallAborted(NO_SUCH)
        return Void()

    async def _who_are_you(self, call: ServerCall, args: Void) -> cb.InterfaceAddressesReply:
        return cb.InterfaceAddressesReply(self._interfaces())

    async def _tell_me_about_yourself(
        self, call: ServerCall, args: Void
    ) -> cb.TellMeAboutYourselfReply:
        capabilities = (int(cb.ClientCapability.ERROR_TRANSLATION),)
        return cb.TellMeAboutYourselfReply(self._interfaces(), capabilities)

    def _interfaces(self) -> cb.InterfaceAddresses:
        """Our UUID without a list of addresses, which is of no use behind a NAT."""
        zeros = (0,) * cb.INTERFACES_MAX
        return cb.InterfaceAddresses(0, self._uuid, zeros, zeros, zeros)

    # What cmdebug and the administration library ask

    async def _get_lock(self, call: ServerCall, args: cb.IndexArgs) -> cb.LockReply:
        """There is no table of global locks here, so every index is past its end."""
        raise CallAborted(NO_SUCH)

    async def _get_ce(self, call: ServerCall, args: cb.IndexArgs) -> cb.CacheEntryReply:
        entry = self._entry(args.index)
        return cb.CacheEntryReply(
            cb.CacheEntry(
                address=entry.address,
                cell=entry.cell,
                fid=entry.fid,
                length=_signed(entry.length),
                data_version=entry.data_version,
                lock=entry.lock,
                callback=entry.callback,
                callback_expires=entry.callback_expires,
                references=entry.references,
                opens=entry.opens,
                writers=entry.writers,
                mount_state=entry.mount_state,
                states=entry.states,
            )
        )

    async def _get_ce64(self, call: ServerCall, args: cb.IndexArgs) -> cb.CacheEntry64Reply:
        return cb.CacheEntry64Reply(self._entry(args.index))

    def _entry(self, index: int) -> cb.CacheEntry64:
        vnode = self._cache.entries(index) if index >= 0 else None
        if vnode is None:
            raise CallAborted(NO_SUCH)
        kind = cb.EntryKind.NORMAL
        if vnode.mount_point:
            kind = cb.EntryKind.MOUNT_POINT
        elif (vnode.fid.vnode, vnode.fid.unique) == _ROOT:
            kind = cb.EntryKind.VOLUME_ROOT
        states = cb.EntryState(0)
        promised = vnode.server is not None
        if promised:
            states |= cb.EntryState.STATUS_VALID
        if vnode.read_only:
            states |= cb.EntryState.READ_ONLY
        return cb.CacheEntry64(
            address=index + 1,
            cell=self._cell_number(vnode.cell),
            fid=vnode.fid,
            length=vnode.length,
            data_version=_signed(vnode.data_version),
            lock=cb.LockDescription(),
            callback=int(promised),
            callback_expires=_signed(int(time.time() + vnode.expires_in)) if promised else 0,
            references=int(vnode.held),
            opens=0,
            writers=0,
            mount_state=kind,
            states=states,
        )

    def _cell_number(self, name: str) -> int:
        """Cells are numbered from 1 on, in the order in which the directory knows them."""
        names = self._cells.known_cells()
        return names.index(name) + 1 if name in names else 0

    async def _xstats_version(self, call: ServerCall, args: Void) -> cb.XStatsVersionReply:
        return cb.XStatsVersionReply(cb.XSTATS_VERSION)

    async def _get_cell_serv_db(self, call: ServerCall, args: cb.IndexArgs) -> cb.CellReply:
        return self._cell_reply(args.index)

    async def _get_cell_by_num(self, call: ServerCall, args: cb.IndexArgs) -> cb.CellReply:
        return self._cell_reply(args.index - 1)

    def _cell_reply(self, index: int) -> cb.CellReply:
        cells = self._cells.cells()
        if not 0 <= index < len(cells):
            return cb.CellReply(b"", ())
        cell = cells[index]
        return cb.CellReply(cell.name.encode(), _hosts(cell))

    async def _get_local_cell(self, call: ServerCall, args: Void) -> cb.CellNameReply:
        return cb.CellNameReply((self._cells.this_cell or "").encode())

    async def _get_cache_config(
        self, call: ServerCall, args: cb.GetCacheConfigArgs
    ) -> cb.GetCacheConfigReply:
        words = tuple(word for (word,) in struct.iter_unpack("!I", encode(self._config)))
        return cb.GetCacheConfigReply(cb.CACHE_CONFIG_VERSION, 4 * len(words), words)

    async def _get_server_prefs(self, call: ServerCall, args: cb.IndexArgs) -> cb.ServerPrefsReply:
        known = [(server, host) for server in self._servers for host, _ in server.addresses]
        if not 0 <= args.index < len(known):
            return cb.ServerPrefsReply(_LAST_SERVER, -1)
        server, host = known[args.index]
        rank = _UNMEASURED_RANK
        if server.rtt is not None:
            rank = min(int(server.rtt * 100_000), _UNMEASURED_RANK - 1)
        return cb.ServerPrefsReply(_ipv4(host), rank)


def cache_config(*, vnodes: int, data_bytes: int, chunk_size: int) -> cb.CacheConfig:
    """What `cmdebug -cache` shows of a cache in memory. Sizes in bytes."""
    chunks = data_bytes // chunk_size
    return cb.CacheConfig(
        chunk_files=chunks,
        stat_caches=vnodes,
        data_caches=chunks,
        volume_caches=0,  # as many as are in use
        first_chunk_size=chunk_size,
        other_chunk_size=chunk_size,
        cache_size=data_bytes // 1024,
        set_time=0,
        memory_cache=1,
    )


def _hosts(cell: Cell) -> tuple[int, ...]:
    """The cell's servers, as many as a reply holds."""
    hosts = dict.fromkeys(host for host, _ in cell.vl_servers)
    return tuple(_ipv4(host) for host in hosts)[: cb.CELL_HOSTS_MAX]


def _ipv4(host: str) -> int:
    """An address in host byte order."""
    return int(IPv4Address(host))


def _signed(number: int) -> int:
    """The lowest 32 bits of a number as the signed word that holds them."""
    return (number + 0x80000000 & 0xFFFFFFFF) - 0x80000000
