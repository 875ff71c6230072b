"""Files are written by this client, and read by another one."""

from __future__ import annotations

import errno
import itertools
import os
from typing import TYPE_CHECKING

import pytest

from afsfuse.auth.identity import ANONYMOUS
from afsfuse.errors import AfsError
from afsfuse.interfaces import fileserver as fs
from afsfuse.vfs.entry import Attributes
from tests.cell.raw import RawClient, mode

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from afsfuse.interfaces.common import Fid
    from afsfuse.model import Inode
    from tests.cell.walker import Walker
    from tests.conftest import ExpectedWarnings

GIB = 1 << 30
_numbers = itertools.count()


class Desk:
    """A file that this client has found, and the client that made it."""

    def __init__(self, walk: Walker, client: RawClient, fid: Fid, inode: Inode) -> None:
        self.vfs = walk.vfs
        self.client = client
        self.fid = fid
        self.inode = inode

    async def open(self, flags: int = os.O_RDWR) -> int:
        return (await self.vfs.open(self.inode, flags, ANONYMOUS)).handle

    async def close(self, handle: int) -> None:
        """As the kernel does."""
        if not self.vfs.is_settled(handle):
            await self.vfs.flush(handle, owner=0)
        self.vfs.release(handle)

    async def write(self, data: bytes, offset: int = 0, flags: int = os.O_RDWR) -> None:
        handle = await self.open(flags)
        assert await self.vfs.write(handle, offset, data) == len(data)
        await self.close(handle)

    async def read(self, offset: int = 0, size: int = 1 << 20) -> bytes:
        handle = await self.open(os.O_RDONLY)
        data = bytes(await self.vfs.read(handle, offset, size))
        self.vfs.release(handle)
        return data

    async def set(self, handle: int | None = None, **wanted: int) -> None:
        await self.vfs.setattr(self.inode, Attributes(**wanted), handle, ANONYMOUS)

    async def size(self) -> int:
        return (await self.vfs.getattr(self.inode, ANONYMOUS)).size


@pytest.fixture
async def desk(walk: Walker, client: RawClient, root: Fid) -> AsyncIterator[Desk]:
    """An empty file."""
    name = f"written-{next(_numbers)}"
    fid = await client.create(root, name.encode())
    entry = await walk.entry(f"scratch/{name}", writable=True)
    yield Desk(walk, client, fid, entry.inode)
    await client.remove(root, name.encode())


async def test_what_is_written_is_there_when_it_is_closed(desk: Desk) -> None:
    await desk.write(b"hello\n")
    assert await desk.client.fetch(desk.fid) == b"hello\n"
    assert await desk.read() == b"hello\n"
    await desk.write(b"J")
    await desk.write(b"more\n", 6)
    assert await desk.client.fetch(desk.fid) == b"Jello\nmore\n"
    status = await desk.client.status(desk.fid)
    assert status.data_version == 3  # a call for each


async def test_what_is_written_is_seen_before_it_is_stored(desk: Desk) -> None:
    await desk.client.store(desk.fid, b"0123456789")
    handle = await desk.open()
    assert await desk.vfs.write(handle, 4, b"abcd") == 4
    assert await desk.vfs.write(handle, 12, b"!") == 1
    assert await desk.read() == b"0123abcd89\0\0!"
    assert await desk.size() == 13
    assert await desk.client.fetch(desk.fid) == b"0123456789"
    await desk.vfs.fsync(handle)
    assert await desk.client.fetch(desk.fid) == b"0123abcd89\0\0!"
    await desk.close(handle)


async def test_an_append_where_the_kernel_saw_the_end_before(desk: Desk) -> None:
    """It takes an answer for old if its attributes were invalidated since it asked."""
    handle = await desk.open(os.O_WRONLY | os.O_APPEND)
    await desk.vfs.write(handle, 0, b"ours, ")
    await desk.vfs.fsync(handle)
    await desk.client.store(desk.fid, b"theirs, ", 6)
    assert await desk.size() == 14  # of which the kernel does not make use
    await desk.vfs.write(handle, 6, b"ours again")
    await desk.close(handle)
    assert await desk.client.fetch(desk.fid) == b"ours, theirs, ours again"


async def test_much_data_in_large_pieces(desk: Desk) -> None:
    data = os.urandom(1 << 20)
    handle = await desk.open(os.O_WRONLY)
    for number in range(12):
        await desk.vfs.write(handle, number << 20, data)
    await desk.close(handle)
    assert await desk.client.fetch(desk.fid) == data * 12
    assert await desk.read(11 << 20) == data


async def test_a_file_is_cut_and_grows(desk: Desk) -> None:
    await desk.write(b"0123456789")
    await desk.set(size=4)
    assert await desk.client.fetch(desk.fid) == b"0123"
    await desk.set(size=8)
    assert await desk.client.fetch(desk.fid) == b"0123\0\0\0\0"
    handle = await desk.open()
    await desk.set(handle, size=2)
    await desk.set(handle, size=6)
    await desk.vfs.write(handle, 5, b"!")
    assert await desk.read() == b"01\0\0\0!"
    await desk.close(handle)
    assert await desk.client.fetch(desk.fid) == b"01\0\0\0!"
    assert await desk.size() == 6
    await desk.close(await desk.open(os.O_WRONLY | os.O_TRUNC))
    assert (await desk.client.status(desk.fid)).length == 0


async def test_a_new_content_takes_one_call(desk: Desk) -> None:
    await desk.write(b"a long one, to begin with")
    before = (await desk.client.status(desk.fid)).data_version
    await desk.write(b"short", flags=os.O_WRONLY | os.O_TRUNC)
    status = await desk.client.status(desk.fid)
    assert (status.length, status.data_version) == (5, before + 1)


async def test_holes_beyond_four_gibibytes(desk: Desk) -> None:
    handle = await desk.open()
    for offset in (5 * GIB, 2 * GIB - 2, 100):
        await desk.vfs.write(handle, offset, b"marks")
    assert await desk.size() == 5 * GIB + 5
    assert await desk.read(5 * GIB - 4) == bytes(4) + b"marks"
    await desk.close(handle)
    assert (await desk.client.status(desk.fid)).length_high == 1
    assert await desk.client.fetch(desk.fid, 2 * GIB - 4, 9) == b"\0\0marks\0\0"
    assert await desk.client.fetch(desk.fid, 5 * GIB - 4, 99) == bytes(4) + b"marks"
    await desk.set(size=3 * GIB)
    await desk.set(size=6 * GIB)
    assert await desk.read(5 * GIB - 4, 99) == bytes(99)
    status = await desk.client.status(desk.fid)
    assert status.length_high << 32 | status.length_low == 6 * GIB


async def test_times_modes_and_owners(desk: Desk) -> None:
    await desk.set(mtime=1_234_567_890, mode=0o100640)
    entry = await desk.vfs.getattr(desk.inode, ANONYMOUS)
    assert (entry.mtime, entry.mode & 0o7777) == (1_234_567_890, 0o640)
    status = await desk.client.status(desk.fid)
    assert (status.client_mod_time, status.unix_mode_bits) == (1_234_567_890, 0o640)
    handle = await desk.open()
    await desk.vfs.write(handle, 0, b"data")
    await desk.set(handle, mtime=1_111_111_111)
    calls = (await desk.client.status(desk.fid)).data_version
    await desk.close(handle)
    status = await desk.client.status(desk.fid)
    assert (status.client_mod_time, status.data_version) == (1_111_111_111, calls + 1)
    assert (await desk.vfs.getattr(desk.inode, ANONYMOUS)).mtime == 1_111_111_111
    with pytest.raises(AfsError) as caught:
        await desk.set(uid=4711)
    assert caught.value.errno == errno.EPERM
    await desk.set(uid=status.owner)
    assert (await desk.client.status(desk.fid)).unix_mode_bits == 0o640


async def test_the_mode_of_the_owner_counts_for_everybody(desk: Desk) -> None:
    await desk.client.call(fs.STORE_STATUS, fs.StoreStatusArgs(desk.fid, mode(0o444)))
    await desk.vfs.getattr(desk.inode, ANONYMOUS)
    with pytest.raises(AfsError) as caught:
        await desk.open(os.O_WRONLY)
    assert caught.value.errno == errno.EACCES
    with pytest.raises(AfsError) as caught:
        await desk.set(size=0)
    assert caught.value.errno == errno.EACCES


async def test_the_last_store_of_a_range_wins(desk: Desk) -> None:
    await desk.client.store(desk.fid, b"." * 40_000)
    handle = await desk.open()
    await desk.vfs.write(handle, 0, b"m" * 32_768)
    await desk.client.store(desk.fid, b"t" * 40_000)
    await desk.close(handle)
    expected = b"m" * 32_768 + b"t" * (40_000 - 32_768)
    assert await desk.client.fetch(desk.fid) == expected
    assert await desk.read() == expected


async def test_a_conflict_inside_a_chunk_is_named_in_the_log(
    desk: Desk, expected_warnings: ExpectedWarnings
) -> None:
    expected_warnings("another client has changed the file while")
    await desk.client.store(desk.fid, b"." * 1000)
    handle = await desk.open()
    assert await desk.read(0, 10) == b"." * 10
    await desk.vfs.write(handle, 0, b"mine")
    await desk.client.store(desk.fid, b"theirs" * 200)
    await desk.close(handle)
    assert await desk.client.fetch(desk.fid, 0, 12) == b"minerstheirs"
    assert await desk.read(0, 12) == b"minerstheirs"
    assert await desk.size() == 1200  # what they appended is not cut


async def test_nobody_writes_to_a_copy(walk: Walker) -> None:
    entry = await walk.entry("replicated/version")
    with pytest.raises(AfsError) as caught:
        await walk.vfs.open(entry.inode, os.O_WRONLY, ANONYMOUS)
    assert caught.value.errno == errno.EROFS
    with pytest.raises(AfsError) as caught:
        await walk.vfs.setattr(entry.inode, Attributes(mode=0o600), None, ANONYMOUS)
    assert caught.value.errno == errno.EROFS


async def test_the_server_takes_fsync(desk: Desk) -> None:
    handle = await desk.open()
    await desk.vfs.write(handle, 0, b"to the disk")
    await desk.vfs.fsync(handle)
    await desk.vfs.fsync(handle)
    assert await desk.client.fetch(desk.fid) == b"to the disk"
    await desk.close(handle)
