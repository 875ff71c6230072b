"""Cells that only the DNS knows: SRV records (RFC 5864), then AFSDB records (RFC 1183).

Answers come from anybody who can forge a datagram, so addresses that no AFS server can have are
refused, their number is bounded, and the time to live is clamped.
"""

import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address

import dns.asyncresolver
import dns.exception
import dns.name
import dns.rdata
import dns.rdatatype
import dns.resolver
import trio
from dns.rdtypes.ANY.AFSDB import AFSDB
from dns.rdtypes.IN.A import A
from dns.rdtypes.IN.SRV import SRV

from afsfuse.cell.addresses import MAX_SERVERS, refusal
from afsfuse.cell.resolver import DnsAnswer
from afsfuse.errors import CellUnknown, CellUnreachable
from afsfuse.interfaces import vldb
from afsfuse.refusals import Refused, note
from rxrpc import Address

log = logging.getLogger(__name__)


MIN_TTL = 600.0
"""Seconds an answer is kept at least. Source: Linux fs/afs/cell.c"""
MAX_TTL = 86400.0
"""Seconds an answer is kept at most. Source: Linux fs/afs/cell.c"""

_AFSDB_CELL = 1  # subtype of AFSDB records that name cell database servers
_ABSENT = (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer)


@dataclass(frozen=True, slots=True)
class ServiceRecord:
    """A host that an SRV or AFSDB record names."""

    host: dns.name.Name
    port: int
    priority: int  # lower first
    weight: int = 0  # share among hosts of one priority


class DnsResolver:
    """Asks the name servers of `/etc/resolv.conf`, or those that are given."""

    def __init__(
        self,
        nameservers: Sequence[str] | None = None,
        port: int = 53,
        *,
        query_time: float = 5.0,
        total_time: float = 12.0,
        rng: random.Random | None = None,
    ) -> None:
        """Bounds in seconds: `query_time` for one question with all retries, then for all."""
        self._nameservers = nameservers
        self._port = port
        self._query_time = query_time
        self._total_time = total_time
        self._rng = rng or random.Random()

    async def lookup(self, cell: str) -> DnsAnswer:
        """Ask for SRV, then AFSDB records, then for the addresses of the hosts they name."""
        with trio.move_on_after(self._total_time):
            return await self._lookup(cell)
        raise CellUnreachable("the DNS does not answer; is the network up?", cell=cell)

    async def kerberos_servers(self, realm: str) -> list[Address]:
        """The KDCs of a realm, none if the DNS knows none; `CellUnreachable` when it fails.

        Source: RFC 4120, section 7.2.3.2
        """
        try:
            name = dns.name.from_text(f"_kerberos._udp.{realm}")
        except dns.exception.DNSException:
            return []
        resolver = self._resolver(realm)
        found: list[Address] = []
        with trio.move_on_after(self._total_time):
            try:
                answer = await self._ask(resolver, name, dns.rdatatype.SRV)
            except _ABSENT:
                return []
            except (dns.exception.DNSException, OSError) as exc:
                raise CellUnreachable(f"the DNS cannot tell a realm's KDCs: {exc}") from None
            records = [record for data in answer if (record := _read(data)) is not None]
            for record in in_order(records, self._rng):
                hosts, _ = await self._addresses(resolver, record)
                found += [(host, record.port) for host in hosts]
        note(Refused.EXCESS, max(0, len(found) - MAX_SERVERS))
        return found[:MAX_SERVERS]

    async def _lookup(self, cell: str) -> DnsAnswer:
        try:
            domain = dns.name.from_text(cell)
            service = dns.name.from_text("_afs3-vlserver._udp", None).derelativize(domain)
        except dns.exception.DNSException as exc:
            raise CellUnknown(f"not a domain name: {exc}", cell=cell) from None
        resolver = self._resolver(cell)
        records, ttl = await self._services(resolver, cell, service, domain)
        if not records:
            raise CellUnknown("neither CellServDB nor the DNS knows the cell", cell=cell)
        ordered = in_order(records, self._rng)
        found: dict[int, list[Address]] = {}
        ttls = [ttl]

        async def resolve(place: int, record: ServiceRecord) -> None:
            hosts, host_ttl = await self._addresses(resolver, record)
            found[place] = [(host, record.port) for host in hosts]
            if hosts:
                ttls.append(host_ttl)

        async with trio.open_nursery() as nursery:
            for place, record in enumerate(ordered):
                nursery.start_soon(resolve, place, record)
        servers = dict.fromkeys(address for place in sorted(found) for address in found[place])
        if not servers:
            raise CellUnreachable("the DNS names no usable location server", cell=cell)
        excess = len(records) - len(ordered) + max(0, len(servers) - MAX_SERVERS)
        note(Refused.EXCESS, excess)
        return DnsAnswer(tuple(servers)[:MAX_SERVERS], min(max(min(ttls), MIN_TTL), MAX_TTL))

    def _resolver(self, cell: str) -> dns.asyncresolver.Resolver:
        try:
            resolver = dns.asyncresolver.Resolver(configure=self._nameservers is None)
        except (dns.exception.DNSException, OSError) as exc:
            raise CellUnreachable(f"the DNS cannot be used: {exc}", cell=cell) from None
        if self._nameservers is not None:
            resolver.nameservers = list(self._nameservers)
            resolver.port = self._port
        return resolver

    async def _services(
        self,
        resolver: dns.asyncresolver.Resolver,
        cell: str,
        service: dns.name.Name,
        domain: dns.name.Name,
    ) -> tuple[list[ServiceRecord], float]:
        """The records that name location servers, SRV if there are any, and their TTL."""
        failure: Exception | None = None
        for name, kind in ((service, dns.rdatatype.SRV), (domain, dns.rdatatype.AFSDB)):
            try:
                answer = await self._ask(resolver, name, kind)
            except _ABSENT:
                continue
            except (dns.exception.DNSException, OSError) as exc:
                failure = exc
                continue
            if records := [record for data in answer if (record := _read(data)) is not None]:
                return records, _ttl(answer)
        if failure is not None:
            raise CellUnreachable(f"the DNS cannot tell the cell's servers: {failure}", cell=cell)
        return [], 0.0

    async def _addresses(
        self, resolver: dns.asyncresolver.Resolver, record: ServiceRecord
    ) -> tuple[list[str], float]:
        """The usable addresses of a host, none when it has none or cannot be resolved."""
        try:
            answer = await self._ask(resolver, record.host, dns.rdatatype.A)
        except (dns.exception.DNSException, OSError) as exc:
            log.info("location server %s: %s", record.host, exc)
            return [], 0.0
        usable = []
        for address in (IPv4Address(data.address) for data in answer if isinstance(data, A)):
            if reason := refusal(address):
                log.info("location server %s: %s is %s, refused", record.host, address, reason)
                note(Refused.ADDRESS)
            else:
                usable.append(str(address))
        return usable, _ttl(answer)

    async def _ask(
        self,
        resolver: dns.asyncresolver.Resolver,
        name: dns.name.Name,
        kind: dns.rdatatype.RdataType,
    ) -> dns.resolver.Answer:
        return await resolver.resolve(name, kind, search=False, lifetime=self._query_time)


def _ttl(answer: dns.resolver.Answer) -> float:
    return float(answer.rrset.ttl) if answer.rrset is not None else 0.0


def in_order(
    records: Sequence[ServiceRecord], rng: random.Random, most: int = MAX_SERVERS
) -> list[ServiceRecord]:
    """By priority; within one priority drawn by weight, as RFC 2782 wants it. The first `most`."""
    ordered: list[ServiceRecord] = []
    for priority in sorted({record.priority for record in records}):
        if len(ordered) >= most:  # each look at all of them takes time
            break
        left = [record for record in records if record.priority == priority]
        left.sort(key=lambda record: record.weight != 0)
        while left and len(ordered) < most:  # a draw looks at all that are left
            mark = rng.randint(0, sum(record.weight for record in left))
            for record in left:
                mark -= record.weight
                if mark <= 0:
                    break
            left.remove(record)
            ordered.append(record)
    return ordered


def _read(data: dns.rdata.Rdata) -> ServiceRecord | None:
    """What a record says, None when it names no location server.

    An SRV record with the target "." says that there is no such service; an AFSDB record of
    subtype 2 is about DCE.
    """
    if isinstance(data, SRV) and data.target != dns.name.root and data.port:
        return ServiceRecord(data.target, data.port, data.priority, data.weight)
    if isinstance(data, AFSDB) and data.subtype == _AFSDB_CELL:
        return ServiceRecord(data.hostname, vldb.PORT, 0)
    return None
