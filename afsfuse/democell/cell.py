"""The cell as a whole: its servers, its volumes, and what its administrator does to them."""

from __future__ import annotations

import random
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from uuid import UUID

import trio

from afsfuse.democell import authentication, protection
from afsfuse.democell.faults import Faults
from afsfuse.democell.fileservice import Server
from afsfuse.democell.locations import Locations, Record
from afsfuse.democell.people import People
from afsfuse.democell.realm import Realm
from afsfuse.democell.volume import OPEN_TO_ALL, Volume
from afsfuse.errors import ViceCode
from afsfuse.interfaces import fileserver, kauth, vldb
from afsfuse.interfaces import protection as pr
from afsfuse.model import VolumeType
from rxrpc import NULL, Endpoint, Parameters, SecurityLevel

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from afsfuse.democell.acl import AccessList
    from afsfuse.democell.realm import Ticket
    from afsfuse.interfaces.common import Fid
    from rxrpc import Address, DatagramSocket

FIRST_VOLUME = 536870912
"""Where OpenAFS's location service begins to number volumes."""
_SUFFIXES = {VolumeType.RW: "", VolumeType.RO: ".readonly", VolumeType.BACKUP: ".backup"}


def _keep_in_memory(volume: Volume, safe: bool) -> None:
    volume.changed.clear()


class CellError(Exception):
    """What the administrator asked for cannot be; the text says why."""


class DemoCell:
    """A cell of one location, protection and authentication server, and some file servers.

    ::

        cell = DemoCell("demo.afs", ["127.77.0.1"])
        cell.create_volume("root.cell")
        async with cell.serving():
            ...

    What is done to volumes before the cell serves is just done; `release` and the like, which
    have clients to tell, are coroutines.
    """

    def __init__(
        self,
        name: str = "demo.afs",
        addresses: Sequence[str] = ("127.0.0.1",),
        *,
        rng: random.Random | None = None,
        clock: Callable[[], float] = time.time,
        min_level: SecurityLevel = SecurityLevel.CLEAR,
    ) -> None:
        """A file server at each of these IPv4 addresses; the first one has the databases, too.
        `rng` makes the servers' UUIDs and keys; `clock` gives seconds since 1970, for tickets.
        `min_level` is demanded of callers who have one.
        """
        self.name = name
        self.addresses = tuple(addresses)
        self.faults = Faults()
        """What is to go wrong."""
        self.people = People(name)
        self.realm = Realm(name, clock, rng, min_level)
        self.locations = Locations(self.faults)
        self._rng = rng or random.Random()
        self.next_volume = FIRST_VOLUME
        self.keep: Callable[[Volume, bool], None] = _keep_in_memory
        """Called after each change of a volume; see `Folder`."""
        self.keep_people: Callable[[], None] = lambda: None
        """Called after each change of users and passwords."""
        self.forget: Callable[[str, int], None] = lambda server, number: None
        """Called when a volume is not at a server any more."""
        self.servers: dict[str, Server] = {}
        self._endpoints: dict[str, tuple[trio.CancelScope, trio.Event]] = {}
        self._nursery: trio.Nursery | None = None
        self._open: Callable[[Address], DatagramSocket] | None = None
        for number, address in enumerate(addresses, 1):
            server = Server(
                f"fs{number}", self._new_uuid(), self.people, self.faults,
                lambda volume, safe: self.keep(volume, safe), self.realm,
            )  # fmt: skip
            self.servers[server.name] = server
            self.locations.register(server.name, server.uuid, address)

    # Serving

    @asynccontextmanager
    async def serving(
        self, open_socket: Callable[[Address], DatagramSocket] | None = None
    ) -> AsyncIterator[DemoCell]:
        """Answer, while the context lasts. Raises `OSError` for a port that cannot be had.

        `open_socket` makes sockets of another network than the machine's own.
        """
        self._open = open_socket
        failure: OSError | None = None
        async with trio.open_nursery() as self._nursery:
            try:
                for server in self.servers.values():
                    await self._start_file_server(server)
                await self._start_databases()
            except OSError as exc:  # told as it is, not in a group
                failure = exc
            else:
                yield self
            self._nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure

    def address_of(self, server: str) -> str:
        """The IPv4 address of a file server."""
        return self.locations.servers[server].addresses[0]

    async def _start_file_server(self, server: Server) -> None:
        address = (self.address_of(server.name), fileserver.PORT)
        endpoint = self._endpoint(address)
        server.start(endpoint, trio.current_time())
        await self._run(server.name, endpoint)

    async def _start_databases(self) -> None:
        security = (NULL, self.realm.security())
        for what, port, services in (
            ("vl", vldb.PORT, [self.locations.service(security)]),
            ("pr", pr.PORT, [protection.service(self.people, self.faults, security)]),
            ("ka", kauth.PORT, authentication.services(self.realm, self.faults)),
        ):
            endpoint = self._endpoint((self.addresses[0], port))
            for service in services:
                endpoint.add_service(service)
            await self._run(what, endpoint)

    def _endpoint(self, address: Address) -> Endpoint:
        parameters = Parameters()
        if self._open is None:
            return Endpoint(bind=address, parameters=parameters)
        return Endpoint(socket=self._open(address), parameters=parameters)

    async def _run(self, what: str, endpoint: Endpoint) -> None:
        assert self._nursery is not None

        async def run(*, task_status: trio.TaskStatus[None]) -> None:
            ended = trio.Event()
            try:
                with trio.CancelScope() as scope:
                    self._endpoints[what] = scope, ended
                    await endpoint.run(task_status=task_status)
            finally:
                ended.set()

        await self._nursery.start(run)

    async def stop_server(self, name: str) -> None:
        """A file server is gone, with all that it knew of its clients."""
        scope, ended = self._endpoints.pop(name)
        scope.cancel()
        await ended.wait()

    async def start_server(self, name: str) -> None:
        """A file server that was stopped is back, and knows nobody."""
        await self._start_file_server(self.servers[name])

    async def restart_server(self, name: str = "fs1") -> None:
        """Stop and start: its promises are forgotten, its volumes are there."""
        await self.stop_server(name)
        await self.start_server(name)

    def change_uuid(self, name: str = "fs1") -> None:
        """A file server calls itself by another UUID from now on."""
        self.set_uuid(name, self._new_uuid())

    def set_uuid(self, name: str, uuid: UUID) -> None:
        """A file server calls itself by this UUID from now on."""
        server = self.servers[name]
        server.uuid = server.hosts.uuid = uuid
        self.locations.register(name, uuid, self.address_of(name))

    def _new_uuid(self) -> UUID:
        return UUID(int=self._rng.getrandbits(128), version=4)

    # People

    def add_user(
        self,
        name: str,
        number: int | None = None,
        *,
        password: str | None = None,
        groups: Sequence[int] = (),
    ) -> int:
        """A user, with a password if he is to get tickets with one; his number."""
        number = self.people.next_user() if number is None else number
        self.people.add_user(name, number)
        for group in groups:
            self.people.add_member(group, number)
        if password is not None:
            self.realm.set_password(name, password)
        self.keep_people()
        return number

    def set_password(self, name: str, password: str) -> None:
        """A user has another password, or has one now."""
        self.realm.set_password(name, password)
        self.keep_people()

    def token_for(self, name: str, *, lifetime: float = 10 * 3600) -> Ticket:
        """A ticket for all services of the cell, as if a user had shown his password."""
        return self.realm.ticket_for(name, lifetime)

    # Volumes

    def volume(self, name: str, server: str | None = None) -> Volume:
        """A volume by its name, with or without suffix; at its first server, or at this one."""
        type = next((t for t, suffix in _SUFFIXES.items() if suffix and name.endswith(suffix)),
                    VolumeType.RW)  # fmt: skip
        record = self._record(name.removesuffix(_SUFFIXES[type]))
        number = record.number(type)
        for candidate in [server] if server else self.servers:
            if number and number in self.servers[candidate].volumes:
                return self.servers[candidate].volumes[number]
        raise CellError(f"no server has the volume {name}")

    def create_volume(
        self, name: str, *, server: str = "fs1", quota: int = 0, acl: AccessList = OPEN_TO_ALL
    ) -> Volume:
        """A new volume with an empty root, of which the access list says who may do what.
        `quota` is in KiB, 0 for none.
        """
        if name in self.locations.records:
            raise CellError(f"there is a volume {name} already")
        number = self.next_volume
        ids = dict(zip(VolumeType, range(number, number + len(VolumeType)), strict=True))
        self.next_volume += len(VolumeType)
        there = self.servers[server]
        volume = Volume.create(number, name, there.partition, quota=quota, acl=acl)
        there.volumes[number] = volume
        self.locations.records[name] = Record(name, ids, server)
        self.keep(volume, False)
        return volume

    async def delete_volume(self, name: str) -> None:
        """A volume is gone, with its clones."""
        record = self.locations.records.pop(self._record(name).name)
        for server in self.servers.values():
            for number in record.ids.values():
                await self._drop(server, number)

    def add_site(self, name: str, server: str) -> None:
        """Say that a server is to have a read-only copy; the next release brings it there."""
        self._record(name).replicas.setdefault(server, vldb.SiteFlag.DO_NOT_USE)

    async def release(self, name: str, *, servers: Sequence[str] | None = None) -> None:
        """Make the read-only copies what the volume is now.

        With `servers` the release gets to these and no further: the record says so then.
        """
        record = self._record(name)
        if not record.replicas:
            raise CellError(f"{name} has no read-only sites: add one first")
        whole = servers is None
        for server in list(record.replicas) if servers is None else servers:
            clone = self._clone(record, VolumeType.RO, server)
            record.replicas[server] = vldb.SiteFlag(0) if whole else vldb.SiteFlag.NEW_REPLICA
            await self._install(server, clone)
        record.existing.add(VolumeType.RO)

    async def replicate(self, name: str, servers: Sequence[str] = ("fs1",)) -> None:
        """Add sites and release."""
        for server in servers:
            self.add_site(name, server)
        await self.release(name)

    async def backup(self, name: str) -> None:
        """Make the backup volume what the volume is now."""
        record = self._record(name)
        assert record.writable is not None
        record.existing.add(VolumeType.BACKUP)
        await self._install(
            record.writable, self._clone(record, VolumeType.BACKUP, record.writable)
        )

    async def move(self, name: str, server: str) -> None:
        """Bring the read/write volume to another server. Clients of the old one are told so.

        Its backup is made anew there when that is asked for.
        """
        record = self._record(name)
        assert record.writable is not None
        number = record.number(VolumeType.RW)
        old, new = self.servers[record.writable], self.servers[server]
        volume = old.volumes.pop(number)
        old.gone[number] = ViceCode.VMOVED
        new.gone.pop(number, None)
        volume.move_to(new.partition)
        new.volumes[number] = volume
        record.writable = server
        self.keep(volume, False)
        self.forget(old.name, number)
        record.existing.discard(VolumeType.BACKUP)
        await self._drop(old, record.number(VolumeType.BACKUP))
        await old.hosts.break_volume(number)

    async def set_state(self, name: str, state: int | None, *, server: str | None = None) -> None:
        """Answer with VBUSY, VOFFLINE or the like in place of a volume; None: it is back."""
        self.volume(name, server).state = None if state is None else int(state)

    async def touched(self, volume: Volume, *fids: Fid) -> None:
        """Something was changed without any client: keep it, and tell them."""
        server = next(s for s in self.servers.values() if volume.id in s.volumes)
        await server.changed(volume, *fids, by=None)

    def _record(self, name: str) -> Record:
        record = self.locations.find(name)
        if record is None:
            raise CellError(f"there is no volume {name}")
        return record

    def _clone(self, record: Record, type: VolumeType, server: str) -> Volume:
        assert record.writable is not None
        source = self.servers[record.writable].volumes[record.number(VolumeType.RW)]
        clone = source.clone(record.number(type), type, record.name + _SUFFIXES[type])
        clone.partition = self.servers[server].partition
        before = self.servers[server].volumes.get(clone.id)
        if before is not None:  # a release in the same second is a new one, too
            clone.created = max(clone.created, before.created + 1)
        return clone

    async def _install(self, server: str, clone: Volume) -> None:
        there = self.servers[server]
        there.volumes[clone.id] = clone
        there.gone.pop(clone.id, None)
        self.keep(clone, False)
        await there.hosts.break_volume(clone.id)

    async def _drop(self, server: Server, number: int) -> None:
        volume = server.volumes.pop(number, None)
        if volume is not None:
            volume.charge(-volume.used)
            self.forget(server.name, number)
            await server.hosts.break_volume(number)
