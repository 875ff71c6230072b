"""A cell on the machine's own network."""

from __future__ import annotations

import errno

import pytest
import trio

from afsfuse.democell import DemoCell
from afsfuse.democell.contents import furnish
from afsfuse.interfaces import fileserver as fs
from afsfuse.interfaces.common import Fid
from rxrpc import Endpoint
from tests.cell.raw import RawClient
from tests.cell.site import ROOT

ADDRESSES = ("127.77.1.1", "127.77.1.2")
ALONE = "127.77.1.3"  # tests may run side by side


async def test_it_answers_over_udp() -> None:
    cell = DemoCell("demo.afs", [ALONE])
    await furnish(cell)
    async with cell.serving(), trio.open_nursery() as nursery:
        client = RawClient(Endpoint(bind=(ALONE, 0)))
        await nursery.start(client.endpoint.run)
        client.use((ALONE, fs.PORT))
        root = Fid(cell.volume("scratch").id, ROOT, ROOT)
        data = bytes(range(256)) * 8000
        file = await client.create(root, b"file", data)
        assert await client.fetch(file) == data
        nursery.cancel_scope.cancel()


async def test_ports_that_are_taken() -> None:
    async with DemoCell("demo.afs", ADDRESSES).serving():
        second = DemoCell("demo.afs", [ADDRESSES[1]])
        with pytest.raises(OSError, match="in use") as caught:
            async with second.serving():
                raise AssertionError("it has started")
        assert caught.value.errno == errno.EADDRINUSE
    async with second.serving():
        pass  # the ports were given back
