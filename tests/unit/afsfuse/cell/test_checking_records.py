"""Records of volumes in use: asked for again, in time and at once; what is seen to have changed."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from afsfuse.cell.volumes import Preference
from afsfuse.errors import VolumeMissing
from tests.unit.afsfuse.cell.fakevl import DB1, FS1, FS3, NEW, RO, RW, entry, silence
from tests.unit.afsfuse.cell.test_volumes import World, world

__all__ = ["world"]  # a fixture


async def test_records_of_volumes_in_use_are_refreshed(
    autojump_clock: trio.abc.Clock, world: World, nursery: trio.Nursery
) -> None:
    await nursery.start(world.locator.run)
    volume = await world.locator.volume("example.org", "root.cell", Preference.PREFER_RO)
    world.connector.calls.clear()
    await trio.sleep(3500)
    assert not world.connector.calls
    world.connector.enter(entry((FS1, RW), (FS3, RO | NEW), (FS1, RO)))  # a release, elsewhere
    await trio.sleep(200)
    assert world.connector.rpcs().count("GetEntryByNameU") == 1
    assert [(site.server.uuid, site.avoid) for site in volume.sites] == [(FS3, False), (FS1, True)]
    world.connector.enter(entry((FS1, RW), (FS3, RO), (FS1, RO)))
    await trio.sleep(700)  # while it is under way they are looked at more often
    assert world.connector.rpcs().count("GetEntryByNameU") == 2
    assert not any(site.new_replica for site in volume.info.sites)


async def test_a_renamed_volume_is_noticed(
    autojump_clock: trio.abc.Clock, world: World, nursery: trio.Nursery
) -> None:
    await nursery.start(world.locator.run)
    volume = await world.locator.volume("example.org", "root.cell", Preference.PREFER_RO)
    del world.connector.entries[b"root.cell"]
    world.connector.enter(entry((FS1, RW), (FS1, RO), name=b"other"))
    await trio.sleep(3700)
    assert volume.name == "other.readonly"
    assert await world.locator.volume("example.org", "other", Preference.PREFER_RO) is volume
    with pytest.raises(VolumeMissing):
        await world.locator.volume("example.org", "root.cell", Preference.PREFER_RO)


async def test_a_record_that_cannot_be_keeps_no_other_from_being_checked(
    autojump_clock: trio.abc.Clock, world: World, nursery: trio.Nursery
) -> None:
    await nursery.start(world.locator.run)
    other = entry((FS1, RW), name=b"other", ids=(7, 8, 9))
    world.connector.enter(other)
    names = ("root.cell", "other")
    volumes = [
        await world.locator.volume("example.org", name, Preference.FORCE_RW) for name in names
    ]
    impossible: Any = entry((FS1, RW))
    world.connector.enter(impossible._replace(server_count=99))
    world.connector.enter(entry((FS3, RW), name=b"other", ids=(7, 8, 9)))
    await trio.sleep(3700)
    assert [volume.sites[0].server.uuid for volume in volumes] == [FS1, FS3]


async def test_a_doubted_record_is_asked_for_again_at_once(
    autojump_clock: trio.abc.Clock, world: World, nursery: trio.Nursery
) -> None:
    await nursery.start(world.locator.run)
    volume = await world.locator.volume("example.org", "root.cell", Preference.RO)
    assert len(volume.sites) == 2
    await trio.sleep(1)
    asked = world.connector.rpcs().count("GetEntryByNameU")
    world.connector.enter(entry((FS1, RW), (FS1, RO)))
    for _ in range(10):  # many have heard it from the server
        world.locator.check_soon(volume)
    await trio.sleep(1)
    assert [site.server.uuid for site in volume.sites] == [FS1]
    await trio.sleep(100)
    assert world.connector.rpcs().count("GetEntryByNameU") == asked + 1


async def test_a_removed_volume_is_noticed_and_so_is_its_return(
    autojump_clock: trio.abc.Clock, world: World, nursery: trio.Nursery
) -> None:
    await nursery.start(world.locator.run)
    volume = await world.locator.volume("example.org", "root.cell", Preference.PREFER_RO)
    before = dict(world.connector.entries)
    world.connector.entries.clear()
    await trio.sleep(3700)
    assert volume.sites == ()
    world.connector.entries.update(before)
    await trio.sleep(3700)
    assert volume.sites


async def test_a_dead_cell_keeps_what_is_known_and_holds_up_no_other(
    autojump_clock: trio.abc.Clock, world: World, nursery: trio.Nursery
) -> None:
    await nursery.start(world.locator.run)
    volume = await world.locator.volume("example.org", "root.cell", Preference.PREFER_RO)
    other = await world.locator.volume("here.example", "root.cell", Preference.PREFER_RO)
    world.connector.behaviour[DB1] = silence
    await trio.sleep(3700)
    assert volume.sites
    assert trio.current_time() - other.checked < 100
    assert trio.current_time() - volume.checked > 3600
