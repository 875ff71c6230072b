"""What goes wrong on order, and how the client takes it."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest
import trio

from afsfuse.democell import DemoCell
from afsfuse.democell.trees import MountPoint, plant
from afsfuse.errors import AfsError, DataCorrupt, ViceCode, VolumeOffline
from afsfuse.interfaces import fileserver as fs
from afsfuse.interfaces import vldb
from afsfuse.interfaces.common import Fid
from rxrpc import CallError
from tests.cell.site import InProcess, in_process, raw_client, walker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from trio.testing import MockClock

CONTENT = bytes(range(256)) * 400


@pytest.fixture
async def site() -> AsyncIterator[InProcess]:
    """A root and a volume with one file."""
    cell = DemoCell("test.afs", ["192.0.2.11"])
    plant(cell.create_volume("root.cell"), {b"data": MountPoint(b"#data.")})
    plant(cell.create_volume("data"), {b"file": CONTENT})
    async with in_process(cell) as started:
        yield started


def file_of(cell: DemoCell) -> Fid:
    found = cell.volume("data").root.directory.find(b"file")
    assert found is not None
    return Fid(cell.volume("data").id, *found)


async def test_an_answer_that_is_late(site: InProcess, autojump_clock: MockClock) -> None:
    site.cell.faults.delay(fs.FETCH_STATUS, 7.0)
    site.cell.faults.delay(fs.FETCH_STATUS, 3.0, after=True)
    async with raw_client(site) as client:
        for seconds in (7.0, 3.0, 0.0):
            begin = trio.current_time()
            await client.status(file_of(site.cell))
            assert trio.current_time() - begin == pytest.approx(seconds, abs=0.5)


async def test_orders_are_followed_in_their_order(
    site: InProcess, autojump_clock: MockClock
) -> None:
    faults = site.cell.faults
    faults.abort(fs.FETCH_STATUS, ViceCode.VBUSY, times=2)
    faults.abort(fs.FETCH_STATUS, errno.EIO)
    async with raw_client(site) as client:
        args = fs.FidArgs(file_of(site.cell))
        codes = [await client.refusal(fs.FETCH_STATUS, args) for _ in range(3)]
        assert codes == ["VBUSY", "VBUSY", "EIO"]
        await client.status(args.fid)
        faults.abort(fs.FETCH_STATUS, errno.EIO, times=9)
        faults.clear()
        await client.status(args.fid)
    assert faults.counts["FetchStatus"] == 5


async def test_data_that_ends_early(site: InProcess, autojump_clock: MockClock) -> None:
    site.cell.faults.cut(fs.FETCH_DATA64, 1000, times=99)
    async with walker(site) as walk:
        with pytest.raises((AfsError, CallError)):
            await walk.read("data/file")
        site.cell.faults.clear()
        assert await walk.read("data/file") == CONTENT


async def test_more_data_than_was_asked_for(site: InProcess, autojump_clock: MockClock) -> None:
    async with walker(site) as walk:
        await walk.entry("data/file")
        site.cell.faults.announce(fs.FETCH_DATA64, lambda length: length + (1 << 40), times=99)
        with pytest.raises(AfsError) as caught:
            await walk.read("data/file")
        assert caught.value.errno == errno.EIO
        site.cell.faults.clear()
        assert await walk.read("data/file") == CONTENT


async def test_a_status_that_cannot_be(site: InProcess, autojump_clock: MockClock) -> None:
    def broken(reply: fs.FetchStatusReply) -> fs.FetchStatusReply:
        return reply._replace(status=reply.status._replace(file_type=9))  # type: ignore

    site.cell.faults.change(fs.FETCH_STATUS, broken, times=99)
    async with raw_client(site) as client:
        assert (await client.status(file_of(site.cell))).file_type == 9
    async with walker(site) as walk:
        with pytest.raises(DataCorrupt):
            await walk.list("")


async def test_a_volume_that_stays_off_line(site: InProcess, autojump_clock: MockClock) -> None:
    async with walker(site) as walk:
        await walk.entry("data")
        await site.cell.set_state("data", ViceCode.VOFFLINE)
        with pytest.raises(VolumeOffline):
            await walk.read("data/file")


async def test_a_break_that_is_lost(site: InProcess, autojump_clock: MockClock) -> None:
    cell = site.cell
    async with raw_client(site) as writer, raw_client(site) as reader:
        file = file_of(cell)
        await reader.status(file)
        cell.faults.drop_breaks()
        await writer.store(file, b"x")
        assert reader.broken == []
        await reader.status(file)
        await writer.store(file, b"y")
        assert reader.broken == [file]


async def test_a_break_that_comes_twice(site: InProcess, autojump_clock: MockClock) -> None:
    async with raw_client(site) as writer, raw_client(site) as reader, walker(site) as walk:
        file = file_of(site.cell)
        await reader.status(file)
        assert await walk.read("data/file") == CONTENT
        site.cell.faults.repeat_breaks(2)
        await writer.store(file, b"x")
        assert reader.broken == [file, file]
        assert await walk.read("data/file") == b"x"


async def test_a_server_that_was_started_anew(site: InProcess, autojump_clock: MockClock) -> None:
    """It knows of no promise, and says so to a client that comes back."""
    cell = site.cell
    async with walker(site) as walk, raw_client(site) as writer:
        assert await walk.read("data/file") == CONTENT
        await cell.restart_server()
        await writer.store(file_of(cell), b"changed")
        assert cell.servers["fs1"].hosts.promises == 0
        await walk.entry("")
        await trio.sleep(15_000)  # whatever was promised before has ended by then
        assert await walk.read("data/file") == b"changed"
        assert writer.resets == 1


async def test_a_server_that_is_gone_for_a_while(
    site: InProcess, autojump_clock: MockClock
) -> None:
    async with walker(site) as walk, trio.open_nursery() as nursery:
        await walk.entry("data")
        await site.cell.stop_server("fs1")

        async def come_back() -> None:
            await trio.sleep(5)
            await site.cell.start_server("fs1")

        nursery.start_soon(come_back)
        assert await walk.read("data/file") == CONTENT


async def test_a_server_with_another_uuid(site: InProcess, autojump_clock: MockClock) -> None:
    cell = site.cell
    before = cell.servers["fs1"].uuid
    cell.change_uuid()
    assert cell.servers["fs1"].uuid != before
    registered = cell.locations.servers["fs1"]
    assert (registered.uuid, registered.unique) == (cell.servers["fs1"].uuid, 2)
    async with walker(site) as walk:
        assert await walk.read("data/file") == CONTENT


async def test_a_location_service_that_does_not_answer_at_first(
    site: InProcess, autojump_clock: MockClock
) -> None:
    site.cell.faults.abort(vldb.GET_ENTRY_BY_NAME_U, -455, times=99)
    async with walker(site) as walk:  # it goes on with the older forms
        assert await walk.read("data/file") == CONTENT
    assert site.cell.faults.counts["GetEntryByNameN"]
