"""One cell: its servers, each by its address, their clocks, and whether they can call us back."""

from __future__ import annotations

import time
import uuid
from contextlib import suppress
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, TypeVar

import trio

from afsfuse.cache import CacheManager
from afsfuse.callback_service import CallbackService, cache_config
from afsfuse.cell.addresses import refusal
from afsfuse.cell.records import Preference
from afsfuse.cell.servers import ServerRegistry
from afsfuse.cell.volumes import VolumeLocator
from afsfuse.checks.findings import note, well, wrong
from afsfuse.errors import AfsError, CellUnknown, ServerUnreachable
from afsfuse.fileserver.client import FileServerClient
from afsfuse.interfaces import callback, fileserver, vldb
from afsfuse.interfaces.common import Fid
from rxrpc import CallAborted, CallTimeout, CallTimeouts, Endpoint, RxError
from rxrpc.rpc import Void
from rxrpc.trace import ConnectionOpened

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from afsfuse.cell.directory import Cell, CellDirectory
    from afsfuse.checks.findings import Finding
    from rxrpc import Address
    from rxrpc.trace import Event

T = TypeVar("T")
U = TypeVar("U")

ROOT_CELL = "root.cell"
ANSWER = CallTimeouts(dead=4.0, hard=6.0)
FILE_SERVERS_MAX = 64
"""Of a cell, that are asked: large ones have hundreds, and a few tell as much."""
TOLD_MAX = 5
"""Addresses that one line names."""
REQUEST_SECONDS = 10.0
CALLBACK_SECONDS = 3.0
SKEW_SECONDS = 300
_MULTI_HOMED = IPv4Address("255.0.0.0")  # 255.0.x.y is no address but an index


async def look(cells: CellDirectory, name: str) -> list[Finding]:
    """Everything about the servers of a cell."""
    try:
        cell = await cells.find(name)
    except CellUnknown as exc:
        return [wrong("cell", str(exc), "see that the name is right, or add it to CellServDB")]
    except AfsError as exc:
        return [wrong("cell", str(exc), "see /etc/resolv.conf, or add the cell to CellServDB")]
    source = "CellServDB" if cells.configured(name) and cell.expires == float("inf") else "the DNS"
    found = [well("cell", f"{cell.name}: {source} names {_counted(len(cell.vl_servers))}")]
    async with trio.open_nursery() as nursery:
        client = _Client(cells, cell)
        await nursery.start(client.endpoint.run)
        answering, about_vl = await _location_servers(client.endpoint, cell)
        found += about_vl
        if answering:
            found += await _file_servers(client.endpoint, answering)
            found.append(await client.called_back())
        nursery.cancel_scope.cancel()
    return found


class _Client:
    """A client of the cell that no server has seen yet, with a port of its own.

    Such a one file servers call back before, or while, they answer its first request. With the port
    that a mount has nothing new could be found out. A NAT that forgets a port after a while is kept
    awake by mounts.
    """

    every_packet = False

    def __init__(self, cells: CellDirectory, cell: Cell) -> None:
        self._cell = cell
        self._called = trio.Event()
        self._host = ""
        self.endpoint = Endpoint(tracer=self)
        registry = ServerRegistry()
        self._locator = VolumeLocator(self.endpoint, cells, registry)
        self._client = FileServerClient(self.endpoint, self._locator)
        service = CallbackService(
            CacheManager(self._client), cells, registry, uuid.uuid4(),
            config=cache_config(vnodes=1, data_bytes=1 << 20, chunk_size=1 << 15),
        )  # fmt: skip
        self.endpoint.add_service(service.service)

    def record(self, now: float, event: Event) -> None:
        """Take note of connections that others make; the endpoint reports."""
        if isinstance(event, ConnectionOpened) and not event.is_client:
            self._host = event.address[0]
            self._called.set()

    async def called_back(self) -> Finding:
        """Whether a file server has called back, or does when it is asked for something."""
        port = self.endpoint.local_address[1]
        if not self._called.is_set():
            try:
                await self._ask()
            except AfsError as exc:
                return note("callbacks", f"not tried: {exc}", "see the lines above")
        with trio.move_on_after(CALLBACK_SECONDS):
            await self._called.wait()
            return well("callbacks", f"{self._host} has called back at UDP port {port}")
        return wrong(
            "callbacks", f"no file server has called back at UDP port {port}",
            f"let UDP from their port {fileserver.PORT} to ours ({callback.PORT}, or the one of "
            "-o port=N) through firewall and NAT: without it changes of others are seen late",
        )  # fmt: skip

    async def _ask(self) -> None:
        """Ask for the root of the cell. Raises `AfsError` when nobody can be asked."""
        volume = await self._locator.volume(self._cell.name, ROOT_CELL, Preference.PREFER_RO)
        with trio.move_on_after(REQUEST_SECONDS):
            try:
                await self._client.fetch_status(volume, Fid(volume.id, 1, 1))
            except ServerUnreachable:
                raise
            except AfsError:
                return  # being refused is an answer


async def _location_servers(endpoint: Endpoint, cell: Cell) -> tuple[list[Address], list[Finding]]:
    """Those that answer, and a finding for each that there is."""

    async def ask(address: Address) -> float:
        began = trio.current_time()
        connection = endpoint.connect(address, vldb.SERVICE_ID)
        with suppress(CallAborted):  # that is an answer
            await connection.call(vldb.PROBE_SERVER, Void(), timeouts=ANSWER)
        return trio.current_time() - began

    replies = await _all(ask, cell.vl_servers)
    found = []
    for (host, port), reply in zip(cell.vl_servers, replies, strict=True):
        if isinstance(reply, RxError):
            found.append(
                wrong(
                    "location", f"{host}:{port} does not answer",
                    "see that UDP to it passes, and that it runs; the others do its work",
                )
            )  # fmt: skip
        else:
            found.append(well("location", f"{host}:{port} answers in {1000 * reply:.1f} ms"))
    answering = [
        address
        for address, reply in zip(cell.vl_servers, replies, strict=True)
        if not isinstance(reply, RxError)
    ]
    return answering, found


async def _file_servers(endpoint: Endpoint, location_servers: list[Address]) -> list[Finding]:
    """Whether the cell's file servers answer, and what time they have."""
    hosts = await _listed(endpoint, location_servers[0])
    if not hosts:
        return [note("file servers", "the location server lists none", "")]
    asked = [(host, fileserver.PORT) for host in hosts[:FILE_SERVERS_MAX]]

    async def ask(address: Address) -> float:
        connection = endpoint.connect(address, fileserver.SERVICE_ID)
        began = time.time()
        reply = await connection.call(fileserver.GET_TIME, Void(), timeouts=ANSWER)
        return reply.seconds + reply.microseconds / 1e6 - (began + time.time()) / 2

    replies = dict(zip(asked, await _all(ask, asked), strict=True))
    silent = [
        host
        for (host, _), reply in replies.items()
        if isinstance(reply, RxError) and not _is_answer(reply)
    ]
    count = f"{len(asked)} of {len(hosts)}" if len(hosts) > len(asked) else f"{len(hosts)}"
    found = []
    if silent:
        found.append(
            wrong(
                "file servers", f"{_named(silent)} of {count} do not answer",
                "see that UDP to port 7000 of them passes, and that they run",
            )
        )  # fmt: skip
    else:
        found.append(well("file servers", f"{count} listed, all answer"))
    clocks = {h: reply for (h, _), reply in replies.items() if not isinstance(reply, RxError)}
    if off := [host for host, ahead in clocks.items() if abs(ahead) >= SKEW_SECONDS]:
        found.append(
            wrong(
                "time", f"the clocks of {_named(off)} and of this machine differ by more than "
                f"{SKEW_SECONDS // 60} minutes", "set the clock that is wrong",
            )
        )  # fmt: skip
    elif clocks:
        most = max(map(abs, clocks.values()))
        found.append(well("time", f"file servers' clocks differ from ours by {most:.1f} s at most"))
    return found


async def _listed(endpoint: Endpoint, location_server: Address) -> list[str]:
    """One address of each file server of the cell."""
    connection = endpoint.connect(location_server, vldb.SERVICE_ID)
    try:
        reply = await connection.call(vldb.GET_ADDRS, vldb.GetAddrsArgs(0, 0), timeouts=ANSWER)
    except RxError:
        return []
    local = IPv4Address(location_server[0]).is_loopback
    hosts: dict[str, None] = {}
    for number in reply.addresses:
        address = IPv4Address(number)
        if int(address) & 0xFFFF0000 == int(_MULTI_HOMED):
            for host in await _addresses_of(endpoint, location_server, int(address) & 0xFFFF):
                if not refusal(IPv4Address(host), loopback_allowed=local):
                    hosts[host] = None
                    break
        elif not refusal(address, loopback_allowed=local):
            hosts[str(address)] = None
    return list(hosts)


async def _addresses_of(endpoint: Endpoint, location_server: Address, index: int) -> list[str]:
    """The addresses of a file server with several."""
    connection = endpoint.connect(location_server, vldb.SERVICE_ID)
    args = vldb.GetAddrsUArgs(vldb.AddressMask.INDEX, 0, index, 0, uuid.UUID(int=0))
    try:
        reply = await connection.call(vldb.GET_ADDRS_U, args, timeouts=ANSWER)
    except RxError:
        return []
    return [str(IPv4Address(number)) for number in reply.addresses]


async def _all(ask: Callable[[T], Awaitable[U]], whom: Sequence[T]) -> list[U | RxError]:
    """What all of them answer, asked at once; in their order."""
    replies: dict[int, U | RxError] = {}

    async def one(place: int, target: T) -> None:
        try:
            replies[place] = await ask(target)
        except RxError as exc:
            replies[place] = exc

    async with trio.open_nursery() as nursery:
        for place, target in enumerate(whom):
            nursery.start_soon(one, place, target)
    return [replies[place] for place in range(len(whom))]


def _is_answer(error: RxError) -> bool:
    """Whether an error came from a server that is there, be it that it takes its time."""
    return isinstance(error, CallAborted) or (
        isinstance(error, CallTimeout) and error.what == "hard"
    )


def _named(hosts: Iterable[str]) -> str:
    """A few of them, and how many more."""
    names = list(hosts)
    more = f" and {len(names) - TOLD_MAX} more" if len(names) > TOLD_MAX else ""
    return ", ".join(names[:TOLD_MAX]) + more


def _counted(number: int) -> str:
    return f"{number} location server{'' if number == 1 else 's'}"
