"""The DNS, asked over a real socket: a name server of ours on the loopback interface."""

import random
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest
import trio

from afsfuse.cell.dns import DnsResolver, ServiceRecord, in_order
from afsfuse.cell.resolver import NoDns
from afsfuse.errors import CellUnknown, CellUnreachable

SRV = "_afs3-vlserver._udp.example.org. {ttl} IN SRV {rest}"


class NameServer:
    """Answers from a list of records in the form of a zone file."""

    def __init__(self, records: Iterable[str]) -> None:
        self.records = [record.split(None, 4) for record in records]
        self.questions: list[str] = []
        self.port = 0
        self.silent: set[str] = set()  # types of questions that it ignores
        self.failing: set[str] = set()  # types of questions that it answers with SERVFAIL

    async def serve(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as sock:
            await sock.bind(("127.0.0.1", 0))
            self.port = sock.getsockname()[1]
            task_status.started()
            while True:
                data, address = await sock.recvfrom(4096)
                answer = self.answer(dns.message.from_wire(data))
                if answer is not None:
                    await sock.sendto(answer.to_wire(), address)

    def answer(self, query: dns.message.Message) -> dns.message.Message | None:
        (question,) = query.question
        name, kind = question.name.to_text(), dns.rdatatype.to_text(question.rdtype)
        self.questions.append(f"{name} {kind}")
        if kind in self.silent:
            return None
        response = dns.message.make_response(query)
        response.flags |= dns.flags.RA
        if kind in self.failing:
            response.set_rcode(dns.rcode.SERVFAIL)
            return response
        found = [r for r in self.records if r[0] == name and r[3] == kind]
        if found:
            rrset = dns.rrset.from_text(name, int(found[0][1]), "IN", kind, *[r[4] for r in found])
            response.answer.append(rrset)
        elif not any(r[0] == name for r in self.records):
            response.set_rcode(dns.rcode.NXDOMAIN)
        return response


@asynccontextmanager
async def serving(*records: str) -> AsyncIterator[tuple[NameServer, DnsResolver]]:
    server = NameServer(records)
    async with trio.open_nursery() as nursery:
        await nursery.start(server.serve)
        yield (
            server,
            DnsResolver(["127.0.0.1"], server.port, query_time=0.5, rng=random.Random(1)),
        )
        nursery.cancel_scope.cancel()


async def test_srv_records_by_priority_with_their_ports() -> None:
    async with serving(
        SRV.format(ttl=3600, rest="20 0 7003 db2.example.org."),
        SRV.format(ttl=3600, rest="10 0 7103 db1.example.org."),
        "db1.example.org. 3600 IN A 192.0.2.1",
        "db2.example.org. 3600 IN A 192.0.2.2",
    ) as (server, resolver):
        answer = await resolver.lookup("example.org")
        assert answer.servers == (("192.0.2.1", 7103), ("192.0.2.2", 7003))
        assert answer.ttl == 3600
        assert not any(question.endswith("AFSDB") for question in server.questions)


async def test_afsdb_records_when_there_is_no_srv() -> None:
    async with serving(
        "example.org. 7200 IN AFSDB 1 db1.example.org.",
        "example.org. 7200 IN AFSDB 2 dce.example.org.",
        "db1.example.org. 7200 IN A 192.0.2.1",
        "dce.example.org. 7200 IN A 192.0.2.9",
    ) as (_, resolver):
        answer = await resolver.lookup("example.org")
        assert answer.servers == (("192.0.2.1", 7003),)


@pytest.mark.parametrize(("ttl", "kept"), [(5, 600), (600, 600), (7000, 7000), (2**31 - 1, 86400)])
async def test_the_time_to_live_is_clamped(ttl: int, kept: int) -> None:
    async with serving(
        SRV.format(ttl=ttl, rest="0 0 7003 db1.example.org."),
        f"db1.example.org. {ttl} IN A 192.0.2.1",
    ) as (_, resolver):
        assert (await resolver.lookup("example.org")).ttl == kept


async def test_the_shortest_time_to_live_counts() -> None:
    async with serving(
        SRV.format(ttl=9000, rest="0 0 7003 db1.example.org."),
        "db1.example.org. 1000 IN A 192.0.2.1",
    ) as (_, resolver):
        assert (await resolver.lookup("example.org")).ttl == 1000


async def test_addresses_that_cannot_be_are_refused() -> None:
    async with serving(
        SRV.format(ttl=900, rest="0 0 7003 db1.example.org."),
        SRV.format(ttl=900, rest="1 0 7003 db2.example.org."),
        "db1.example.org. 900 IN A 127.0.0.1",
        "db1.example.org. 900 IN A 0.0.0.0",
        "db1.example.org. 900 IN A 224.0.0.1",
        "db2.example.org. 900 IN A 192.0.2.2",
    ) as (_, resolver):
        assert (await resolver.lookup("example.org")).servers == (("192.0.2.2", 7003),)


async def test_a_cell_with_nothing_but_refused_addresses_is_unreachable() -> None:
    async with serving(
        SRV.format(ttl=900, rest="0 0 7003 db1.example.org."),
        "db1.example.org. 900 IN A 127.0.0.1",
    ) as (_, resolver):
        with pytest.raises(CellUnreachable, match="no usable location server"):
            await resolver.lookup("example.org")


async def test_a_host_without_an_address_is_left_out() -> None:
    async with serving(
        SRV.format(ttl=900, rest="0 0 7003 gone.example.org."),
        SRV.format(ttl=900, rest="1 0 7003 db2.example.org."),
        "db2.example.org. 900 IN A 192.0.2.2",
    ) as (_, resolver):
        assert (await resolver.lookup("example.org")).servers == (("192.0.2.2", 7003),)


async def test_the_number_of_servers_is_bounded() -> None:
    records = []
    for n in range(40):
        records.append(SRV.format(ttl=900, rest=f"{n} 0 7003 db{n}.example.org."))
        records.append(f"db{n}.example.org. 900 IN A 192.0.2.{n + 1}")
    async with serving(*records) as (server, resolver):
        answer = await resolver.lookup("example.org")
        assert answer.servers == tuple((f"192.0.2.{n + 1}", 7003) for n in range(16))
        assert len(server.questions) <= 1 + 1 + 16  # SRV twice if UDP was too small


async def test_an_unknown_cell() -> None:
    async with serving("other.org. 900 IN A 192.0.2.1") as (server, resolver):
        with pytest.raises(CellUnknown, match=r"nor the DNS knows.*example\.org"):
            await resolver.lookup("example.org")
        assert server.questions == [
            "_afs3-vlserver._udp.example.org. SRV",
            "example.org. AFSDB",
        ]


async def test_a_service_that_is_said_not_to_exist() -> None:
    async with serving(SRV.format(ttl=900, rest="0 0 0 .")) as (_, resolver):
        with pytest.raises(CellUnknown):
            await resolver.lookup("example.org")


async def test_a_failing_name_server_is_not_an_unknown_cell() -> None:
    async with serving() as (server, resolver):
        server.failing = {"SRV", "AFSDB"}
        with pytest.raises(CellUnreachable, match="the DNS cannot tell"):
            await resolver.lookup("example.org")


async def test_a_name_server_that_fails_on_srv_only_may_know_afsdb() -> None:
    async with serving(
        "example.org. 900 IN AFSDB 1 db1.example.org.",
        "db1.example.org. 900 IN A 192.0.2.1",
    ) as (server, resolver):
        server.failing = {"SRV"}
        assert (await resolver.lookup("example.org")).servers == (("192.0.2.1", 7003),)


async def test_silence_ends_in_time() -> None:
    async with serving() as (server, _):
        server.silent = {"SRV", "AFSDB", "A"}
        resolver = DnsResolver(["127.0.0.1"], server.port, query_time=60, total_time=0.3)
        with pytest.raises(CellUnreachable, match="does not answer"):
            await resolver.lookup("example.org")


@pytest.mark.parametrize("name", ["a." * 200 + "b", "x" * 64 + ".org", "a..b"])
async def test_what_is_no_domain_name_is_no_cell(name: str) -> None:
    async with serving() as (server, resolver):
        with pytest.raises(CellUnknown):
            await resolver.lookup(name)
        assert server.questions == []


async def test_without_a_configuration_the_dns_cannot_be_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(self: object, *args: object) -> None:
        raise dns.resolver.NoResolverConfiguration

    monkeypatch.setattr(dns.asyncresolver.Resolver, "read_resolv_conf", fail)
    with pytest.raises(CellUnreachable, match="cannot be used"):
        await DnsResolver().lookup("example.org")


async def test_a_client_may_do_without_the_dns() -> None:
    with pytest.raises(CellUnknown, match="the DNS is not used"):
        await NoDns().lookup("example.org")


def record(name: str, priority: int, weight: int) -> ServiceRecord:
    return ServiceRecord(dns.name.from_text(name), 7003, priority, weight)


def test_weights_share_within_a_priority() -> None:
    records = [record("a", 1, 90), record("b", 1, 10), record("c", 1, 0), record("z", 0, 0)]
    rng = random.Random(7)
    seconds = Counter(str(in_order(records, rng)[1].host) for _ in range(1000))
    assert {len(in_order(records, rng)) for _ in range(50)} == {4}
    assert all(str(in_order(records, rng)[0].host) == "z." for _ in range(50))
    assert 800 < seconds["a."] < 960
    assert seconds["c."] < 60  # a weight of 0 has a small chance
