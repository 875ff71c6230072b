"""The location service: which volumes there are, and where.

Source: src/vlserver/vlprocs.c of OpenAFS.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, TypeVar
from uuid import UUID

from afsfuse.errors import VlCode
from afsfuse.interfaces import vldb
from afsfuse.interfaces.common import CapabilitiesReply
from afsfuse.model import VolumeType
from rxrpc import CallAborted, ServerCall, Service
from rxrpc.rpc import Void

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from afsfuse.democell.faults import Faults
    from rxrpc import ServerSecurity
    from rxrpc.rpc import Rpc

A = TypeVar("A")
R = TypeVar("R")
T = TypeVar("T")

_BAD_MASK = VlCode.IO + 30  # VL_BADMASK. Source: vl_errors.et
_ANY_NAME = ("", ".*")
_SUFFIXES = (".readonly", ".backup")
_EXISTS = {
    VolumeType.RW: vldb.EntryFlag.RW_EXISTS,
    VolumeType.RO: vldb.EntryFlag.RO_EXISTS,
    VolumeType.BACKUP: vldb.EntryFlag.BACKUP_EXISTS,
}
_NO_UUID = UUID(int=0)


@dataclass(frozen=True, slots=True)
class Registered:
    """A file server as the location service knows it."""

    uuid: UUID
    addresses: tuple[str, ...]
    unique: int = 1


@dataclass
class Record:
    """A volume of up to three kinds, and the servers that have it."""

    name: str
    ids: dict[VolumeType, int]
    writable: str | None  # the server of the read/write volume and its backup
    replicas: dict[str, vldb.SiteFlag] = field(default_factory=dict)
    """Servers of the read-only volume, with what a release has done there."""
    existing: set[VolumeType] = field(default_factory=lambda: {VolumeType.RW})

    def sites(self) -> list[tuple[str, vldb.SiteFlag]]:
        """Servers and what they have."""
        sites = [(self.writable, vldb.SiteFlag.READ_WRITE)] if self.writable else []
        return sites + [
            (server, vldb.SiteFlag.READ_ONLY | flags) for server, flags in self.replicas.items()
        ]

    @property
    def flags(self) -> int:
        """Which of the three exist."""
        return sum(_EXISTS[type] for type in self.existing)

    def number(self, type: VolumeType) -> int:
        """The number of one of the three; 0 where none was given."""
        return self.ids.get(type, 0)


class Locations:
    """The database, and the service that tells what is in it."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self.records: dict[str, Record] = {}
        self.servers: dict[str, Registered] = {}

    def register(self, server: str, uuid: UUID, *addresses: str) -> None:
        """A file server says where it is; with another UUID it is another one."""
        before = self.servers.get(server)
        unique = before.unique + 1 if before else 1
        self.servers[server] = Registered(uuid, addresses, unique)

    def find(self, name: str) -> Record | None:
        """The record of a volume by its name, with or without suffix, or by a number."""
        if name.isdecimal():
            return self._by_number(int(name))
        for suffix in _SUFFIXES:
            name = name.removesuffix(suffix)
        return self.records.get(name)

    def _by_number(self, number: int) -> Record | None:
        return next(
            (record for record in self.records.values() if number in record.ids.values()), None
        )

    def service(self, security: Sequence[ServerSecurity]) -> Service:
        """Everybody may ask, with a ticket or without."""
        service = Service(vldb.VL, security=security)

        def serve(rpc: Rpc[A, R], handler: Callable[[A], R]) -> None:
            async def handle(call: ServerCall, args: A) -> R:
                plan = await self._faults.begin(rpc)
                return plan.reply(handler(args))

            service.handles(rpc)(handle)

        serve(vldb.GET_ENTRY_BY_NAME_O, lambda args: self._entry_o(self._named(args)))
        serve(vldb.GET_ENTRY_BY_NAME_N, lambda args: self._entry_n(self._named(args)))
        serve(vldb.GET_ENTRY_BY_NAME_U, lambda args: self._entry_u(self._named(args)))
        serve(vldb.GET_ENTRY_BY_ID_O, lambda args: self._entry_o(self._numbered(args)))
        serve(vldb.GET_ENTRY_BY_ID_N, lambda args: self._entry_n(self._numbered(args)))
        serve(vldb.GET_ENTRY_BY_ID_U, lambda args: self._entry_u(self._numbered(args)))
        serve(vldb.PROBE_SERVER, lambda args: Void())
        serve(vldb.GET_ADDRS, self._get_addrs)
        serve(vldb.GET_ADDRS_U, self._get_addrs_u)
        serve(vldb.LIST_ATTRIBUTES_N2, self._list_attributes)
        serve(vldb.GET_CAPABILITIES, lambda args: CapabilitiesReply((0,)))
        return service

    def _named(self, args: vldb.VolumeNameArgs) -> Record:
        record = self.find(args.name.decode("ascii", "replace"))
        if record is None:
            raise CallAborted(VlCode.NOENT)
        return record

    def _numbered(self, args: vldb.VolumeIdArgs) -> Record:
        record = self._by_number(args.volume)
        if record is None or not args.volume:
            raise CallAborted(VlCode.NOENT)
        return record

    def _address(self, server: str) -> int:
        return int(IPv4Address(self.servers[server].addresses[0]))

    def _entry_u(self, record: Record) -> vldb.EntryUReply:
        sites = record.sites()[: vldb.SERVERS_NEW]
        known = [self.servers[server] for server, _ in sites]
        return vldb.EntryUReply(
            vldb.EntryU(
                name=record.name.encode(),
                server_count=len(sites),
                servers=_filled([server.uuid for server in known], _NO_UUID, vldb.SERVERS_NEW),
                uniques=_filled([server.unique for server in known], 0, vldb.SERVERS_NEW),
                partitions=(0,) * vldb.SERVERS_NEW,
                server_flags=_filled(
                    [int(flags | vldb.SiteFlag.UUID) for _, flags in sites], 0, vldb.SERVERS_NEW
                ),
                volume_ids=_ids(record),
                clone_id=0,
                flags=record.flags,
                spares=(0,) * 9,
            )
        )

    def _entry_n(self, record: Record) -> vldb.EntryNReply:
        return vldb.EntryNReply(self._new_entry(record))

    def _new_entry(self, record: Record) -> vldb.EntryN:
        sites = record.sites()[: vldb.SERVERS_NEW]
        return vldb.EntryN(
            name=record.name.encode(),
            server_count=len(sites),
            servers=_filled([self._address(s) for s, _ in sites], 0, vldb.SERVERS_NEW),
            partitions=(0,) * vldb.SERVERS_NEW,
            server_flags=_filled([int(flags) for _, flags in sites], 0, vldb.SERVERS_NEW),
            volume_ids=_ids(record),
            clone_id=0,
            flags=record.flags,
            spares=(0,) * 9,
        )

    def _entry_o(self, record: Record) -> vldb.EntryOReply:
        sites = record.sites()[: vldb.SERVERS_OLD]
        return vldb.EntryOReply(
            vldb.EntryO(
                name=record.name.encode(),
                spare=0,
                server_count=len(sites),
                servers=_filled([self._address(s) for s, _ in sites], 0, vldb.SERVERS_OLD),
                partitions=(0,) * vldb.SERVERS_OLD,
                server_flags=_filled([int(flags) for _, flags in sites], 0, vldb.SERVERS_OLD),
                volume_ids=_ids(record),
                clone_id=0,
                flags=record.flags,
            )
        )

    def _get_addrs(self, args: vldb.GetAddrsArgs) -> vldb.GetAddrsReply:
        """The list stands for each server by its number, for all of them are known by UUID."""
        addresses = tuple(0xFF000000 | number for number in range(1, len(self.servers) + 1))
        return vldb.GetAddrsReply(vldb.VlCallBack(0, 0, 0, 0), len(addresses), addresses)

    def _get_addrs_u(self, args: vldb.GetAddrsUArgs) -> vldb.GetAddrsUReply:
        servers = list(self.servers.values())
        found: Registered | None = None
        match args.mask:
            case vldb.AddressMask.UUID:
                found = next((s for s in servers if s.uuid == args.uuid), None)
            case vldb.AddressMask.INDEX:
                found = servers[args.index - 1] if 0 < args.index <= len(servers) else None
            case vldb.AddressMask.ADDRESS:
                wanted = str(IPv4Address(args.address))
                found = next((s for s in servers if wanted in s.addresses), None)
            case _:
                raise CallAborted(_BAD_MASK)
        if found is None:
            raise CallAborted(VlCode.NOENT)
        addresses = tuple(int(IPv4Address(address)) for address in found.addresses)
        return vldb.GetAddrsUReply(found.uuid, found.unique, len(addresses), addresses)

    def _list_attributes(self, args: vldb.ListAttributesN2Args) -> vldb.ListAttributesN2Reply:
        """All records that fit, in one reply.

        A name may be an expression, of which only those that stand for all names are understood:
        what others take to match is the caller's choice.
        """
        wanted = args.attributes
        name = args.name.decode("ascii", "replace")
        entries = [
            self._new_entry(record)
            for record in self.records.values()
            if name in (*_ANY_NAME, record.name) and self._matches(record, wanted)
        ]
        entries = entries[max(0, args.start) :][: vldb.ENTRIES_MAX]
        return vldb.ListAttributesN2Reply(len(entries), tuple(entries), -1)

    def _matches(self, record: Record, wanted: vldb.ListAttributes) -> bool:
        if wanted.mask & vldb.ListMask.SERVER:
            address = wanted.server & 0xFFFFFFFF
            if address not in [self._address(server) for server, _ in record.sites()]:
                return False
        if wanted.mask & vldb.ListMask.PARTITION and wanted.partition:
            return False  # all is on the first one
        if wanted.mask & vldb.ListMask.VOLUME_ID and wanted.volume not in record.ids.values():
            return False
        return not wanted.mask & vldb.ListMask.FLAG or bool(record.flags & wanted.flag)


def _ids(record: Record) -> tuple[int, ...]:
    return tuple(record.number(type) for type in VolumeType)


def _filled(values: list[T], filler: T, length: int) -> tuple[T, ...]:
    return (*values, *[filler] * (length - len(values)))
