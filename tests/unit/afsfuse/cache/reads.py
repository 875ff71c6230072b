"""What tests of reading share: a running cache, files of known bytes, readers."""

from __future__ import annotations

import random
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import trio

from afsfuse.cache import CacheManager, ReadState
from tests.unit.afsfuse.cache.fakes import (
    FakeClient,
    fid,
    make_cache,
    make_volume,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from afsfuse.interfaces.fileserver import Fid

VOLUME = make_volume()
CHUNK = 32 << 10
FILE = fid(2)
BIG = fid(4)


def pattern(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


@asynccontextmanager
async def running(client: FakeClient, **options: Any) -> AsyncIterator[CacheManager]:
    """A cache with its background tasks."""
    cache = make_cache(client, **options)
    async with trio.open_nursery() as nursery:
        client.nursery = nursery
        await nursery.start(cache.run)
        yield cache
        nursery.cancel_scope.cancel()


async def read_all(
    cache: CacheManager, where: Fid, step: int = 128 << 10, stream: ReadState | None = None
) -> bytes:
    """Read a file in sequence."""
    stream = stream or ReadState()
    parts = []
    offset = 0
    while data := await cache.read(VOLUME, where, offset, step, stream):
        parts.append(bytes(data))
        offset += len(data)
    return b"".join(parts)


def data_calls(client: FakeClient) -> list[tuple[int, int]]:
    """Position and size of each data call."""
    return [(call[2], call[3]) for call in client.calls if call[0] == "data"]
