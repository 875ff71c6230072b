"""The callback service as OpenAFS's own programs see it: `cmdebug`, and the file server."""

from __future__ import annotations

import re
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import pytest
import trio

from afsfuse.cache import CacheManager
from afsfuse.callback_service import CallbackService, cache_config
from afsfuse.cell.cellservdb import search_folders
from afsfuse.cell.directory import CellDirectory
from afsfuse.cell.resolver import NoDns
from afsfuse.cell.servers import ServerRegistry
from afsfuse.cell.volumes import Preference, VolumeLocator
from afsfuse.fileserver.client import FileServerClient
from afsfuse.interfaces.common import Fid
from rxrpc import Endpoint
from tests.realcell.configuration import CELL

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from afsfuse.cache import Vnode
    from tests.realcell.cell import RealCell

pytestmark = pytest.mark.realcell


@dataclass
class Manager:
    """A cache manager without a file system on top."""

    cell: RealCell
    cache: CacheManager
    locator: VolumeLocator
    uuid: UUID
    port: int

    async def cmdebug(self, *options: str) -> str:
        """The output of `cmdebug`, run on fs1."""
        argv = ["cmdebug", self.cell.main_address, "-port", str(self.port), *options]
        done = await trio.to_thread.run_sync(self.cell.servers["fs1"].run, argv)
        return str(done.stdout)

    async def root(self, volume: str, want: Preference = Preference.PREFER_RO) -> Vnode:
        """The root of a volume with a promise. The first call to a server brings none: before
        it answers, the server tells its new client that it remembers no promises."""
        found = await self.locator.volume(CELL, volume, want)
        fid = Fid(found.id, 1, 1)
        await self.cache.status(found, fid)
        return await self.cache.status(found, fid)


@asynccontextmanager
async def managing(cell: RealCell) -> AsyncIterator[Manager]:
    endpoint = Endpoint(bind=(cell.main_address, 0))
    cells = CellDirectory.from_folders(search_folders(cell.confdir), NoDns())
    registry = ServerRegistry()
    locator = VolumeLocator(endpoint, cells, registry)
    client = FileServerClient(endpoint, locator)
    cache = CacheManager(client)
    uuid = uuid4()
    config = cache_config(vnodes=32768, data_bytes=64 << 20, chunk_size=32 << 10)
    callbacks = CallbackService(cache, cells, registry, uuid, config=config)
    endpoint.add_service(callbacks.service)
    async with trio.open_nursery() as nursery:
        await nursery.start(endpoint.run)
        await nursery.start(client.run)
        await nursery.start(cache.run)
        with trio.fail_after(60):
            yield Manager(cell, cache, locator, uuid, endpoint.local_address[1])
            await cache.give_up_all()
        nursery.cancel_scope.cancel()


async def test_interfaces(real_cell: RealCell) -> None:
    async with managing(real_cell) as manager:
        output = await manager.cmdebug("-addrs")
    printed = re.search(r"UUID: (\S+)", output)
    assert printed is not None
    assert printed[1].replace("-", "") == manager.uuid.hex
    assert "Error Translation" in output


async def test_cache_configuration(real_cell: RealCell) -> None:
    async with managing(real_cell) as manager:
        output = await manager.cmdebug("-cache")
    for line in (
        "Chunk files:   2048",
        "Stat caches:   32768",
        "Chunk size:    32768",
        "Cache size:    65536 kB",
        "Cache type:    memory",
    ):
        assert line in output


async def test_cells(real_cell: RealCell) -> None:
    async with managing(real_cell) as manager:
        output = await manager.cmdebug("-cellservdb")
    assert re.search(rf"^>{re.escape(CELL)}\s", output, re.MULTILINE)
    assert real_cell.servers["fs1"].address in output


async def test_cache_entries(real_cell: RealCell) -> None:
    async with managing(real_cell) as manager:
        assert await manager.cmdebug() == ""
        replica = await manager.root("root.cell")
        original = await manager.root("tree", Preference.FORCE_RW)
        with_promises = await manager.cmdebug("-callbacks")
        everything = await manager.cmdebug("-long")
        readable = await manager.cmdebug("-long", "-ctime")
        referenced = await manager.cmdebug("-refcounts")
    for vnode in (replica, original):
        entry = rf"\*\* Cache entry @ 0x\w+ for 1\.{re.escape(str(vnode.fid))} \[{CELL}\]"
        for output in (with_promises, everything, readable):
            assert re.search(entry, output), output
    assert everything.count("volume root") == 2
    assert everything.count("read-only") == 1
    assert everything.count("stat'd") == 2
    assert f"{replica.status.length:12d} bytes" in everything
    assert re.search(r"expires \w{3} \w{3} +\d", readable)
    assert referenced == ""  # no kernel holds anything


async def test_the_file_server_breaks_promises_here(real_cell: RealCell) -> None:
    async with managing(real_cell) as manager:
        root = await manager.root("scratch", Preference.FORCE_RW)
        names = await manager.cache.directory(root.volume, root.fid)
        place = names.find(b"slot31")
        assert place is not None
        slot = await manager.cache.status(root.volume, Fid(root.volume.id, *place))
        before = slot.data_version
        assert slot.valid(trio.current_time())
        write = ["afsio", "write", "-force", "-file", f"/afs/.{CELL}/scratch/slot31"]
        client = manager.cell.clients["client1"]
        await trio.to_thread.run_sync(lambda: client.run(write, input=b"changed\n"))
        assert not slot.valid(trio.current_time())  # the writer waited for our reply
        slot = await manager.cache.status(root.volume, slot.fid)
        assert slot.data_version > before
