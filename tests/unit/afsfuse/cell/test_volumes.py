"""Finding volumes: what is asked of the location service, and what is kept of its answers."""

import gc
import random
from uuid import UUID

import pytest
import trio

from afsfuse.cell.cellservdb import CellFiles, parse_cellservdb
from afsfuse.cell.directory import CellDirectory
from afsfuse.cell.resolver import NoDns
from afsfuse.cell.servers import ServerRegistry
from afsfuse.cell.volumes import Preference, VolumeLocator
from afsfuse.errors import CellUnknown, CellUnreachable, DataCorrupt, VolumeMissing
from afsfuse.interfaces import vldb
from afsfuse.model import VolumeType
from tests.unit.afsfuse.cell.fakevl import (
    DB1,
    FS1,
    FS2,
    FS3,
    NEW,
    RO,
    RW,
    FakeConnector,
    entry,
    silence,
)

CELLS = """\
>example.org
192.0.2.1
>old.example [example.org]
192.0.2.2
>here.example
127.0.0.1
"""


class World:
    """A locator with the service that it asks."""

    def __init__(self) -> None:
        self.connector = FakeConnector()
        self.connector.addresses = {FS1: ("10.1.0.1",), FS2: ("10.1.0.2",), FS3: ("10.1.0.3",)}
        self.registry = ServerRegistry()
        files = CellFiles("example.org", parse_cellservdb(CELLS, "CellServDB"), {})
        self.locator = VolumeLocator(
            self.connector, CellDirectory(files, NoDns()), self.registry, rng=random.Random(1)
        )
        self.connector.enter(entry((FS1, RW), (FS1, RO), (FS2, RO)))

    async def hosts(self, name: str, want: Preference = Preference.PREFER_RO) -> set[str]:
        volume = await self.locator.volume("example.org", name, want)
        return {site.server.addresses[0][0] for site in volume.sites}


@pytest.fixture
def world() -> World:
    return World()


async def test_a_replicated_volume(autojump_clock: trio.abc.Clock, world: World) -> None:
    volume = await world.locator.volume("Example.org", "root.cell", Preference.PREFER_RO)
    assert (volume.id, volume.type) == (101, VolumeType.RO)
    assert volume.name == "root.cell.readonly"
    assert volume.cell.name == "example.org"
    assert {site.server.uuid for site in volume.sites} == {FS1, FS2}
    assert "root.cell.readonly" in repr(volume)


@pytest.mark.parametrize(
    ("name", "want", "id"),
    [
        ("root.cell", Preference.FORCE_RW, 100),
        ("root.cell", Preference.RO, 101),
        ("root.cell", Preference.BACKUP, 102),
        ("root.cell.readonly", Preference.FORCE_RW, 101),
        ("root.cell.backup", Preference.PREFER_RO, 102),
        ("100", Preference.PREFER_RO, 101),
        ("100", Preference.FORCE_RW, 100),
        ("101", Preference.FORCE_RW, 101),
        ("102", Preference.PREFER_RO, 102),
    ],
)
async def test_names_and_numbers(
    autojump_clock: trio.abc.Clock, world: World, name: str, want: Preference, id: int
) -> None:
    assert (await world.locator.volume("example.org", name, want)).id == id


async def test_there_is_one_object_for_a_volume(
    autojump_clock: trio.abc.Clock, world: World
) -> None:
    one = await world.locator.volume("example.org", "root.cell", Preference.PREFER_RO)
    two = await world.locator.volume("example.org", "101", Preference.FORCE_RW)
    assert one is two
    del one, two
    gc.collect()
    assert len(world.locator._volumes) == 0


async def test_a_record_is_asked_for_once(autojump_clock: trio.abc.Clock, world: World) -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(
                world.locator.volume, "example.org", "root.cell", Preference.PREFER_RO
            )
    assert sorted(world.connector.rpcs()) == ["GetAddrsU", "GetAddrsU", "GetEntryByNameU"]
    await world.hosts("root.cell", Preference.FORCE_RW)
    assert len(world.connector.calls) == 3


async def test_a_record_is_renewed_after_an_hour(
    autojump_clock: trio.abc.Clock, world: World
) -> None:
    await world.hosts("root.cell")
    await trio.sleep(3590)
    await world.hosts("root.cell")
    assert world.connector.rpcs().count("GetEntryByNameU") == 1
    await trio.sleep(20)
    world.connector.enter(entry((FS3, RW), (FS3, RO)))
    assert await world.hosts("root.cell") == {"10.1.0.3"}


async def test_a_record_is_renewed_sooner_during_a_release(
    autojump_clock: trio.abc.Clock, world: World
) -> None:
    world.connector.enter(entry((FS1, RW | NEW), (FS1, RO), (FS2, RO | NEW)))
    volume = await world.locator.volume("example.org", "root.cell", Preference.RO)
    assert [site.server.uuid for site in volume.sites] == [FS2, FS1]
    await trio.sleep(610)
    await world.hosts("root.cell")
    assert world.connector.rpcs().count("GetEntryByNameU") == 2


async def test_a_record_is_renewed_sooner_while_somebody_has_locked_it(
    autojump_clock: trio.abc.Clock, world: World, nursery: trio.Nursery
) -> None:
    await nursery.start(world.locator.run)
    world.connector.enter(entry((FS1, RW), (FS1, RO), flags=0x7010))
    volume = await world.locator.volume("example.org", "root.cell", Preference.RO)
    world.connector.enter(entry((FS1, RW), (FS1, RO), (FS2, RO)))
    await trio.sleep(700)
    assert {site.server.uuid for site in volume.sites} == {FS1, FS2}
    asked = world.connector.rpcs().count("GetEntryByNameU")
    await trio.sleep(1500)
    assert world.connector.rpcs().count("GetEntryByNameU") == asked


async def test_an_old_record_is_used_while_the_cell_does_not_answer(
    autojump_clock: trio.abc.Clock, world: World
) -> None:
    await world.hosts("root.cell")
    world.connector.behaviour[DB1] = silence
    await trio.sleep(4000)
    assert await world.hosts("root.cell") == {"10.1.0.1", "10.1.0.2"}
    with pytest.raises(CellUnreachable):
        await world.hosts("another")


async def test_a_moved_volume_is_found_again(autojump_clock: trio.abc.Clock, world: World) -> None:
    volume = await world.locator.volume("example.org", "root.cell", Preference.FORCE_RW)
    world.connector.enter(entry((FS3, RW), flags=0x7010))
    await world.locator.refresh(volume, since=volume.checked - 1)  # somebody else has asked since
    assert volume.sites[0].server.uuid == FS1
    assert not volume.info.locked
    await world.locator.refresh(volume, since=volume.checked)
    assert volume.info.locked
    assert [site.server.uuid for site in volume.sites] == [FS3]


async def test_a_renamed_volume_keeps_its_object(
    autojump_clock: trio.abc.Clock, world: World
) -> None:
    volume = await world.locator.volume("example.org", "root.cell", Preference.FORCE_RW)
    world.connector.enter(entry((FS1, RW), name=b"renamed"))
    await trio.sleep(2)
    await world.locator.refresh(volume)
    assert volume.name == "renamed"
    assert await world.locator.volume("example.org", "renamed", Preference.FORCE_RW) is volume


@pytest.mark.parametrize("gone", [True, False])
async def test_a_deleted_volume(autojump_clock: trio.abc.Clock, world: World, gone: bool) -> None:
    volume = await world.locator.volume("example.org", "root.cell", Preference.RO)
    if gone:
        world.connector.entries.clear()
    else:
        world.connector.enter(entry((FS1, RW), flags=0x1000))
    await trio.sleep(2)
    with pytest.raises(VolumeMissing):
        await world.locator.refresh(volume)


async def test_the_name_of_a_deleted_volume_may_stand_for_another_one_at_once(
    autojump_clock: trio.abc.Clock, world: World
) -> None:
    volume = await world.locator.volume("example.org", "root.cell", Preference.FORCE_RW)
    world.connector.entries.clear()
    await trio.sleep(2)
    with pytest.raises(VolumeMissing, match=r"volume root\.cell,"):
        await world.locator.refresh(volume)
    assert volume.sites == ()
    with pytest.raises(VolumeMissing):
        await world.locator.volume("example.org", "root.cell", Preference.FORCE_RW)
    world.connector.enter(entry((FS2, RW), ids=(7, 8, 9)))
    again = await world.locator.volume("example.org", "root.cell", Preference.FORCE_RW)
    assert again.id == 7


@pytest.mark.parametrize("name", ["", "x" * 65, "a\0b", "no.such.volume"])
async def test_a_volume_that_is_not_there(
    autojump_clock: trio.abc.Clock, world: World, name: str
) -> None:
    with pytest.raises(VolumeMissing):
        await world.hosts(name)


async def test_a_cell_that_is_not_there(autojump_clock: trio.abc.Clock, world: World) -> None:
    with pytest.raises(CellUnknown):
        await world.locator.volume("far.example", "root.cell", Preference.RO)


async def test_the_linked_cell_is_asked_for_what_the_cell_does_not_have(
    autojump_clock: trio.abc.Clock, world: World
) -> None:
    own = FakeConnector()

    async def empty(rpc: object, args: vldb.VolumeNameArgs) -> object:
        return await own.answer(vldb.GET_ENTRY_BY_NAME_U, args)

    world.connector.behaviour[("192.0.2.2", 7003)] = empty
    volume = await world.locator.volume("old.example", "root.cell", Preference.RO)
    assert volume.cell.name == "example.org"
    with pytest.raises(VolumeMissing):
        await world.locator.volume("old.example", "nowhere", Preference.RO)


@pytest.mark.parametrize("missing", [{527}, {527, 519}])
async def test_older_servers_know_older_forms(
    autojump_clock: trio.abc.Clock, world: World, missing: set[int]
) -> None:
    world.connector.missing = missing
    assert await world.hosts("root.cell") == {"10.0.0.1", "10.0.0.2"}
    world.connector.calls.clear()
    with pytest.raises(VolumeMissing):
        await world.hosts("another")
    assert len(world.connector.calls) == 1  # what the servers do not know is remembered


async def test_servers_that_know_no_form_at_all(
    autojump_clock: trio.abc.Clock, world: World
) -> None:
    world.connector.missing = {527, 519, 504}
    with pytest.raises(CellUnreachable, match="offer no lookup"):
        await world.hosts("root.cell")


async def test_addresses_are_asked_for_again_when_they_were_registered_anew(
    autojump_clock: trio.abc.Clock,
    world: World,
) -> None:
    await world.hosts("root.cell")
    world.connector.addresses[FS1] = ("10.1.0.9", "10.2.0.9")
    world.connector.enter(entry((FS1, RW), name=b"second", ids=(200, 0, 0), flags=0x1000))
    assert await world.hosts("second") == {"10.1.0.1"}
    world.connector.enter(entry((FS1, RW), name=b"third", ids=(300, 0, 0), flags=0x1000, unique=2))
    assert await world.hosts("third") == {"10.1.0.9"}
    server = world.registry.get("example.org", FS1)
    assert server is not None
    assert server.addresses == (("10.1.0.9", 7000), ("10.2.0.9", 7000))


async def test_known_addresses_serve_while_new_ones_cannot_be_had(
    autojump_clock: trio.abc.Clock, world: World
) -> None:
    await world.hosts("root.cell", Preference.FORCE_RW)

    async def half(rpc: object, args: object) -> object:
        if rpc is vldb.GET_ADDRS_U:
            await trio.sleep_forever()
        return await world.connector.answer(vldb.GET_ENTRY_BY_NAME_U, args)

    world.connector.behaviour[DB1] = half
    world.connector.enter(
        entry((FS1, RW), (FS3, RW), name=b"third", ids=(300, 0, 0), flags=0x1000, unique=2)
    )
    assert await world.hosts("third") == {"10.1.0.1"}


async def test_a_server_without_addresses_is_left_out(
    autojump_clock: trio.abc.Clock, world: World
) -> None:
    del world.connector.addresses[FS2]
    assert await world.hosts("root.cell") == {"10.1.0.1"}
    del world.connector.addresses[FS3]
    world.connector.enter(entry((FS3, RW), name=b"lost", ids=(300, 0, 0), flags=0x1000))
    with pytest.raises(VolumeMissing):
        await world.hosts("lost")


async def test_a_record_whose_sites_of_the_type_have_no_address(
    autojump_clock: trio.abc.Clock, world: World
) -> None:
    del world.connector.addresses[FS2]
    world.connector.enter(entry((FS1, RW), (FS2, RO)))
    with pytest.raises(VolumeMissing, match="no server of the volume has an address"):
        await world.hosts("root.cell")


async def test_addresses_that_cannot_be_are_refused(
    autojump_clock: trio.abc.Clock, world: World
) -> None:
    world.connector.addresses[FS1] = ("127.0.0.1", "224.0.0.1", "10.1.0.1")
    assert await world.hosts("root.cell", Preference.FORCE_RW) == {"10.1.0.1"}
    world.connector.addresses[FS3] = ("127.0.0.1", "0.0.0.0")
    world.connector.enter(entry((FS3, RW), name=b"bad", ids=(300, 0, 0), flags=0x1000))
    with pytest.raises(DataCorrupt):
        await world.hosts("bad")


async def test_a_cell_of_this_host_may_have_loopback_addresses(
    autojump_clock: trio.abc.Clock, world: World
) -> None:
    world.connector.addresses[FS1] = ("127.0.0.1",)
    world.connector.addresses[FS2] = ("127.0.0.2",)
    volume = await world.locator.volume("here.example", "root.cell", Preference.FORCE_RW)
    assert volume.sites[0].server.addresses == (("127.0.0.1", 7000),)


async def test_location_servers_that_tell_no_addresses(
    autojump_clock: trio.abc.Clock, world: World
) -> None:
    world.connector.missing = {vldb.GET_ADDRS_U.opcode}
    with pytest.raises(CellUnreachable, match="do not tell addresses"):
        await world.hosts("root.cell")


async def test_servers_that_are_known_to_be_near_come_first(
    autojump_clock: trio.abc.Clock, world: World
) -> None:
    await world.hosts("root.cell")
    one, two = (world.registry.get("example.org", uuid) for uuid in (FS1, FS2))
    assert one is not None
    assert two is not None
    one.rtt, two.rtt = 0.02, 0.001
    world.connector.enter(entry((FS1, RO), (FS2, RO), name=b"more", ids=(0, 201, 0)))
    volume = await world.locator.volume("example.org", "more", Preference.RO)
    assert [site.server.uuid for site in volume.sites] == [FS2, FS1]


async def test_the_number_of_records_is_bounded(
    autojump_clock: trio.abc.Clock, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("afsfuse.cell.volumes._RECORDS_MAX", 4)
    for n in range(10):
        world.connector.enter(entry((FS1, RW), name=b"v%d" % n, ids=(1000 + n, 0, 0), flags=0x1000))
        await world.hosts(f"v{n}")
    assert len(world.locator._records) <= 4


async def test_a_site_is_named_by_address_when_its_server_has_no_uuid(
    autojump_clock: trio.abc.Clock, world: World
) -> None:
    record = entry((UUID(int=0x0A090909 << 96), RW), name=b"old", ids=(400, 0, 0), flags=0x1000)
    flags = tuple(flag & ~vldb.SiteFlag.UUID for flag in record.server_flags)
    world.connector.enter(record._replace(server_flags=flags))  # type: ignore[attr-defined]
    assert await world.hosts("old") == {"10.9.9.9"}


async def test_a_volume_that_nobody_uses_is_forgotten(
    autojump_clock: trio.abc.Clock, world: World
) -> None:
    volume = await world.locator.volume("example.org", "root.cell", Preference.FORCE_RW)
    other = await world.locator.volume("example.org", "root.cell", Preference.RO)
    asked = len(world.connector.calls)
    world.locator.forget(volume)
    await world.locator.volume("example.org", "root.cell", Preference.FORCE_RW)
    assert len(world.connector.calls) == asked, "its read-only copy is in use: they share a record"
    del other
    gc.collect()
    assert world.locator.servers_in_use() == {site.server for site in volume.sites} != set()
    world.locator.forget(volume)
    again = await world.locator.volume("example.org", "root.cell", Preference.FORCE_RW)
    assert again is volume
    assert len(world.connector.calls) > asked
    world.locator.forget(volume)
    del volume, again
    gc.collect()
    assert not world.locator.servers_in_use()


async def test_after_many_volumes_those_in_use_are_as_before(
    autojump_clock: trio.abc.Clock, world: World
) -> None:
    used = await world.locator.volume("example.org", "root.cell", Preference.FORCE_RW)
    many = []
    for n in range(600):
        world.connector.enter(entry((FS1, RW), name=b"v%d" % n, ids=(1000 + n, 0, 0), flags=0x1000))
        many.append(await world.locator.volume("example.org", f"v{n}", Preference.FORCE_RW))
    for volume in many:
        world.locator.forget(volume)
    del volume
    many.clear()
    records = world.locator._records
    world.locator.compact()
    assert world.locator._records is not records, "there was room to give back"
    asked = len(world.connector.calls)
    again = await world.locator.volume("example.org", "root.cell", Preference.FORCE_RW)
    assert again is used, "one object for each, as long as somebody holds it"
    assert len(world.connector.calls) == asked
    await world.locator.volume("example.org", "v0", Preference.FORCE_RW)
    assert len(world.connector.calls) > asked, "and what was forgotten is asked for"
