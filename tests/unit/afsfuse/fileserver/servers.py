"""File servers on a network in memory: real packets, answers made to order."""

from __future__ import annotations

import random
import struct
from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

import trio

from afsfuse.auth.identity import ANONYMOUS, Caller
from afsfuse.cell.directory import Cell
from afsfuse.cell.servers import FileServer
from afsfuse.cell.volumes import Site, Volume, VolumeLocator
from afsfuse.fileserver import FileServerClient, RetryLimits
from afsfuse.interfaces import fileserver as fs
from afsfuse.interfaces.common import CallBack, CapabilitiesReply, Fid
from afsfuse.model import VolumeInfo, VolumeType
from rxrpc import NULL, CallAborted, Endpoint, Parameters, ServerCall, Service
from rxrpc.rpc import Rpc, Void
from rxrpc.security.rxkad import RxkadServerConnection
from tests.net import LossyNetwork

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from afsfuse.auth.security import Credentials
    from afsfuse.fileserver.preferences import Preferences
    from rxrpc.security.base import ServerSecurity

VOLUME_ID = 536870915
FILE = Fid(VOLUME_ID, 2, 1)
FILES = tuple(Fid(VOLUME_ID, 2 * n, n) for n in range(1, 51))
PROMISED = 1800


def wire_status(**changes: int) -> fs.FetchStatus:
    """A plain file's status."""
    fields: dict[str, int] = dict.fromkeys(
        [
            "length_low",
            "author",
            "owner",
            "parent_vnode",
            "parent_unique",
            "residency_mask",
            "client_mod_time",
            "server_mod_time",
            "group",
            "sync_counter",
            "data_version_high",
            "lock_count",
            "length_high",
            "error_code",
        ],
        0,
    )
    fields |= {
        "interface_version": 1,
        "file_type": 1,
        "link_count": 1,
        "data_version_low": 7,
        "caller_access": 9,
        "anonymous_access": 9,
        "unix_mode_bits": 0o644,
    }
    return fs.FetchStatus(**(fields | changes))


def callback(expiration: int = PROMISED) -> CallBack:
    """A shared promise."""
    return CallBack(1, expiration, fs.CallBackType.SHARED)


SYNC = fs.VolSync(1000)


class Host:
    """One file server. `replies` and `aborts` are looked at by each handler."""

    def __init__(self, network: LossyNetwork, number: int, addresses: int = 1) -> None:
        self.network = network
        self.securities: list[ServerSecurity] = [NULL]
        self.callers: list[str] = []  # of each call: who it was, and at which level
        self.listening = [(f"192.0.2.{number + 100 * n}", 7000) for n in range(addresses)]
        self.server = FileServer("test.afs", UUID(int=number), 1, self.listening)
        self.calls: Counter[str] = Counter()
        self.lacks: set[str] = set()  # procedures that this server is too old for
        self.abort: Callable[[], int] = lambda: 0  # 0: serve the call
        self.delay = 0.0
        self.data = b""
        self.keeps = True  # what is stored
        self.arguments: list[Any] = []  # of each change
        self.announced: int | None = None  # instead of the real length
        self.fetched: list[tuple[int, int]] = []  # position and length of each
        self.bulk: Callable[[Sequence[Fid]], fs.BulkStatusReply] | None = None
        self._scopes: list[trio.CancelScope] = []

    async def start(self, nursery: trio.Nursery) -> None:
        """Answer at all addresses."""
        for address in self.listening:
            await nursery.start(self._serve, address)

    def stop(self) -> None:
        """Be gone, connections and all."""
        for scope in self._scopes:
            scope.cancel()
        self._scopes.clear()

    async def _serve(self, address: tuple[str, int], *, task_status: trio.TaskStatus[None]) -> None:
        endpoint = Endpoint(
            socket=self.network.socket(address), parameters=Parameters(check_reach=False)
        )
        endpoint.add_service(self._service())
        with trio.CancelScope() as scope:
            self._scopes.append(scope)
            await endpoint.run(task_status=task_status)

    def _service(self) -> Service:
        service = Service(fs.RXAFS, security=self.securities)

        def serve(rpc: Rpc[Any, Any], handler: Callable[[ServerCall, Any], Awaitable[Any]]) -> None:
            async def guarded(call: ServerCall, args: Any) -> Any:
                self.calls[rpc.name] += 1
                if isinstance(call.security, RxkadServerConnection):
                    self.callers.append(f"{call.security.principal} {call.security_level.name}")
                else:
                    self.callers.append("anonymous")
                await trio.sleep(self.delay)
                if rpc.name in self.lacks:
                    raise CallAborted(-455)
                if rpc is not fs.GET_CAPABILITIES and (code := self.abort()):
                    raise CallAborted(code)
                return await handler(call, args)

            service.handles(rpc)(guarded)

        for rpc, reply in CHANGES.items():
            serve(rpc, self._change(reply))
        serve(fs.STORE_DATA64, self._store_data)
        serve(fs.STORE_DATA, self._store_data)
        serve(fs.FETCH_STATUS, self._fetch_status)
        serve(fs.INLINE_BULK_STATUS, self._bulk_status)
        serve(fs.FETCH_DATA64, self._fetch_data64)
        serve(fs.FETCH_DATA, self._fetch_data)
        serve(fs.FETCH_ACL, self._fetch_acl)
        serve(fs.GET_VOLUME_STATUS, self._volume_status)
        serve(fs.GET_CAPABILITIES, self._capabilities)
        serve(fs.GIVE_UP_CALLBACKS, self._change(Void()))
        serve(fs.GIVE_UP_ALL_CALLBACKS, self._give_up)
        return service

    def _change(self, reply: object) -> Callable[[ServerCall, Any], Awaitable[Any]]:
        async def handler(call: ServerCall, args: Any) -> object:
            self.arguments.append(args)
            return reply

        return handler

    async def _store_data(
        self, call: ServerCall, args: fs.StoreDataArgs | fs.StoreData64Args
    ) -> fs.StatusReply:
        self.arguments.append(args)
        sent = await call.receive_exactly(args.length)
        if self.keeps:
            kept = self.data[: args.file_length].ljust(args.position, b"\0")
            self.data = kept[: args.position] + sent + kept[args.position + args.length :]
        return fs.StatusReply(wire_status(length_low=len(self.data)), SYNC)

    async def _fetch_status(self, call: ServerCall, args: fs.FidArgs) -> fs.FetchStatusReply:
        return fs.FetchStatusReply(wire_status(length_low=args.fid.vnode), callback(), SYNC)

    async def _bulk_status(self, call: ServerCall, args: fs.FidsArgs) -> fs.BulkStatusReply:
        if self.bulk is not None:
            return self.bulk(args.fids)
        statuses = tuple(wire_status(length_low=fid.vnode) for fid in args.fids)
        return fs.BulkStatusReply(statuses, (callback(),) * len(statuses), SYNC)

    async def _fetch_data64(
        self, call: ServerCall, args: fs.FetchData64Args
    ) -> fs.FetchStatusReply:
        return await self._send(call, "!q", args.position, args.length)

    async def _fetch_data(self, call: ServerCall, args: fs.FetchDataArgs) -> fs.FetchStatusReply:
        return await self._send(call, "!i", args.position, args.length)

    async def _send(
        self, call: ServerCall, form: str, position: int, length: int
    ) -> fs.FetchStatusReply:
        self.fetched.append((position, length))
        data = self.data[position : position + length]
        announced = len(data) if self.announced is None else self.announced
        await call.send(struct.pack(form, announced) + data)
        return fs.FetchStatusReply(wire_status(length_low=len(self.data)), callback(), SYNC)

    async def _fetch_acl(self, call: ServerCall, args: fs.FidArgs) -> fs.FetchAclReply:
        return fs.FetchAclReply(b"1\n0\nsystem:anyuser 9\n", wire_status(), SYNC)

    async def _volume_status(
        self, call: ServerCall, args: fs.GetVolumeStatusArgs
    ) -> fs.GetVolumeStatusReply:
        status = fs.VolumeStatus(args.volume, args.volume, 1, 1, 1, 0, 0, 0, 5000, 1234, 999, 9999)
        return fs.GetVolumeStatusReply(status, b"test.volume", b"", b"")

    async def _capabilities(self, call: ServerCall, args: Void) -> CapabilitiesReply:
        return CapabilitiesReply((7,))

    async def _give_up(self, call: ServerCall, args: Void) -> Void:
        return Void()


_DIRECTORY = wire_status(file_type=2)
_MADE = Fid(VOLUME_ID, 4, 9)
_CHANGED = fs.StatusReply(wire_status(), SYNC)
CHANGES: dict[Rpc[Any, Any], Any] = {
    fs.CREATE_FILE: fs.CreateReply(_MADE, wire_status(), _DIRECTORY, callback(), SYNC),
    fs.MAKE_DIR: fs.CreateReply(_MADE, _DIRECTORY, _DIRECTORY, callback(), SYNC),
    fs.SYMLINK: fs.SymlinkReply(_MADE, wire_status(file_type=3), _DIRECTORY, SYNC),
    fs.LINK: fs.LinkReply(wire_status(), _DIRECTORY, SYNC),
    fs.REMOVE_FILE: _CHANGED,
    fs.REMOVE_DIR: _CHANGED,
    fs.RENAME: fs.RenameReply(_DIRECTORY, _DIRECTORY, SYNC),
    fs.STORE_STATUS: _CHANGED,
    fs.STORE_ACL: _CHANGED,
    fs.OLD_STORE_ACL: _CHANGED,
    fs.SET_LOCK: fs.SyncReply(SYNC),
    fs.EXTEND_LOCK: fs.SyncReply(SYNC),
    fs.RELEASE_LOCK: fs.SyncReply(SYNC),
}
"""What each change is answered with."""


class Locator:
    """Stands for the volume locator: counts refreshes and does what it is told in them."""

    def __init__(self) -> None:
        self.refreshes = 0
        self.doubts = 0
        self.on_refresh: Callable[[Volume], None] = lambda volume: None
        self.used: set[FileServer] = set()

    def servers_in_use(self) -> set[FileServer]:
        return self.used

    async def refresh(self, volume: Volume, caller: Caller = ANONYMOUS, *, since: float) -> None:
        self.refreshes += 1
        self.on_refresh(volume)

    def check_soon(self, volume: Volume) -> None:
        self.doubts += 1


class World:
    """A client, some hosts, and a volume on all of them."""

    def __init__(
        self,
        network: LossyNetwork,
        hosts: list[Host],
        limits: RetryLimits | None,
        credentials: Credentials | None = None,
        preferences: Preferences | None = None,
    ) -> None:
        self.network = network
        self.hosts = hosts
        self.locator = Locator()
        self.locator.used = {host.server for host in hosts}
        self.endpoint = Endpoint(socket=network.socket(("192.0.2.250", 7001)))
        self.client = FileServerClient(
            self.endpoint, cast("VolumeLocator", self.locator), credentials, limits, preferences
        )
        self.volume = Volume(Cell("test.afs", ()), VOLUME_ID, VolumeType.RW)
        self.volume.info = VolumeInfo("test.volume", (VOLUME_ID, 0, 0), ())
        self.volume.sites = tuple(Site(host.server, 0) for host in hosts)


@asynccontextmanager
async def world(
    hosts: int = 1,
    *,
    addresses: int = 1,
    icmp: bool = False,
    limits: RetryLimits | None = None,
    credentials: Credentials | None = None,
    securities: Sequence[ServerSecurity] = (),
    preferences: Preferences | None = None,
) -> AsyncIterator[World]:
    """Everything running, on a perfect network of half a millisecond."""
    network = LossyNetwork(random.Random(1), min_delay=0.0005, max_delay=0.0005, icmp=icmp)
    servers = [Host(network, n + 1, addresses) for n in range(hosts)]
    for server in servers:
        server.securities += securities
    world = World(network, servers, limits, credentials, preferences)
    async with trio.open_nursery() as nursery:
        await nursery.start(network.run)
        for host in world.hosts:
            await host.start(nursery)
        await nursery.start(world.endpoint.run)
        await nursery.start(world.client.run)
        yield world
        nursery.cancel_scope.cancel()
