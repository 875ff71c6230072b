"""Open files."""

import errno
import os
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from afsfuse.auth.identity import ANONYMOUS, Caller, Identity
from afsfuse.errors import AfsError, NotPermitted
from afsfuse.model import Rights
from afsfuse.vfs import ROOT_INODE
from afsfuse.vfs.files import HandleTable
from tests.unit.afsfuse.vfs.world import World

VOLUME: dict[str, Any] = {"source": "#root.cell."}


async def test_reading_a_file_in_pieces(autojump_clock: MockClock) -> None:
    world = World()
    body = os.urandom(200_000)
    world.home.file(b"f", body)
    async with world.mounted(**VOLUME) as m:
        opened = await m.fs.open(await m.walk(b"f"), os.O_RDONLY, ANONYMOUS)
        pieces = [
            bytes(await m.fs.read(opened.handle, offset, 65536))
            for offset in range(0, 300_000, 65536)
        ]
        assert b"".join(pieces) == body
        m.fs.release(opened.handle)


async def test_pages_are_kept_exactly_while_the_version_is_the_same(
    autojump_clock: MockClock,
) -> None:
    world = World()
    file = world.home.file(b"f", b"one")
    async with world.mounted(**VOLUME) as m:
        inode = await m.walk(b"f")

        async def keeps() -> bool:
            opened = await m.fs.open(inode, 0, ANONYMOUS)
            m.fs.release(opened.handle)
            return opened.keep_cache

        assert await keeps()  # there are none yet
        assert await keeps()
        world.home.write(file, b"two")
        m.break_callback([file])
        assert not await keeps()
        assert await keeps()


async def test_opening_a_small_file_fetches_it(autojump_clock: MockClock) -> None:
    world = World()
    world.home.file(b"f", b"x" * 1000)
    async with world.mounted(**VOLUME) as m:
        inode = await m.walk(b"f")
        before = world.client.calls["fetch_data"]
        opened = await m.fs.open(inode, 0, ANONYMOUS)
        await trio.sleep(1)
        assert world.client.calls["fetch_data"] == before + 1
        assert len(await m.fs.read(opened.handle, 0, 4096)) == 1000
        assert world.client.calls["fetch_data"] == before + 1
        m.fs.release(opened.handle)


async def test_what_is_known_is_opened_and_read_at_once(autojump_clock: MockClock) -> None:
    world = World()
    file = world.home.file(b"f", b"0123456789")
    async with world.mounted(**VOLUME) as m:
        inode = await m.walk(b"f")
        opened = m.fs.open_at_once(inode, 0, ANONYMOUS)
        assert opened is not None
        assert m.fs.read_at_once(opened.handle, 0, 5) is None, "nothing is there yet"
        await trio.sleep(1)
        known = m.fs.read_at_once(opened.handle, 2, 5)
        assert known is not None
        assert bytes(known) == b"23456"
        world.home.write(file, b"abcdefghij")
        m.break_callback([file])
        assert m.fs.read_at_once(opened.handle, 2, 5) is None
        assert m.fs.open_at_once(inode, 0, ANONYMOUS) is None
        assert bytes(await m.fs.read(opened.handle, 2, 5)) == b"cdefg"
        m.fs.release(opened.handle)
        with pytest.raises(AfsError) as caught:
            m.fs.read_at_once(opened.handle, 0, 5)
        assert caught.value.errno == errno.EBADF


async def test_what_may_not_be_read_is_not_opened_at_once(autojump_clock: MockClock) -> None:
    world = World()
    world.home.file(b"f", mode=0o244)
    async with world.mounted(**VOLUME) as m:
        with pytest.raises(NotPermitted):
            m.fs.open_at_once(await m.walk(b"f"), 0, ANONYMOUS)
        with pytest.raises(AfsError) as caught:
            m.fs.open_at_once(ROOT_INODE, 0, ANONYMOUS)
        assert caught.value.errno == errno.EISDIR
        assert m.fs.statistics().open_files == 0


@pytest.mark.parametrize("flags", [os.O_WRONLY, os.O_RDWR, os.O_TRUNC, os.O_APPEND | os.O_RDWR])
async def test_writing_is_refused(autojump_clock: MockClock, flags: int) -> None:
    world = World()
    world.home.file(b"f")
    async with world.mounted(**VOLUME) as m:
        with pytest.raises(NotPermitted, match="/f: the access list does not allow it"):
            await m.fs.open(await m.walk(b"f"), flags, ANONYMOUS)
        assert m.fs.statistics().open_files == 0


async def test_what_is_no_file_cannot_be_opened(autojump_clock: MockClock) -> None:
    world = World()
    world.home.directory(b"d")
    world.home.link(b"l", b"x")
    async with world.mounted(**VOLUME) as m:
        for inode, number in (
            (ROOT_INODE, errno.EISDIR),
            (await m.walk(b"d"), errno.EISDIR),
            (await m.walk(b"l"), errno.ELOOP),
        ):
            with pytest.raises(AfsError) as caught:
                await m.fs.open(inode, 0, ANONYMOUS)
            assert caught.value.errno == number


async def test_reading_takes_the_right_and_the_owners_bit(autojump_clock: MockClock) -> None:
    world = World()
    world.home.file(b"f")
    world.home.file(b"g", mode=0o244)
    async with world.mounted(**VOLUME) as m:
        inodes = {name: await m.walk(name) for name in (b"f", b"g")}
        world.home.root.rights = Rights.LOOKUP
        m.break_callback([world.home.root])
        for name, inode in inodes.items():
            with pytest.raises(NotPermitted, match="/" + name.decode()):
                await m.fs.open(inode, 0, ANONYMOUS)
        assert m.fs.statistics().open_files == 0


async def test_the_superuser_is_nobody_special(autojump_clock: MockClock) -> None:
    world = World()
    world.home.file(b"f")
    world.home.root.rights = Rights.NONE
    user, root = Caller(1001, 1001, 1), Caller(0, 0, 1)
    world.client.tokens.add(Identity(1001))
    world.home.root.permits[Identity(1001)] = Rights.LOOKUP | Rights.READ
    async with world.mounted(**VOLUME) as m:
        inode = await m.walk(b"f", user)
        for request in (m.fs.open(inode, 0, root), m.look_up(ROOT_INODE, b"f", root)):
            with pytest.raises(NotPermitted):
                await request


async def test_an_open_file_is_readable_after_it_was_forgotten(autojump_clock: MockClock) -> None:
    world = World()
    world.home.file(b"f", b"data")
    async with world.mounted(**VOLUME) as m:
        inode = await m.walk(b"f")
        opened = await m.fs.open(inode, 0, ANONYMOUS)
        m.fs.forget([(inode, 1)])
        assert bytes(await m.fs.read(opened.handle, 0, 10)) == b"data"
        m.fs.release(opened.handle)
        m.fs.release(opened.handle)  # never raises
        assert m.fs.statistics().nodes.nodes == 1
        with pytest.raises(AfsError) as caught:
            await m.fs.read(opened.handle, 0, 10)
        assert caught.value.errno == errno.EBADF


async def test_who_opened_is_remembered(autojump_clock: MockClock) -> None:
    world = World()
    world.home.file(b"f")
    anna, bert = Caller(1000, 100, 7), Caller(1001, 100, 8)
    async with world.mounted(**VOLUME) as m:
        opened = await m.fs.open(await m.walk(b"f"), 0, anna)
        directory = await m.fs.opendir(ROOT_INODE, bert)
        assert m.fs.caller_of(opened.handle) == anna
        assert m.fs.caller_of(directory) == bert
        m.fs.releasedir(directory)
        assert m.fs.caller_of(directory) is None
        m.fs.release(opened.handle)


def test_handles_are_not_used_twice_and_tables_do_not_overlap() -> None:
    odd: HandleTable[str] = HandleTable(1, 2)
    even: HandleTable[str] = HandleTable(2, 2)
    handles = [odd.add("a"), odd.add("b"), even.add("c"), even.add("d")]
    assert odd.pop(handles[0]) == "a"
    assert odd.pop(handles[0]) is None
    handles.append(odd.add("e"))
    assert len(set(handles)) == 5
    assert [odd.find(handle) for handle in handles] == [None, "b", None, None, "e"]
    assert len(odd) == 2
    assert len(even) == 2
    assert even.find(handles[0]) is None
