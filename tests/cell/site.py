"""A cell to be tested, whichever it is, and the clients that test it."""

from __future__ import annotations

import itertools
import random
import time
import uuid
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import trio

from afsfuse.auth.identity import ANONYMOUS, Caller
from afsfuse.auth.security import Credentials
from afsfuse.auth.token import Secret, Token
from afsfuse.cache import CacheManager, LockMode
from afsfuse.callback_service import CallbackService, cache_config
from afsfuse.cell.cellservdb import CellFiles, load, parse_cellservdb
from afsfuse.cell.directory import CellDirectory
from afsfuse.cell.servers import ServerRegistry
from afsfuse.cell.volumes import VolumeLocator
from afsfuse.fileserver import FileServerClient
from afsfuse.interfaces import fileserver as fs
from afsfuse.vfs import FileSystem, KernelInvalidator, NodeTable, NullNotifier, VfsOptions
from rxrpc import NULL, Endpoint
from rxrpc.security import deskeys
from rxrpc.security.base import SecurityLevel
from rxrpc.security.rxkad import RxkadClient
from rxrpc.security.tickets import Principal
from tests.cell.raw import RawClient
from tests.cell.walker import Walker
from tests.net import LossyNetwork
from tests.realcell.configuration import REALM, USERS
from tests.realcell.tokens import kerberos_ticket, local_token, service_keys

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from afsfuse.auth.identity import Identity
    from afsfuse.cache.leftovers import Leftovers
    from afsfuse.democell import DemoCell
    from afsfuse.vfs.invalidation import KernelNotifier
    from rxrpc import ClientSecurity
    from tests.realcell.cell import RealCell

ROOT = 1
USER = "alice"
"""Whose tokens sites give: an ordinary user, to whom no list grants what it does not grant all."""


class Site(Protocol):
    """A cell that is there, with the contents of `tests.realcell.seed`."""

    @property
    def name(self) -> str: ...

    def endpoint(self) -> Endpoint:
        """A client's endpoint, at an address of its own port."""
        ...

    def files(self) -> CellFiles:
        """What a client's configuration says."""
        ...

    def server(self, number: int) -> tuple[str, int]:
        """Where a file server is, counted from 1."""
        ...

    def volume_id(self, name: str) -> int: ...

    async def release(self, name: str) -> None:
        """Make the read-only copies what the volume is now."""
        ...

    def security(self, user: str) -> ClientSecurity:
        """What protects the calls of `admin`, `alice` or `bob`."""
        ...

    def token(self) -> Token:
        """A token for `USER`."""
        ...


class InProcess:
    """The cell in one process, on a network in memory."""

    def __init__(self, cell: DemoCell, network: LossyNetwork) -> None:
        self.name = cell.name
        self.cell = cell
        self.network = network
        self._ports = itertools.count(7001)

    def endpoint(self) -> Endpoint:
        return Endpoint(socket=self.network.socket(("192.0.2.100", next(self._ports))))

    def files(self) -> CellFiles:
        text = f">{self.name}\n{self.cell.addresses[0]} #fs1\n"
        return CellFiles(self.name, parse_cellservdb(text, "test"))

    def server(self, number: int) -> tuple[str, int]:
        return self.cell.addresses[number - 1], fs.PORT

    def volume_id(self, name: str) -> int:
        return self.cell.volume(name).id

    async def release(self, name: str) -> None:
        await self.cell.release(name)

    def security(self, user: str) -> ClientSecurity:
        return self.cell.token_for(user).security(time.time)

    def token(self) -> Token:
        return token_of(self.cell, USER)


class Real:
    """OpenAFS's own servers."""

    def __init__(self, cell: RealCell) -> None:
        self.name = cell.name
        self._cell = cell

    def endpoint(self) -> Endpoint:
        return Endpoint(bind=(self._cell.main_address, 0))

    def files(self) -> CellFiles:
        return load([Path(self._cell.confdir)])

    def server(self, number: int) -> tuple[str, int]:
        return self._cell.servers[f"fs{number}"].address, fs.PORT

    def volume_id(self, name: str) -> int:
        return self._cell.volumes.volume_id(name)

    async def release(self, name: str) -> None:
        await trio.to_thread.run_sync(self._cell.volumes.release, name)

    def security(self, user: str) -> ClientSecurity:
        who = Principal(user, "", REALM)
        return local_token(service_keys(self._cell), SecurityLevel.CRYPT, who)

    def token(self) -> Token:
        """By the cell's KDC, for the password."""
        host = self._cell.clients["client1"]
        return kerberos_ticket(host, USER, USERS[USER], self._cell.folder).token(USER)


def token_of(cell: DemoCell, user: str) -> Token:
    """A token for a user of the cell in one process, as daemons keep it."""
    ticket = cell.token_for(user)
    return Token(
        cell=ticket.cell, client=ticket.client, enctype=ticket.enctype,
        key=Secret(ticket.session_key), ticket=ticket.data, start=ticket.start,
        end=ticket.end, kvno=ticket.kvno,
    )  # fmt: skip


def security_of(token: Token, level: SecurityLevel) -> ClientSecurity:
    """For calls in the name of a token's owner. Equal for no two calls of this."""
    return RxkadClient(
        ticket=token.ticket,
        session_key=deskeys.session_key(token.enctype, token.key.reveal()),
        kvno=token.kvno,
        level=level,
        expires=token.end,
        clock=time.time,
    )


@asynccontextmanager
async def in_process(
    cell: DemoCell, network: LossyNetwork | None = None
) -> AsyncIterator[InProcess]:
    """Serve a cell on a perfect network, for the time of a test."""
    network = network or LossyNetwork(random.Random(1), min_delay=0.0001, max_delay=0.0001)
    async with trio.open_nursery() as nursery:
        await nursery.start(network.run)
        async with cell.serving(network.socket):
            yield InProcess(cell, network)
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def raw_client(
    site: Site, server: int = 1, security: ClientSecurity = NULL
) -> AsyncIterator[RawClient]:
    """A client that is nothing but its calls."""
    async with trio.open_nursery() as nursery:
        client = RawClient(site.endpoint())
        await nursery.start(client.endpoint.run)
        client.use(site.server(server), security)
        yield client
        nursery.cancel_scope.cancel()


class UserTokens(Credentials):
    """Tokens by uid."""

    def __init__(self, site: Site, users: Mapping[int, str]) -> None:
        self._clients: dict[int | None, ClientSecurity] = {
            uid: site.security(name) for uid, name in users.items()
        }

    def of(self, who: Identity, cell: str) -> ClientSecurity:
        return self._clients.get(who.uid, NULL)


@asynccontextmanager
async def composed(
    site: Site,
    credentials: Credentials | None = None,
    notifier: KernelNotifier | None = None,
    leftovers: Leftovers | None = None,
    lock_mode: LockMode = LockMode.OPENAFS,
) -> AsyncIterator[tuple[FileSystem, CacheManager]]:
    """This project's client, all of it but FUSE; everybody is anonymous without `credentials`."""
    credentials = credentials or Credentials()
    endpoint = site.endpoint()
    cells = CellDirectory(site.files())
    registry = ServerRegistry()
    locator = VolumeLocator(endpoint, cells, registry, credentials=credentials)
    client = FileServerClient(endpoint, locator, credentials)
    cache = CacheManager(client, channels=client.channels, lock_mode=lock_mode)
    nodes = NodeTable()
    options = VfsOptions(sysnames=(b"amd64_linux26",))
    notifier = notifier or NullNotifier()
    cache.listener = KernelInvalidator(nodes, notifier, options.sysnames)
    filesystem = FileSystem(
        cells, locator, cache, client,
        nodes=nodes, notifier=notifier, options=options, leftovers=leftovers,
    )  # fmt: skip
    callbacks = CallbackService(
        cache, cells, registry, uuid.uuid4(),
        config=cache_config(vnodes=1000, data_bytes=1 << 20, chunk_size=1 << 15),
    )  # fmt: skip
    endpoint.add_service(callbacks.service)
    async with trio.open_nursery() as nursery:
        await nursery.start(endpoint.run)
        await nursery.start(client.run)
        await nursery.start(cache.run)
        await nursery.start(filesystem.run)
        await filesystem.prepare()
        yield filesystem, cache
        await filesystem.finish()
        await cache.give_up_all()
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def walker(
    site: Site,
    credentials: Credentials | None = None,
    who: Caller = ANONYMOUS,
    notifier: KernelNotifier | None = None,
    leftovers: Leftovers | None = None,
    lock_mode: LockMode = LockMode.OPENAFS,
) -> AsyncIterator[Walker]:
    """The same, by paths, in the name of `who`."""
    async with composed(site, credentials, notifier, leftovers, lock_mode) as (filesystem, cache):
        yield Walker(filesystem, site.name, cache, who)
