"""Finds volumes: asks the location service, keeps what it said, and knows the servers."""

import logging
import random
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from math import inf
from typing import Any
from uuid import UUID
from weakref import WeakValueDictionary

import trio

from afsfuse.auth.identity import NOBODY, Identity
from afsfuse.auth.security import Credentials
from afsfuse.cell.addresses import refusal
from afsfuse.cell.directory import Cell, CellDirectory
from afsfuse.cell.location import Connector, LocationLimits, LocationService, NotOffered
from afsfuse.cell.records import (
    SUFFIXES,
    Preference,
    choose,
    read_entry,
    sites_of,
    split_suffix,
    to_avoid,
    type_of,
    unsettled,
)
from afsfuse.cell.servers import FileServer, ServerRegistry
from afsfuse.cell.sharing import Shared
from afsfuse.cell.tables import compacted, is_sparse
from afsfuse.errors import AfsError, CellUnreachable, DataCorrupt, VolumeMissing
from afsfuse.interfaces import fileserver, vldb
from afsfuse.model import SiteInfo, VolumeInfo, VolumeType
from afsfuse.refusals import Refused, note
from rxrpc import Address
from rxrpc.rpc import Rpc

__all__ = ["Preference", "Site", "Volume", "VolumeLocator", "choose"]

log = logging.getLogger(__name__)

_LIFETIME = 3600.0  # seconds that a record is believed. Source: Linux fs/afs/volume.c
_LIFETIME_UNSETTLED = 600.0  # the same while a release or the like is under way
_LIFETIME_UNCHECKED = 60.0  # an old record that could not be checked is believed this much longer
_LOOK_PAUSE = 60.0  # seconds between looks at which records are old
_RECORDS_MAX = 8192
_ADDRESSES_MAX = 16  # of one server
_UNKNOWN_RTT = 0.05  # seconds: where a server stands in the order before it was measured
_FORCED: Mapping[VolumeType | None, Preference] = {
    VolumeType.RO: Preference.RO,
    VolumeType.BACKUP: Preference.BACKUP,
}
_FORMS: tuple[Rpc[vldb.VolumeNameArgs, Any], ...] = (
    vldb.GET_ENTRY_BY_NAME_U,
    vldb.GET_ENTRY_BY_NAME_N,
    vldb.GET_ENTRY_BY_NAME_O,
)


@dataclass(frozen=True, slots=True)
class Site:
    """A server that has a volume."""

    server: FileServer
    partition: int
    avoid: bool = False
    """While a release is under way: it has not the replica that is to be used, old or new."""


class Volume:
    """One volume of a cell: read/write, read-only or backup. One object for each, as long as
    somebody holds it; a new record changes it in place."""

    __slots__ = ("__weakref__", "cell", "checked", "id", "info", "sites", "type")

    def __init__(self, cell: Cell, id: int, type: VolumeType) -> None:
        self.cell = cell
        self.id = id
        self.type = type
        self.info = VolumeInfo("", (0, 0, 0), ())
        """The record that it is of."""
        self.sites: tuple[Site, ...] = ()
        """Its servers in the order in which to try them; none when it is gone."""
        self.checked = -inf
        """When the record was asked for, on trio's clock."""

    @property
    def name(self) -> str:
        """Its name with the suffix that belongs to its type."""
        return self.info.name + SUFFIXES[self.type]

    def __repr__(self) -> str:
        return f"<Volume {self.cell}:{self.name} {self.id}>"


@dataclass(slots=True)
class _Record:
    """A record of the database and what came of it."""

    info: VolumeInfo
    servers: dict[UUID, FileServer]
    checked: float
    expires: float


class VolumeLocator:
    """Finds volumes by name or number."""

    def __init__(
        self,
        connector: Connector,
        cells: CellDirectory,
        registry: ServerRegistry,
        *,
        limits: LocationLimits | None = None,
        rng: random.Random | None = None,
        credentials: Credentials | None = None,
    ) -> None:
        """Without `credentials` everybody is anonymous."""
        self._cells = cells
        self._registry = registry
        self._location = LocationService(connector, limits, credentials)
        self._rng = rng or random.Random()
        self._records: OrderedDict[tuple[str, str], _Record] = OrderedDict()
        self._volumes: WeakValueDictionary[tuple[str, int], Volume] = WeakValueDictionary()
        self._lookups: Shared[tuple[str, str], _Record] = Shared()
        self._doubted: dict[Volume, float] = {}  # and since when
        self._doubt = trio.Event()
        self._form: dict[str, int] = {}  # by cell: the first form of lookup that it may offer

    async def volume(
        self, cell_name: str, name_or_id: str, want: Preference, who: Identity = NOBODY
    ) -> Volume:
        """The volume of a name, with or without suffix, or of a decimal number.

        It is asked for in the name of `who` where nobody asked for it before: the answers are the
        same for all, and shared.

        A suffix decides over `want`, and so does the number of a read-only or backup volume.
        Raises `CellUnknown`, `CellUnreachable` and `VolumeMissing`.
        """
        cell = await self._cells.find(cell_name)
        try:
            return await self._find(cell, name_or_id, want, who)
        except VolumeMissing:
            if cell.linked is None:
                raise
        return await self._find(await self._cells.find(cell.linked), name_or_id, want, who)

    async def refresh(self, volume: Volume, who: Identity = NOBODY, *, since: float = inf) -> None:
        """Ask again where a volume is, because a server said that it is not there.

        Raises `VolumeMissing` when it does not exist any more. Without effect on a record that
        was asked for later than `since`, on trio's clock: when that server was asked.
        """
        if volume.checked > since:
            return
        try:
            record = await self._fetch(volume.cell, str(volume.id), who)
            if not record.info.has(volume.type) or record.info.ids[volume.type] != volume.id:
                raise VolumeMissing(
                    "the volume does not exist any more", cell=volume.cell.name, volume=volume.name
                )
        except VolumeMissing as exc:
            exc.volume = volume.name
            if volume.sites:
                log.info("%s", exc)
            # Its name may stand for another one by now: who asks for it shall not hear of this.
            volume.sites = ()
            self._drop_record(volume)
            raise

    def check_soon(self, volume: Volume) -> None:
        """A server says something else than its record: `run` asks for that again."""
        self._doubted[volume] = trio.current_time()
        self._doubt.set()

    def forget(self, volume: Volume) -> None:
        """Nobody uses a volume any more: drop its record, unless other types of it are in use."""
        numbers = [number for number in volume.info.ids if number and number != volume.id]
        cell = volume.cell.name
        if not any((cell, number) in self._volumes for number in numbers):
            self._drop_record(volume)

    def _drop_record(self, volume: Volume) -> None:
        """Have the record of a volume asked for by whoever wants it next."""
        for name in (volume.info.name, *map(str, volume.info.ids)):
            self._records.pop((volume.cell.name, name), None)

    def servers_in_use(self) -> set[FileServer]:
        """Those that have volumes of which somebody holds the object."""
        return {site.server for volume in self._volumes.values() for site in volume.sites}

    def compact(self) -> None:
        """Give back the room of what was forgotten."""
        if is_sparse(self._records):  # the other table grows and shrinks with it
            self._records = compacted(self._records)
            self._volumes = WeakValueDictionary(self._volumes)

    async def check_all(self) -> None:
        """Forget which names stand for which volumes, and make sure of those in use now."""
        self._records.clear()
        used: dict[str, list[Volume]] = {}
        for volume in list(self._volumes.values()):
            used.setdefault(volume.cell.name, []).append(volume)
        await self._check_cells(used)

    async def silent_servers(self, cell: Cell) -> list[Address]:
        """The volume location servers of a cell that do not answer."""
        return await self._location.silent(cell)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Ask again about volumes in use when their records are old or doubted, until cancelled.

        So a volume that is renamed, moved or removed is noticed although nobody looks it up.
        """
        task_status.started()
        while True:
            with trio.move_on_after(_LOOK_PAUSE):
                await self._doubt.wait()
            self._doubt = trio.Event()
            doubted, self._doubted = self._doubted, {}
            old: dict[str, list[Volume]] = {}
            for volume in list(self._volumes.values()):
                lifetime = _LIFETIME_UNSETTLED if unsettled(volume.info) else _LIFETIME
                oldest = max(trio.current_time() - lifetime, doubted.get(volume, -inf))
                if volume.checked <= oldest:
                    old.setdefault(volume.cell.name, []).append(volume)
            await self._check_cells(old)

    async def _check_cells(self, volumes: Mapping[str, list[Volume]]) -> None:
        """Make sure of records, by cell."""
        async with trio.open_nursery() as nursery:  # no cell waits for another one
            for of_cell in volumes.values():
                nursery.start_soon(self._check, of_cell)

    async def _check(self, volumes: list[Volume]) -> None:
        """Make sure of records of one cell, as long as it answers."""
        for volume in volumes:
            before, stem = volume.name, volume.info.name
            try:
                await self.refresh(volume)
            except VolumeMissing:
                volume.checked = trio.current_time()
            except AfsError as exc:
                log.debug("%s: the record of %s was not checked: %s", volume.cell, before, exc)
                if isinstance(exc, CellUnreachable):
                    return
            if volume.name != before:
                self._records.pop((volume.cell.name, stem), None)
                log.info("%s: volume %s is called %s now", volume.cell, before, volume.name)

    async def _find(self, cell: Cell, name_or_id: str, want: Preference, who: Identity) -> Volume:
        stem, forced = split_suffix(name_or_id)
        if forced is not None:
            want = _FORCED[forced]
        record = await self._record(cell, stem, who)
        if stem.isdecimal():
            want = _FORCED.get(type_of(record.info, int(stem)), want)
        type = choose(record.info, want, cell=cell.name)
        key = (cell.name, record.info.ids[type])
        volume = self._volumes.get(key)
        if volume is None:
            volume = self._volumes[key] = Volume(cell, record.info.ids[type], type)
            self._install(volume, record)
        if not volume.sites:
            raise VolumeMissing(
                "no server of the volume has an address", cell=cell.name, volume=volume.name
            )
        return volume

    async def _record(self, cell: Cell, name: str, who: Identity) -> _Record:
        """A record that is young enough; an old one when the cell does not answer."""
        key = (cell.name, name)
        known = self._records.get(key)
        if known is not None and known.expires > trio.current_time():
            self._records.move_to_end(key)
            return known
        try:
            return await self._fetch(cell, name, who)
        except CellUnreachable as exc:
            if known is None:
                raise
            log.info("%s: an old record of %s is used: %s", cell, name, exc)
            known.expires = trio.current_time() + _LIFETIME_UNCHECKED
            return known

    async def _fetch(self, cell: Cell, name: str, who: Identity) -> _Record:
        """Ask for a record, together with everybody who wants it at the moment."""
        key = (cell.name, name)
        try:
            return await self._lookups.run(key, lambda: self._ask(cell, name, who))
        except VolumeMissing:
            self._records.pop(key, None)
            raise

    async def _ask(self, cell: Cell, name: str, who: Identity) -> _Record:
        now = trio.current_time()
        info = read_entry(await self._lookup(cell, name, who))
        servers = await self._servers(cell, info, who)
        lifetime = _LIFETIME_UNSETTLED if unsettled(info) else _LIFETIME
        record = _Record(info, servers, now, now + lifetime)
        for key in {(cell.name, name), (cell.name, info.name)}:
            self._records[key] = record
            self._records.move_to_end(key)
        while len(self._records) > _RECORDS_MAX:
            self._records.popitem(last=False)
        for number in info.ids:
            volume = self._volumes.get((cell.name, number))
            if volume is not None:
                self._install(volume, record)
        return record

    def _install(self, volume: Volume, record: _Record) -> None:
        """Let a volume know what the record says of it."""

        def distance(site: SiteInfo) -> tuple[float, float]:
            server = record.servers.get(site.server)
            known = server.rtt if server is not None else None
            return _UNKNOWN_RTT if known is None else known, self._rng.random()

        avoided = to_avoid(record.info, volume.type)
        volume.info = record.info
        volume.sites = tuple(
            Site(record.servers[site.server], site.partition, site.server in avoided)
            for site in sites_of(record.info, volume.type, distance)
            if site.server in record.servers
        )
        volume.checked = record.checked

    async def _lookup(
        self, cell: Cell, name: str, who: Identity
    ) -> vldb.EntryU | vldb.EntryN | vldb.EntryO:
        """The record in the newest form that the cell's servers offer."""
        raw = name.encode("utf-8", "replace")
        if not 0 < len(raw) < vldb.NAME_MAX or 0 in raw:
            raise VolumeMissing("this cannot be a volume's name", cell=cell.name, volume=name)
        args = vldb.VolumeNameArgs(raw)
        for form in range(self._form.get(cell.name, 0), len(_FORMS)):
            try:
                reply = await self._location.call(cell, _FORMS[form], args, about=name, who=who)
            except NotOffered:
                continue
            self._form[cell.name] = form
            entry: vldb.EntryU | vldb.EntryN | vldb.EntryO = reply.entry
            return entry
        raise CellUnreachable("the location servers offer no lookup by name", cell=cell.name)

    async def _servers(self, cell: Cell, info: VolumeInfo, who: Identity) -> dict[UUID, FileServer]:
        """The servers of a record; those whose addresses cannot be had are left out."""
        servers: dict[UUID, FileServer] = {}
        failures: list[AfsError] = []

        async def resolve(site: SiteInfo) -> None:
            try:
                servers[site.server] = await self._server(cell, site, who)
            except AfsError as exc:
                log.info("file server %s of %s: %s", site.server, cell, exc)
                failures.append(exc)

        async with trio.open_nursery() as nursery:
            for site in {site.server: site for site in info.sites}.values():
                nursery.start_soon(resolve, site)
        if failures and not servers:
            raise failures[0]
        return servers

    async def _server(self, cell: Cell, site: SiteInfo, who: Identity) -> FileServer:
        """The server of a site; asks for its addresses unless they are known to be the same."""
        if site.address is not None:
            addresses = self._usable(cell, [IPv4Address(site.address)])
            return self._registry.update(cell.name, site.server, 0, addresses)
        known = self._registry.get(cell.name, site.server)
        if known is not None and known.unique == site.unique:
            return known
        args = vldb.GetAddrsUArgs(vldb.AddressMask.UUID, 0, 0, 0, site.server)
        try:
            reply = await self._location.call(cell, vldb.GET_ADDRS_U, args, who=who)
            addresses = self._usable(cell, map(IPv4Address, reply.addresses))
        except NotOffered:
            raise CellUnreachable(
                "the location servers do not tell addresses", cell=cell.name
            ) from None
        except CellUnreachable:
            if known is None:
                raise
            return known
        return self._registry.update(cell.name, site.server, site.unique, addresses)

    @staticmethod
    def _usable(cell: Cell, addresses: Iterable[IPv4Address]) -> list[Address]:
        """Those of a file server's addresses that can be its own.

        Loopback addresses are for cells of this host, whose location servers have such, too.
        """
        local = any(IPv4Address(host).is_loopback for host, _ in cell.vl_servers)
        usable: list[Address] = []
        for address in dict.fromkeys(addresses):
            if reason := refusal(address, loopback_allowed=local):
                log.info("a file server of %s: %s is %s, refused", cell, address, reason)
                note(Refused.ADDRESS)
            elif len(usable) < _ADDRESSES_MAX:
                usable.append((str(address), fileserver.PORT))
            else:
                note(Refused.EXCESS)
        if not usable:
            raise DataCorrupt("a file server has no usable address", cell=cell.name)
        return usable
