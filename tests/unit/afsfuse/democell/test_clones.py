"""Clones, releases, moves: what an administrator does, as clients and the database see it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from afsfuse.democell import DemoCell
from afsfuse.democell.cell import CellError
from afsfuse.democell.trees import Link, MountPoint, Tree, plant
from afsfuse.errors import AfsError, ViceCode, VolumeMissing
from afsfuse.interfaces import fileserver as fs
from afsfuse.interfaces import vldb
from afsfuse.interfaces.common import Fid
from tests.cell.site import ROOT, InProcess, in_process, raw_client, walker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from trio.testing import MockClock

TREE: Tree = {b"file": b"first\n", b"folder": {b"inner": b"inner\n"}, b"link": Link(b"file")}


@pytest.fixture
async def site() -> AsyncIterator[InProcess]:
    """Two servers, a root with a mount point, a volume `data`."""
    cell = DemoCell("test.afs", ["192.0.2.11", "192.0.2.12"])
    plant(cell.create_volume("root.cell"), {b"data": MountPoint(b"#data.")})
    plant(cell.create_volume("data"), TREE)
    await cell.replicate("root.cell")
    async with in_process(cell) as started:
        yield started


def file_of(cell: DemoCell, volume: str, name: bytes) -> Fid:
    found = cell.volume(volume).root.directory.find(name)
    assert found is not None
    return Fid(cell.volume(volume).id, *found)


async def test_a_clone_stays_what_it_was(site: InProcess, autojump_clock: MockClock) -> None:
    cell = site.cell
    await cell.backup("data")
    async with raw_client(site) as client:
        writable, clone = file_of(cell, "data", b"file"), file_of(cell, "data.backup", b"file")
        root = Fid(writable.volume, ROOT, ROOT)
        await client.store(writable, b"second\n")
        await client.create(root, b"new")
        await client.remove(root, b"link")
        inner = cell.volume("data").root.directory.find(b"folder")
        assert inner is not None
        await client.create(Fid(root.volume, *inner), b"another")
        assert await client.fetch(clone) == b"first\n"
        names = {name for name, _, _ in cell.volume("data.backup").root.directory}
        assert names == {b".", b"..", b"file", b"folder", b"link"}
        shared = cell.volume("data.backup").vnodes
        kept = [v for number, v in cell.volume("data").vnodes.items() if shared.get(number) is v]
        assert kept, "what was not changed is shared"
        await cell.backup("data")
        assert await client.fetch(file_of(cell, "data.backup", b"file")) == b"second\n"


async def test_a_release_reaches_all_sites(site: InProcess, autojump_clock: MockClock) -> None:
    cell = site.cell
    async with raw_client(site, 1) as first, raw_client(site, 2) as second, walker(site) as walk:
        assert await walk.read("data/file") == b"first\n"
        await cell.replicate("data", ["fs1", "fs2"])
        clone = file_of(cell, "data.readonly", b"file")
        assert await first.fetch(clone) == await second.fetch(clone) == b"first\n"
        before = (await first.call(fs.FETCH_STATUS, fs.FidArgs(clone))).sync
        await first.store(file_of(cell, "data", b"file"), b"second\n")
        await cell.release("data")
        assert await first.broken_within_moments(Fid(clone.volume, 0, 0))
        after = (await second.call(fs.FETCH_STATUS, fs.FidArgs(clone))).sync
        assert after.creation_time > before.creation_time
        assert await first.fetch(clone) == await second.fetch(clone) == b"second\n"


async def test_a_release_that_got_half_way(site: InProcess, autojump_clock: MockClock) -> None:
    cell = site.cell
    await cell.replicate("data", ["fs1", "fs2"])
    plant(cell.volume("data"), {b"new": b"new\n"})
    await cell.release("data", servers=["fs2"])
    flags = cell.locations.records["data"].replicas
    assert flags == {"fs1": vldb.SiteFlag(0), "fs2": vldb.SiteFlag.NEW_REPLICA}
    async with walker(site) as walk:  # half of the sites are new: it goes there
        assert await walk.read("data/new") == b"new\n"


async def test_a_volume_that_moves_is_found_again(
    site: InProcess, autojump_clock: MockClock
) -> None:
    cell = site.cell
    async with walker(site) as walk, raw_client(site) as client:
        assert await walk.read("data/file") == b"first\n"
        await cell.move("data", "fs2")
        args = fs.FidArgs(file_of(cell, "data", b"file"))
        assert await client.refusal(fs.FETCH_STATUS, args) == "VMOVED"
        assert await walk.read("data/folder/inner") == b"inner\n"
        assert cell.locations.records["data"].writable == "fs2"
        await cell.move("data", "fs1")
        assert await walk.read("data/file") == b"first\n"


async def test_a_volume_that_is_deleted(site: InProcess, autojump_clock: MockClock) -> None:
    cell = site.cell
    async with walker(site) as walk:
        used = cell.servers["fs1"].partition.used
        assert await walk.read("data/file") == b"first\n"
        await cell.delete_volume("data")
        assert cell.servers["fs1"].partition.used < used
        with pytest.raises(AfsError):
            await walk.read("data/folder/inner")
        async with walker(site) as fresh:
            with pytest.raises(VolumeMissing):
                await fresh.list("data")


async def test_a_volume_that_is_busy_for_a_while(
    site: InProcess, autojump_clock: MockClock
) -> None:
    cell = site.cell
    cell.faults.abort(fs.FETCH_DATA64, ViceCode.VBUSY, times=3)
    async with walker(site) as walk:
        assert await walk.read("data/file") == b"first\n"
    assert cell.faults.counts["FetchData64"] > 3


async def test_a_volume_that_is_off_line(site: InProcess, autojump_clock: MockClock) -> None:
    cell = site.cell
    async with raw_client(site) as client:
        file = file_of(cell, "data", b"file")
        await cell.set_state("data", ViceCode.VOFFLINE)
        assert await client.refusal(fs.FETCH_STATUS, fs.FidArgs(file)) == "VOFFLINE"
        await cell.set_state("data", None)
        assert await client.fetch(file) == b"first\n"


async def test_what_an_administrator_cannot_do(site: InProcess, autojump_clock: MockClock) -> None:
    cell = site.cell
    with pytest.raises(CellError, match="already"):
        cell.create_volume("data")
    with pytest.raises(CellError, match="no volume"):
        await cell.release("missing")
    with pytest.raises(CellError, match="no read-only sites"):
        await cell.release("data")
    with pytest.raises(CellError, match="no server"):
        cell.volume("data.readonly")


async def test_the_disk_is_as_full_as_its_volumes(
    site: InProcess, autojump_clock: MockClock
) -> None:
    partition = site.cell.servers["fs1"].partition
    volumes = site.cell.servers["fs1"].volumes.values()
    own = [volume.used for volume in volumes if volume.writable]
    assert partition.used == sum(own)
    assert Counter(volume.type.name for volume in volumes) == {"RW": 2, "RO": 1}
