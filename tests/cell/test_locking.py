"""Locks of two whole clients on one file, at servers of both kinds."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest
import trio

from afsfuse.cache import LockMode
from afsfuse.errors import AfsError
from afsfuse.interfaces import fileserver as fs
from afsfuse.vfs.locking import END, FileLock, LockKind, LockType
from tests.cell.site import Site, walker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from afsfuse.interfaces.common import Fid
    from tests.cell.raw import RawClient
    from tests.cell.walker import Walker

pytestmark = pytest.mark.parametrize("caller", ["anonymous"], indirect=True)
"""Locks do not depend on it; each wait of theirs is a long one."""

READ, WRITE = LockType.READ, LockType.WRITE


class Process:
    """A process at a client that has a file open."""

    def __init__(self, walk: Walker, handle: int, number: int) -> None:
        self._walk = walk
        self.handle = handle
        self._number = number

    def _lock(self, kind: LockKind, type: LockType | None, start: int, end: int) -> FileLock:
        return FileLock(self.handle, kind, self._number, type, start, end, self._number)

    async def flock(self, type: LockType | None, *, wait: bool = False) -> int:
        """The errno, or 0."""
        return await self._change(self._lock(LockKind.FLOCK, type, 0, END), wait)

    async def fcntl(
        self, type: LockType | None, start: int = 0, end: int = END, *, wait: bool = False
    ) -> int:
        return await self._change(self._lock(LockKind.POSIX, type, start, end), wait)

    async def _change(self, lock: FileLock, wait: bool) -> int:
        try:
            await self._walk.locking.change(lock, wait=wait)
        except AfsError as exc:
            return exc.errno
        return 0

    async def write(self, data: bytes) -> None:
        assert await self._walk.vfs.write(self.handle, 0, data) == len(data)

    async def read(self) -> bytes:
        return bytes(await self._walk.vfs.read(self.handle, 0, 1000))

    async def blocking(self, type: LockType) -> LockType | None:
        """The type of a lock that is in the way."""
        lock = self._lock(LockKind.POSIX, type, 0, END)
        blocker = await self._walk.locking.blocker(lock)
        return None if blocker is None else blocker.type


class Pair:
    """Two clients, and processes of them that have one file open."""

    def __init__(self, one: Walker, two: Walker, path: str) -> None:
        self._walkers = (one, two)
        self.path = path
        self._number = 0

    async def open(self, client: int) -> Process:
        walk = self._walkers[client]
        self._number += 1
        handle = await walk.open(self.path, writable=True, flags=os.O_RDWR)
        return Process(walk, handle, self._number)

    def slept(self, client: int, seconds: float) -> None:
        """Have a client believe that it slept for so long."""
        self._walkers[client].cache.locks.slept(seconds)


@pytest.fixture
async def file(client: RawClient, folder: Fid) -> Fid:
    return await client.create(folder, b"file", b"content")


@pytest.fixture(params=[LockMode.OPENAFS])
async def pair(
    site: Site, client: RawClient, folder: Fid, root: Fid, file: Fid, request: pytest.FixtureRequest
) -> AsyncIterator[Pair]:
    from afsfuse.cache.directories import Directory

    listing = Directory.parse(await client.fetch(root))
    name = next(entry.name for entry in listing if entry.vnode == folder.vnode).decode()
    async with (
        walker(site, lock_mode=request.param) as one,
        walker(site, lock_mode=request.param) as two,
    ):
        yield Pair(one, two, f"scratch/{name}/file")


async def test_whole_files_are_locked_for_all_clients(
    pair: Pair, client: RawClient, file: Fid
) -> None:
    here, there = await pair.open(0), await pair.open(1)
    assert await here.flock(READ) == 0
    assert await there.fcntl(READ) == 0
    assert (await client.status(file)).lock_count == 2
    assert await here.flock(WRITE) == errno.EAGAIN  # which costs the old one, by flock(2)
    assert (await client.status(file)).lock_count == 1
    assert await there.fcntl(WRITE) == 0
    assert (await client.status(file)).lock_count == 0xFFFFFFFF
    assert await here.fcntl(READ) == errno.EAGAIN
    assert await here.blocking(READ) is WRITE
    assert await there.blocking(READ) is None
    assert await there.fcntl(None) == 0
    assert (await client.status(file)).lock_count == 0
    assert await here.blocking(WRITE) is None


async def test_ranges_are_local(pair: Pair, client: RawClient, file: Fid) -> None:
    here, also_here, there = await pair.open(0), await pair.open(0), await pair.open(1)
    assert await here.fcntl(WRITE, 5, 10) == 0
    assert await also_here.fcntl(READ, 9, 20) == errno.EAGAIN
    assert await there.fcntl(WRITE, 5, 10) == 0
    assert (await client.status(file)).lock_count == 0


@pytest.mark.parametrize("pair", [LockMode.STRICT], indirect=True)
async def test_strict_ranges_are_whole_files_to_others(
    pair: Pair, client: RawClient, file: Fid
) -> None:
    here, also_here, there = await pair.open(0), await pair.open(0), await pair.open(1)
    assert await here.fcntl(READ, 5, 10) == 0
    assert (await client.status(file)).lock_count == 1
    assert await also_here.fcntl(WRITE, 10, 20) == 0
    assert (await client.status(file)).lock_count == 0xFFFFFFFF
    assert await there.fcntl(READ, 30, 40) == errno.EAGAIN
    assert await also_here.fcntl(None) == 0
    assert await here.fcntl(None) == 0
    assert await there.fcntl(READ, 30, 40) == 0


@pytest.mark.parametrize("pair", [LockMode.WRITE], indirect=True)
async def test_write_mode_takes_ranges_for_writers(
    pair: Pair, client: RawClient, file: Fid
) -> None:
    here = await pair.open(0)
    assert await here.fcntl(READ, 5, 10) == 0
    assert (await client.status(file)).lock_count == 0xFFFFFFFF
    assert await here.fcntl(None) == 0


async def test_who_waits_has_it_when_it_is_free(pair: Pair) -> None:
    """The server tells: the second attempts would come after one, three and seven seconds."""
    here, there = await pair.open(0), await pair.open(1)
    assert await there.flock(WRITE) == 0
    got = trio.Event()

    async def wait() -> None:
        assert await here.flock(WRITE, wait=True) == 0
        got.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.sleep(3.5)
        assert not got.is_set()
        before = trio.current_time()
        assert await there.flock(None) == 0
        await got.wait()
        assert trio.current_time() - before < 3.0


@pytest.mark.parametrize("how", ["flock", "fcntl"])
async def test_what_was_written_under_a_lock_is_seen_under_the_next(pair: Pair, how: str) -> None:
    """It is at the server before the lock is given back, and the server has told the other client
    before that."""
    here, there = await pair.open(0), await pair.open(1)
    assert await there.read() == b"content"
    for turn in range(10):
        writer, reader = (here, there) if turn % 2 else (there, here)
        assert await getattr(writer, how)(WRITE) == 0
        assert await getattr(reader, how)(READ) == errno.EAGAIN
        await writer.write(b"turn %02d" % turn)
        assert await getattr(writer, how)(None) == 0
        assert await getattr(reader, how)(READ) == 0
        assert await reader.read() == b"turn %02d" % turn
        assert await getattr(reader, how)(None) == 0


async def test_a_reader_becomes_a_writer_while_another_client_waits(
    pair: Pair, client: RawClient, file: Fid
) -> None:
    """Servers tell who waits before they answer; all the same the lock is not lost."""
    here, there = await pair.open(0), await pair.open(1)
    for _ in range(5):
        assert await here.fcntl(READ) == 0
        async with trio.open_nursery() as nursery:

            async def wait() -> None:
                assert await there.flock(WRITE, wait=True) == 0

            nursery.start_soon(wait)
            await trio.sleep(0.5)
            assert await here.fcntl(WRITE) == 0
            assert (await client.status(file)).lock_count == 0xFFFFFFFF
            await here.write(b"written under the lock")
            assert await here.fcntl(None) == 0
        assert await there.flock(None) == 0


async def test_locks_go_with_their_client(
    site: Site, pair: Pair, client: RawClient, file: Fid
) -> None:
    async with walker(site) as third:
        visitor = await Pair(third, third, pair.path).open(0)
        assert await visitor.flock(WRITE) == 0
    assert (await client.status(file)).lock_count == 0


async def test_a_lock_that_the_server_lost_is_set_again(
    pair: Pair, client: RawClient, file: Fid
) -> None:
    here = await pair.open(0)
    assert await here.flock(WRITE) == 0
    await client.call(fs.RELEASE_LOCK, fs.FidArgs(file))  # servers do not ask whose it is
    assert (await client.status(file)).lock_count == 0
    pair.slept(0, 200)  # so that it is extended now
    for _ in range(100):  # it is a moment, and longer on a busy machine
        await trio.sleep(0.1)
        if (await client.status(file)).lock_count == 0xFFFFFFFF:
            break
    else:
        pytest.fail("the lock was not set again")
    assert await here.flock(None) == 0
