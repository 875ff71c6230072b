"""A DNS in somebody else's hands: too much, in circles, or names that are none."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import dns.message
import dns.name
import dns.rdatatype
import dns.rrset
import pytest

from afsfuse.cell.addresses import MAX_SERVERS
from afsfuse.cell.cellservdb import CellFiles, is_cell_name
from afsfuse.cell.directory import CellDirectory
from afsfuse.cell.dns import DnsResolver, ServiceRecord, in_order
from afsfuse.errors import AfsError, CellUnknown, CellUnreachable
from afsfuse.refusals import Refused, counted
from tests.unit.afsfuse.cell.test_dns import SRV, NameServer, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    import trio

    from afsfuse.cell.resolver import DnsAnswer

FULL = 1800  # SRV records: about as many as one message can hold
REFUSED = (
    "127.0.0.1", "127.255.255.254", "0.0.0.0", "224.0.0.1", "239.255.255.255", "240.0.0.1",
    "255.255.255.255",
)  # fmt: skip


class Counted(list[ServiceRecord]):
    """Counts how often somebody looks at all of them."""

    looks = 0

    def __iter__(self) -> Iterator[ServiceRecord]:
        self.looks += 1
        return super().__iter__()


def test_ten_thousand_priorities_are_not_looked_at_ten_thousand_times() -> None:
    host = dns.name.from_text("db.example.org")
    records = Counted(ServiceRecord(host, 7003, priority) for priority in range(10_000))
    drawn = in_order(records, random.Random(1))
    assert [record.priority for record in drawn] == list(range(MAX_SERVERS))
    assert records.looks <= MAX_SERVERS + 2


async def test_an_answer_as_full_as_can_be() -> None:
    records = [SRV.format(ttl=900, rest=f"{n} 0 7003 db.example.org.") for n in range(FULL)]
    addresses = [f"db.example.org. 900 IN A 10.0.0.{n}" for n in range(1, 200)]
    before = counted()[Refused.EXCESS]
    async with serving(*records, *addresses) as (server, _):
        patient = DnsResolver(["127.0.0.1"], server.port, query_time=30, total_time=60)
        answer = await patient.lookup("example.org")
        assert len(answer.servers) == MAX_SERVERS
        assert len(server.questions) <= 1 + MAX_SERVERS
    assert counted()[Refused.EXCESS] - before >= FULL - MAX_SERVERS


async def test_a_realm_with_too_many_kdcs() -> None:
    records = [
        f"_kerberos._udp.example.org. 900 IN SRV {n} 0 88 kdc.example.org." for n in range(40)
    ]
    addresses = [f"kdc.example.org. 900 IN A 10.0.0.{n}" for n in range(1, 200)]
    async with serving(*records, *addresses) as (_, resolver):
        assert len(await resolver.kerberos_servers("example.org")) == MAX_SERVERS


@pytest.mark.parametrize("address", REFUSED)
async def test_whom_it_cannot_make_us_call(address: str) -> None:
    before = counted()[Refused.ADDRESS]
    async with serving(
        SRV.format(ttl=900, rest="0 0 7003 db1.example.org."),
        f"db1.example.org. 900 IN A {address}",
    ) as (_, resolver):
        with pytest.raises(CellUnreachable, match="no usable location server"):
            await resolver.lookup("example.org")
    assert counted()[Refused.ADDRESS] == before + 1


@pytest.mark.parametrize("length", [1, 2, 7, 300])
async def test_names_in_circles(length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """CNAMEs that lead to themselves, or on and on, in one answer and over several."""

    def circle(self: NameServer, query: dns.message.Message) -> dns.message.Message:
        (question,) = query.question
        self.questions.append(str(question))
        response = dns.message.make_response(query)
        response.flags |= dns.flags.RA
        names = [question.name, *(dns.name.from_text(f"n{n}.example.org.") for n in range(length))]
        for here, there in zip(names, [*names[1:], names[0]], strict=True):
            rrset = dns.rrset.from_text(here, 900, "IN", "CNAME", there.to_text())
            response.answer.append(rrset)
        return response

    monkeypatch.setattr(NameServer, "answer", circle)
    async with serving() as (server, resolver):
        with pytest.raises((CellUnknown, CellUnreachable)):
            await resolver.lookup("example.org")
        assert len(server.questions) <= 4


@pytest.mark.parametrize(
    "host",
    [
        r"\000.example.org.", r"\046\046\047etc\047passwd.", r"a\032b.", r"\255\254.org.", "*.org.",
        r"\010\010log\032line.org.", "l." * 127, f"{'x' * 63}.{'y' * 63}.{'z' * 63}.org.",
        "localhost.", "127.0.0.1.", "_afs3-vlserver._udp.example.org.",
    ],
)  # fmt: skip
async def test_names_that_are_no_hosts_are_left_out(
    host: str, caplog: pytest.LogCaptureFixture
) -> None:
    """They are looked for in the DNS alone, and add no lines to a log."""
    async with serving(
        "_afs3-vlserver._udp.example.org. 900 IN SRV 0 0 7003 db2.example.org.",
        "db2.example.org. 900 IN A 192.0.2.2",
    ) as (server, resolver):
        server.records.insert(0, ["_afs3-vlserver._udp.example.org.", "900", "IN", "SRV",
                                  f"0 0 7003 {host}"])  # fmt: skip
        caplog.set_level("DEBUG")
        answer = await resolver.lookup("example.org")
    assert answer.servers == (("192.0.2.2", 7003),)
    assert all("\n" not in record.getMessage() for record in caplog.records)


class Recorder:
    """A resolver that is only asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def lookup(self, cell: str) -> DnsAnswer:
        self.asked.append(cell)
        raise CellUnknown("no such cell", cell=cell)


@pytest.mark.parametrize(
    "name",
    [
        "a/b.org", "/etc", "../x.org", "..", ".", "", "x..org", "a." * 10_000 + "org", "a\0b.org",
        "a b.org", "a\n.org", "é.org", "a:b.org", "#root.cell.", "%v.org", "a@b.org", "a\\b.org",
        "x" * 5000, "nodot",
    ],
    ids=lambda name: name[:12].encode("ascii", "backslashreplace").decode().replace("/", "|"),
)  # fmt: skip
async def test_what_is_no_cell_is_not_asked_for(autojump_clock: trio.abc.Clock, name: str) -> None:
    recorder = Recorder()
    cells = CellDirectory(CellFiles(None, {}, {}), recorder)
    with pytest.raises(AfsError) as told:
        await cells.find(name)
    assert told.value.errno
    assert recorder.asked == []
    assert not is_cell_name(name) or "." not in name


async def test_many_labels_in_a_name_that_could_be_one(autojump_clock: trio.abc.Clock) -> None:
    """As long as a cell's name may be; what the DNS cannot carry is refused before it is sent."""
    cells = CellDirectory(CellFiles(None, {}, {}), DnsResolver(["192.0.2.1"]))
    with pytest.raises(CellUnknown):
        await cells.find("a." * 120 + "much.too.long.org")
