"""A cache on disk with its thread, for tests: files of known contents go in and come out."""

from __future__ import annotations

import random
import threading
import time
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING

import trio

from afsfuse.cache.disk import DiskCache, VolumeInstance
from afsfuse.cache.disk.files import DiskFile
from afsfuse.cache.disk.folder import take

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CHUNK = 32 << 10
LIMIT = 64 << 20
VOLUME = VolumeInstance("test.afs", 536870915, 1000, False)
SECONDS = 30.0


@lru_cache(4096)
def chunk_of(vnode: int, version: int, index: int, size: int = CHUNK) -> bytes:
    """What a chunk of a version of a file holds."""
    return random.Random(f"{vnode} {version} {index}").randbytes(size)


def contents(vnode: int, version: int, length: int) -> bytes:
    """A whole file."""
    chunks = -(-length // CHUNK)
    return b"".join(
        chunk_of(vnode, version, index, min(CHUNK, length - index * CHUNK))
        for index in range(chunks)
    )


class Desk:
    """A `DiskCache` whose writer runs in a thread of the test's."""

    def __init__(self, folder: Path, limit: int = LIMIT, spare: int = 0) -> None:
        self.room = take(folder)
        self.cache = DiskCache(self.room, limit, CHUNK, spare)
        self._thread = threading.Thread(target=self.cache.writer.run)
        self._thread.start()
        self.settle()

    def file(
        self, vnode: int, length: int, version: int = 1, volume: VolumeInstance = VOLUME
    ) -> DiskFile:
        file = self.cache.file(volume, vnode, 1, version, 1_700_000_000, length)
        assert isinstance(file, DiskFile)
        return file

    def put(self, vnode: int, length: int, first: int = 0, count: int | None = None) -> None:
        """Put chunks of version 1 of a file."""
        file = self.file(vnode, length)
        last = -(-length // CHUNK) if count is None else first + count
        file.put(
            first,
            [
                bytearray(chunk_of(vnode, 1, index, min(CHUNK, length - index * CHUNK)))
                for index in range(first, last)
            ],
        )

    def get(self, vnode: int, length: int, offset: int = 0, end: int | None = None) -> bytes | None:
        """Bytes of version 1 of a file, as far as the cache has them all."""
        data = trio.run(self.file(vnode, length).read, offset, length if end is None else end)
        return None if data is None else bytes(data)

    def settle(self, *, committed: bool = True) -> None:
        """Wait until everything handed over is done, and in the index for good."""
        done = threading.Event()
        if committed:
            self.cache.writer.submit(self.cache.writer.commit)
        self.cache.writer.submit(done.set)
        deadline = time.monotonic() + SECONDS
        while self.cache.usable and not done.wait(0.01):  # nothing is done with a broken index
            assert time.monotonic() < deadline

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let the thread rest, as it is, for a while."""
        reached, go_on = threading.Event(), threading.Event()

        def rest() -> None:
            reached.set()
            assert go_on.wait(SECONDS)

        self.cache.writer.submit(rest)
        assert reached.wait(SECONDS)
        try:
            yield
        finally:
            go_on.set()

    def close(self) -> None:
        """End as the daemon does."""
        self.cache.writer.stop()
        self._thread.join(SECONDS)
        assert not self._thread.is_alive()
        self.cache.close()


@contextmanager
def opened(folder: Path, limit: int = LIMIT, spare: int = 0) -> Iterator[Desk]:
    desk = Desk(folder, limit, spare)
    try:
        yield desk
    finally:
        desk.close()
