"""Location services and name servers that want us to know more than we can bear, or whom to hit."""

from __future__ import annotations

import contextlib
import random
import tracemalloc
from typing import Any
from uuid import UUID

import dns.name
import pytest
import trio

from afsfuse.cell.addresses import MAX_SERVERS
from afsfuse.cell.dns import ServiceRecord, in_order
from afsfuse.cell.servers import SERVERS_MAX, ServerRegistry
from afsfuse.cell.volumes import Preference
from afsfuse.errors import DataCorrupt, VolumeMissing
from afsfuse.interfaces import vldb
from afsfuse.refusals import Refused, counted
from rxrpc.errors import ParseError
from rxrpc.xdr import decode, encode
from tests.unit.afsfuse.cell.fakevl import FS1, FS2, RO, RW, entry
from tests.unit.afsfuse.cell.test_volumes import World

BAD = (
    "127.0.0.1", "127.0.0.53", "0.0.0.0", "224.0.0.1", "224.0.0.251", "239.1.2.3", "240.0.0.1",
    "250.1.1.1", "255.255.255.254", "255.255.255.255", "127.255.255.255", "225.0.0.1", "247.0.0.1",
)  # fmt: skip
UUIDS = [UUID(int=number) for number in range(100, 113)]


def test_of_ten_thousand_hosts_the_first_few_are_drawn() -> None:
    host = dns.name.from_text("db.example.org")
    records = [ServiceRecord(host, 7003, 0, weight) for weight in range(10_000)]
    rng = random.Random(1)
    drawn = in_order(records, rng)
    assert len(drawn) == MAX_SERVERS
    assert in_order(records, rng, most=3) != drawn[:3], "drawn, not taken in order"
    first = ServiceRecord(host, 7003, 1)
    assert first not in in_order([first, *records], rng), "of a later priority"


def test_thousands_of_servers_push_out_those_that_never_answered() -> None:
    last = SERVERS_MAX + 2000
    registry = ServerRegistry()
    live = registry.update("test.afs", UUID(int=1), 1, [("192.0.2.1", 7000)])
    live.last_seen = 5.0
    tracemalloc.start()
    try:
        for number in range(2, last + 1):
            registry.update("test.afs", UUID(int=number), 1, [("192.0.2.2", 7000)])
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert len(list(registry)) == SERVERS_MAX
    assert registry.get("test.afs", UUID(int=1)) is live
    assert registry.get("test.afs", UUID(int=last)) is not None
    assert held < 2 << 20


def test_an_answer_with_more_addresses_than_a_server_can_have_is_none() -> None:
    """The bound is in the declaration: it is looked at before anything is built."""
    reply = encode(vldb.GetAddrsUReply(UUID(int=1), 1, 0, ()))
    for count in (vldb.ADDRESSES_MAX + 1, 10_000, 0xFFFFFFFF):
        with pytest.raises(ParseError):
            decode(vldb.GetAddrsUReply, reply[:-4] + count.to_bytes(4, "big") + bytes(40_000))


@pytest.mark.parametrize("count", [0, 1, 2, 13])
async def test_servers_that_cannot_be_called(autojump_clock: trio.abc.Clock, count: int) -> None:
    """None at all, or only such as no server has; each one is counted."""
    world = World()
    world.connector.addresses = {uuid: (address,) for uuid, address in zip(UUIDS, BAD, strict=True)}
    world.connector.enter(entry(*((uuid, RW | RO) for uuid in UUIDS[:count])))
    before = counted()
    with pytest.raises((VolumeMissing, DataCorrupt)):
        await world.hosts("root.cell")
    assert counted()[Refused.ADDRESS] - before[Refused.ADDRESS] == count
    assert list(world.registry) == []


@pytest.mark.parametrize("count", [14, 255, 10_000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
async def test_more_sites_than_a_record_holds(autojump_clock: trio.abc.Clock, count: int) -> None:
    world = World()
    signed = count - ((count & 0x80000000) << 1)
    record: Any = entry((UUIDS[0], RW))
    world.connector.enter(record._replace(server_count=signed))
    before = counted()[Refused.REPLY]
    with pytest.raises(DataCorrupt):
        await world.hosts("root.cell")
    assert counted()[Refused.REPLY] == before + 1


async def test_ten_thousand_servers_in_a_thousand_volumes(autojump_clock: trio.abc.Clock) -> None:
    world = World()
    wide = [(UUID(int=number), RW) for number in range(1, 10_401)]
    for uuid, _flags in wide:
        number = uuid.int
        world.connector.addresses[uuid] = (f"10.9.{number >> 8}.{number & 255}",)
    volumes = []
    for number in range(800):
        ids = (3 * number + 1000, 3 * number + 1001, 3 * number + 1002)
        sites = wide[13 * number : 13 * number + 13]
        world.connector.enter(entry(*sites, name=b"v%d" % number, ids=ids))
        volumes.append(await world.locator.volume("example.org", f"v{number}", Preference.FORCE_RW))
    assert len(list(world.registry)) == SERVERS_MAX
    assert len(volumes[0].sites) == 13, "who holds a server that had to go, goes on with it"


async def test_names_that_lead_to_each_other(autojump_clock: trio.abc.Clock) -> None:
    """Each record bears the name of the other one, and all bear the same numbers."""
    world = World()
    here, there = (entry((FS1, RW), name=name, ids=(7, 7, 7)) for name in (b"here", b"there"))
    world.connector.entries = {b"here": there, b"there": here, b"7": here}
    for _ in range(3):
        for name in ("here", "there", "7", "here.readonly", "there.backup"):
            with contextlib.suppress(VolumeMissing):
                volume = await world.locator.volume("example.org", name, Preference.PREFER_RO)
                assert volume.id == 7
                with contextlib.suppress(VolumeMissing):
                    await world.locator.refresh(volume)
    assert len(world.connector.calls) < 40


@pytest.mark.parametrize("flip", [False, True])
async def test_one_uuid_for_two_servers(autojump_clock: trio.abc.Clock, flip: bool) -> None:
    """It is one server, at the addresses that were told last; another cell's is another one."""
    world = World()
    twice: Any = entry((FS1, RW), (FS1, RO))
    world.connector.enter(twice._replace(uniques=(5, 6 if flip else 5, *twice.uniques[2:])))
    world.connector.addresses[FS1] = ("10.1.0.1", "10.1.0.2")
    other = world.registry.update("other.org", FS1, 1, [("10.7.0.7", 7000)])
    volume = await world.locator.volume("example.org", "root.cell", Preference.PREFER_RO)
    servers = {site.server for site in volume.sites}
    assert len(servers) == 1
    assert other not in servers
    assert other.addresses == (("10.7.0.7", 7000),)


async def test_one_address_for_two_uuids(autojump_clock: trio.abc.Clock) -> None:
    world = World()
    world.connector.addresses = dict.fromkeys((FS1, FS2), ("10.1.0.1",))
    assert await world.hosts("root.cell") == {"10.1.0.1"}
    assert len(list(world.registry)) == 2


async def test_as_many_addresses_as_the_wire_holds(autojump_clock: trio.abc.Clock) -> None:
    world = World()
    world.connector.enter(entry((FS1, RW)))
    many = tuple(f"10.1.{n >> 8}.{n & 255}" for n in range(1, vldb.ADDRESSES_MAX + 1))
    world.connector.addresses[FS1] = many
    before = counted()[Refused.EXCESS]
    volume = await world.locator.volume("example.org", "root.cell", Preference.FORCE_RW)
    assert len(volume.sites[0].server.addresses) == 16
    assert counted()[Refused.EXCESS] - before == vldb.ADDRESSES_MAX - 16


async def test_a_record_that_became_another_volumes(autojump_clock: trio.abc.Clock) -> None:
    """Under the number of one there stands another: what is in use does not turn into that."""
    world = World()
    volume = await world.locator.volume("example.org", "root.cell", Preference.FORCE_RW)
    other = entry((FS2, RW), name=b"other", ids=(900, 901, 902))
    world.connector.entries[b"100"] = other
    await trio.sleep(2)
    with pytest.raises(VolumeMissing):
        await world.locator.refresh(volume)
    assert (volume.id, volume.info.name) == (100, "root.cell")
    assert {site.server.uuid for site in volume.sites} <= {FS1}
