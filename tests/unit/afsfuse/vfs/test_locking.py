"""Locks on open files of the vfs; whole files are private matters here, as no server keeps them."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any

import pytest

from afsfuse.auth.identity import ANONYMOUS
from afsfuse.errors import AfsError
from afsfuse.model import Rights, VolumeType
from afsfuse.vfs.entry import READS_ONLY, UNFLUSHED
from afsfuse.vfs.locking import FileLock, LockKind, LockType
from tests.unit.afsfuse.vfs.world import Mounted, World

if TYPE_CHECKING:
    from trio.testing import MockClock

VOLUME: dict[str, Any] = {"source": "#root.cell."}


async def opened(m: Mounted, path: bytes) -> int:
    return (await m.fs.open(await m.walk(path), os.O_RDONLY, ANONYMOUS)).handle


def lock(
    handle: int, owner: int, type: LockType | None = LockType.READ, start: int = 0, end: int = 9
) -> FileLock:
    return FileLock(handle, LockKind.POSIX, owner, type, start, end, owner)


async def errno_of(m: Mounted, lock: FileLock) -> int:
    try:
        await m.fs.locking.change(lock, wait=False)
    except AfsError as exc:
        return exc.errno
    return 0


async def test_a_file_at_two_places_has_one_lock(autojump_clock: MockClock) -> None:
    world = World()
    for name in (b"one", b"two"):
        world.home.mountpoint(name, b"#other.")
    world.volume("other").file(b"f", b"content")
    async with world.mounted(**VOLUME) as m:
        here, there = await opened(m, b"one/f"), await opened(m, b"two/f")
        assert m.fs.locking.change_at_once(lock(here, 1, LockType.WRITE))
        assert await errno_of(m, lock(there, 2)) == errno.EAGAIN
        blocker = await m.fs.locking.blocker(lock(there, 2))
        assert blocker is not None
        assert blocker.pid == 1
        assert await errno_of(m, lock(there, 1)) == 0  # it is his own
        assert m.fs.locking.change_at_once(lock(there, 1, None))
        assert await errno_of(m, lock(there, 2)) == 0


async def test_a_process_that_closes_has_no_lock_any_more(autojump_clock: MockClock) -> None:
    world = World()
    world.home.file(b"f", b"content")
    async with world.mounted(**VOLUME) as m:
        first, second = await opened(m, b"f"), await opened(m, b"f")
        assert m.fs.locking.change_at_once(lock(first, 1, LockType.WRITE))
        await m.fs.flush(second, 2)
        assert await errno_of(m, lock(second, 2)) == errno.EAGAIN
        assert m.fs.locking.posix
        await m.fs.flush(second, 1)
        assert not m.fs.locking.posix
        assert await errno_of(m, lock(second, 2)) == 0
        m.fs.release(second)
        assert not m.fs.locking.posix


async def test_what_is_not_open_has_no_locks(autojump_clock: MockClock) -> None:
    world = World()
    world.home.file(b"f", b"content")
    async with world.mounted(**VOLUME) as m:
        with pytest.raises(AfsError) as caught:
            m.fs.locking.change_at_once(lock(77, 1))
        assert caught.value.errno == errno.EBADF
        with pytest.raises(AfsError) as caught:
            await m.fs.flush(77, 1)
        assert caught.value.errno == errno.EBADF
        m.fs.release(77)


async def test_who_lost_a_lock_is_told_when_he_writes(autojump_clock: MockClock) -> None:
    world = World()
    world.home.root.rights |= Rights.WRITE
    world.home.file(b"f", b"content")
    async with world.mounted(**VOLUME) as m:
        inode = await m.walk(b"f")
        handles = [(await m.fs.open(inode, os.O_RDWR, ANONYMOUS)).handle for _ in range(3)]
        m.cache.locks.complaints.update(handles[:2])
        with pytest.raises(AfsError) as caught:
            m.fs.write_at_once(handles[0], 0, b"C")
        assert caught.value.errno == errno.EIO
        assert m.fs.write_at_once(handles[0], 0, b"C") == 1  # it is told once
        with pytest.raises(AfsError):
            await m.fs.write(handles[1], 0, b"C")
        assert m.fs.write_at_once(handles[2], 0, b"C") == 1
        m.cache.writes.discard("/f", None)


async def test_handles_say_what_closing_asks_for(autojump_clock: MockClock) -> None:
    world = World()
    world.home.mountpoint(b"rw", b"#rw.")
    world.home.mountpoint(b"ro", b"#ro.readonly.")
    world.volume("rw").file(b"f", b"content")
    world.volume("ro.readonly", type=VolumeType.RO).file(b"f", b"content")
    async with world.mounted(**VOLUME) as m:
        for path in (b"rw/f", b"ro/f"):  # the kernel keeps locks
            handle = await opened(m, path)
            assert handle & READS_ONLY
            assert handle & UNFLUSHED
            m.fs.release(handle)
        m.fs.keep_locks()
        handle = await opened(m, b"rw/f")
        assert handle & READS_ONLY
        assert not handle & UNFLUSHED
        handle = await opened(m, b"ro/f")
        assert handle & READS_ONLY
        assert handle & UNFLUSHED
        assert m.fs.locking.change_at_once(lock(handle, 1))
        assert not m.fs.locking.posix
