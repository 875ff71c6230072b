"""Breaks of promises are lost, all of them: what is read may be old until the promise ends.

OpenAFS's file server promises for the shorter, the more clients have a promise on the same file:
it told the first one 14479 s and those from the 64th on 527 s, in steps of 128 s (callback.c). So a
crowd is at the file before us. Shorter promises are of the cell in one process
(`cell/test_clocks.py`).
"""

from __future__ import annotations

import os
import time
import uuid
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio

from afsfuse.interfaces.common import Fid
from rxrpc import Endpoint
from tests.cell.raw import RawClient
from tests.interop.mounts import RealMount, eventually, mounted
from tests.realcell.afsio import Afsio
from tests.realcell.network import Direction

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.realcell.cell import RealCell

pytestmark = [pytest.mark.realcell, pytest.mark.mount, pytest.mark.soak]

CROWD = 64
MOST = 560.0
"""Seconds: more than a server promises to one of a crowd."""
BACK = 60.0
"""Seconds from when breaks arrive again until all is right."""
NAME = "scratch/slot25"
CALLS = "udp sport 7000 @th,232,8 & 1 == 1"
"""What the file server sends in calls of its own: the flag CLIENT_INITIATED, in byte 21 of the Rx
header."""


async def test_nothing_old_is_read_after_the_end_of_a_promise(
    real_cell: RealCell, tmp_path: Path
) -> None:
    changed = b"changed to %s\n" % uuid.uuid4().hex.encode()
    afsio = Afsio(real_cell.clients["client2"])
    with mounted(real_cell, "client2", tmp_path / "other") as other:
        fid = fid_of(other)
    async with crowd(real_cell, fid):
        with mounted(real_cell, "client1", tmp_path / "afs") as mount:
            path = mount.writable / NAME
            promised = time.monotonic()
            before = await trio.to_thread.run_sync(path.read_bytes)
            assert before != changed
            real_cell.network.lose("client1", 100, Direction.IN, match=CALLS)
            try:
                await trio.to_thread.run_sync(
                    partial(afsio.overwrite, f"/afs/.test.afs/{NAME}", changed)
                )
                end, how = await end_of_the_old(path, before, changed, promised + MOST)
            finally:
                real_cell.network.heal("client1")
            print(f"old for {end - promised:.0f} s after the promise, then {how}")
            right = partial(eventually, lambda: contents(path) == changed, BACK)
            assert await trio.to_thread.run_sync(right)


def contents(path: Path) -> bytes | None:
    """None when the server takes too long: it calls us in vain before it answers."""
    try:
        return path.read_bytes()
    except TimeoutError:
        return None


async def end_of_the_old(
    path: Path, before: bytes, after: bytes, until: float
) -> tuple[float, str]:
    """When a file was last shown as it was, and what came then."""
    last = time.monotonic()
    while (text := await trio.to_thread.run_sync(contents, path)) == before:
        last = time.monotonic()
        assert last < until, "old contents after the end of the promise"
        await trio.sleep(0.5)
    assert text in (after, None)
    return last, "new" if text else "ETIMEDOUT"


def fid_of(mount: RealMount) -> Fid:
    """What the file is to its server."""
    words = os.getxattr(mount.writable / NAME, "afs.fid").split(b":")
    return Fid(*(int(word, 16) for word in words))


@asynccontextmanager
async def crowd(cell: RealCell, fid: Fid) -> AsyncIterator[None]:
    """Many clients have a promise on a file, and answer when it is broken."""
    async with trio.open_nursery() as nursery:
        for _ in range(CROWD):
            endpoint = Endpoint(bind=(cell.main_address, 0))
            client = RawClient(endpoint)
            await nursery.start(endpoint.run)
            client.use((cell.fs1.address, 7000))
            await client.status(fid)
        yield
        nursery.cancel_scope.cancel()
