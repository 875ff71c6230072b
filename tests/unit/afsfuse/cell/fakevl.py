"""A location service without a network, for the tests of this folder."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar
from uuid import UUID

import trio

from afsfuse.cell.directory import Cell
from afsfuse.errors import VlCode
from afsfuse.interfaces import vldb
from rxrpc import NULL, Address, CallAborted, ClientSecurity
from rxrpc.rpc import Rpc

A = TypeVar("A")
R = TypeVar("R")

FS1, FS2, FS3 = (UUID(int=n) for n in (1, 2, 3))
DB1, DB2, DB3 = (("192.0.2.1", 7003), ("192.0.2.2", 7003), ("192.0.2.3", 7003))
RW, RO = vldb.SiteFlag.READ_WRITE, vldb.SiteFlag.READ_ONLY
NEW, WAITING = vldb.SiteFlag.NEW_REPLICA, vldb.SiteFlag.DO_NOT_USE
ALL = 0x7000  # all three volumes exist

Behaviour = Callable[[Rpc[Any, Any], Any], Awaitable[Any]]


class FakeConnector:
    """Every server of the cell answers from one database unless it has a behaviour of its own."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self.securities: list[ClientSecurity] = []
        self.behaviour: dict[Address, Behaviour] = {}
        self.entries: dict[bytes, vldb.EntryU] = {}
        self.addresses: dict[UUID, tuple[str, ...]] = {}
        self.missing: set[int] = set()  # opcodes that the servers do not have

    def connect(
        self, address: Address, service_id: int, *, security: ClientSecurity = NULL
    ) -> "FakeConnection":
        assert service_id == vldb.SERVICE_ID
        self.securities.append(security)
        return FakeConnection(self, address)

    async def answer(self, rpc: Rpc[Any, Any], args: Any) -> Any:
        """What a healthy server says."""
        await trio.sleep(0.001)
        if rpc.opcode in self.missing:
            raise CallAborted(-455, remote=True)
        if isinstance(args, vldb.GetAddrsUArgs):
            if args.uuid not in self.addresses:
                raise CallAborted(VlCode.NOENT, remote=True)
            numbers = tuple(map(number, self.addresses[args.uuid]))
            return vldb.GetAddrsUReply(args.uuid, 1, len(numbers), numbers)
        entry = self.entries.get(args.name)
        if entry is None:
            raise CallAborted(VlCode.NOENT, remote=True)
        if rpc is vldb.GET_ENTRY_BY_NAME_U:
            return vldb.EntryUReply(entry)
        return older(rpc, entry)

    def rpcs(self) -> list[str]:
        """The names of the procedures that were called."""
        return [name for _, name in self.calls]

    def enter(self, entry: vldb.EntryU) -> None:
        """Put a record into the database, under its name and its numbers."""
        for key in (entry.name, *(str(n).encode() for n in entry.volume_ids)):
            self.entries[key] = entry


class FakeConnection:
    def __init__(self, connector: FakeConnector, address: Address) -> None:
        self._connector, self._address = connector, address

    async def call(self, rpc: Rpc[A, R], args: A) -> R:
        self._connector.calls.append((self._address[0], rpc.name))
        behaviour = self._connector.behaviour.get(self._address, self._connector.answer)
        reply: R = await behaviour(rpc, args)
        return reply


async def silence(rpc: Rpc[Any, Any], args: Any) -> Any:
    """A server that never answers."""
    await trio.sleep_forever()


def cell(*servers: Address) -> Cell:
    return Cell("example.org", servers or (DB1,))


def number(host: str) -> int:
    return int.from_bytes(bytes(map(int, host.split("."))), "big")


def entry(
    *sites: tuple[UUID, int],
    name: bytes = b"root.cell",
    ids: tuple[int, int, int] = (100, 101, 102),
    flags: int = ALL,
    unique: int = 1,
) -> vldb.EntryU:
    """A record with these sites: server and flags of each."""
    empty = vldb.SERVERS_NEW - len(sites)
    return vldb.EntryU(
        name=name,
        server_count=len(sites),
        servers=(*(server for server, _ in sites), *[UUID(int=0)] * empty),
        uniques=(*[unique] * len(sites), *[0] * empty),
        partitions=(*range(len(sites)), *[0] * empty),
        server_flags=(*(f | vldb.SiteFlag.UUID for _, f in sites), *[0] * empty),
        volume_ids=ids,
        clone_id=0,
        flags=flags,
        spares=(0,) * 9,
    )


def older(rpc: Rpc[Any, Any], new: vldb.EntryU) -> vldb.EntryNReply | vldb.EntryOReply:
    """The older forms of a record: servers by address, 10.0.0.<uuid>."""
    hosts = tuple(number("10.0.0.0") + uuid.int if uuid.int else 0 for uuid in new.servers)
    if rpc is vldb.GET_ENTRY_BY_NAME_N:
        return vldb.EntryNReply(
            vldb.EntryN(
                new.name, new.server_count, hosts, new.partitions, new.server_flags,
                new.volume_ids, 0, new.flags, new.spares,
            )
        )  # fmt: skip
    return vldb.EntryOReply(
        vldb.EntryO(
            new.name, 0, new.server_count, hosts[:8], new.partitions[:8], new.server_flags[:8],
            new.volume_ids, 0, new.flags,
        )
    )  # fmt: skip
