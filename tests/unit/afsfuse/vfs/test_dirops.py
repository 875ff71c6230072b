"""What the kernel must learn of changes that it asked for, and what is never asked of a server."""

from __future__ import annotations

import errno
import stat
from typing import TYPE_CHECKING

import pytest
import trio

from afsfuse.auth.identity import ANONYMOUS
from afsfuse.democell import names
from afsfuse.democell.acl import AccessList
from afsfuse.interfaces import fileserver as fs
from afsfuse.interfaces.protection import ANYUSER
from afsfuse.model import Inode
from afsfuse.vfs.dirops import is_mountpoint_body
from tests.unit.afsfuse.vfs.naming import NamingDesk, errno_of, naming_desk

if TYPE_CHECKING:
    from afsfuse.vfs.inodes import Node


def node(desk: NamingDesk, inode: Inode) -> Node:
    return desk.vfs._nodes.get(inode)


async def test_the_kernel_is_not_told_what_it_asked_for(autojump_clock: object) -> None:
    async with naming_desk() as desk:
        one, two = await desk.inode("one"), await desk.inode("two")
        await desk.walk.mkdir("one/d")
        await desk.walk.create("one/d/file")
        await desk.walk.rename("one/d/file", "one/file")
        await desk.walk.unlink("one/file")
        await desk.walk.rmdir("one/d")
        told = desk.recorder.take()
        assert {event[1] for event in told} == {two}
        assert one not in {event[1] for event in told}
        assert {event[0] for event in told} == {"data"}  # what it had listed, but no name there


async def test_another_node_of_the_directory_forgets_the_name(autojump_clock: object) -> None:
    async with naming_desk() as desk:
        two = await desk.inode("two")
        with pytest.raises(FileNotFoundError):
            await desk.walk.entry("two/file", writable=True)
        await desk.walk.create("one/file")
        assert ("name", two, b"file") in desk.recorder.take()
        await desk.walk.entry("two/file", writable=True)
        await desk.walk.unlink("one/file")
        assert ("name", two, b"file") in desk.recorder.take()
        with pytest.raises(FileNotFoundError):
            await desk.walk.entry("two/file", writable=True)


async def test_what_was_made_is_held_as_if_it_had_been_looked_up(autojump_clock: object) -> None:
    async with naming_desk() as desk:
        one = node(desk, await desk.inode("one"))
        entries = [
            await desk.walk.create("one/file"),
            await desk.walk.mkdir("one/d"),
            await desk.walk.symlink("one/link", b"file"),
        ]
        for entry, name in zip(entries, (b"file", b"d", b"link"), strict=True):
            assert one.names is not None
            assert one.names[name].inode == entry.inode
            assert one.names[name].nlookup == 1
            assert entry.entry_timeout > 60
        # Servers give no promise for symbolic links.
        assert [entry.attr_timeout > 60 for entry in entries] == [True, True, False]
        again = await desk.walk.link("one/file", "one/second")
        assert again.inode == entries[0].inode
        assert (again.nlink, node(desk, again.inode).nlookup) == (2, 3)
        desk.vfs.forget([(again.inode, 3)])
        assert set(one.names or ()) == {b"d", b"link"}


async def test_names_follow_the_kernels(autojump_clock: object) -> None:
    async with naming_desk() as desk:
        one = node(desk, await desk.inode("one"))
        entry = await desk.walk.create("one/old")
        await desk.walk.mkdir("one/d")
        d = node(desk, await desk.inode("one/d"))
        await desk.walk.rename("one/old", "one/d/new")
        file = node(desk, entry.inode)
        assert set(one.names or ()) == {b"d"}
        assert d.names == {b"new": file}
        assert file.path().endswith("/one/d/new")
        before = file.nlookup
        await desk.walk.rename("one/d/new", "one/d/newer")
        assert file.nlookup == before
        await desk.walk.unlink("one/d/newer")
        assert d.names == {}


async def test_a_file_that_moves_where_fewer_may_look_is_asked_for_again(
    autojump_clock: object,
) -> None:
    async with naming_desk() as desk:
        volume = desk.cell.volume("data")
        await desk.walk.mkdir("one/closed")
        found = volume.root.directory.find(b"closed")
        assert found is not None
        closed = volume.vnode(*found)
        closed.acl = AccessList({ANYUSER: int(fs_rights("lidw"))})
        await desk.cell.servers["fs1"].changed(volume, volume.fid(closed), by=None)
        await trio.sleep(1)
        await desk.walk.create("one/file")
        parent = await desk.inode("one/closed")
        inode = await desk.inode("one/file")
        desk.recorder.take()
        await desk.walk.rename("one/file", "one/closed/file")
        told = desk.recorder.take()
        assert ("name", parent, b"file") in told
        assert ("attributes", inode) in told


def fs_rights(letters: str) -> int:
    return sum({"l": 8, "i": 4, "d": 16, "w": 2, "r": 1}[letter] for letter in letters)


async def test_where_nothing_can_be_made(autojump_clock: object) -> None:
    async with naming_desk() as desk:
        root = Inode(1)
        vfs = desk.vfs
        who = ANONYMOUS
        assert await errno_of(vfs.mkdir(root, b"new", 0o755, who)) == errno.EROFS
        assert await errno_of(vfs.unlink(root, desk.cell.name.encode(), who)) == errno.EROFS
        assert await errno_of(vfs.create(root, b"f", 0o644, 0, who)) == errno.EROFS
        one = await desk.inode("one")
        assert await errno_of(vfs.rename(one, b"x", root, b"y", 0, who)) == errno.ENOENT
        await desk.walk.create("one/x")
        assert await errno_of(vfs.rename(one, b"x", root, b"y", 0, who)) == errno.EROFS
        assert await errno_of(vfs.link(root, one, b"y", who)) == errno.EPERM
        for kind in (stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK):
            assert await errno_of(vfs.mknod(one, b"p", kind | 0o644, who)) == errno.EPERM
        assert (await vfs.mknod(one, b"n", stat.S_IFREG | 0o600, who)).mode == 0o100600


async def test_a_volume_at_two_places_is_two_volumes_to_rename(autojump_clock: object) -> None:
    """The kernel would have a node of the one place below the other."""
    async with naming_desk() as desk:
        await desk.walk.create("one/file")
        assert await errno_of(desk.walk.rename("one/file", "two/moved")) == errno.EXDEV
        assert await errno_of(desk.walk.link("one/file", "two/linked")) == errno.EXDEV
        assert await errno_of(desk.walk.rename("one/file", "other/moved")) == errno.EXDEV


async def test_an_exclusive_open_loses_to_others_and_a_plain_one_does_not(
    autojump_clock: object,
) -> None:
    async with naming_desk() as desk:
        volume = desk.cell.volume("data")
        desk.cell.faults.drop_breaks()
        names.create(volume, volume.root, b"file", fs.FileType.FILE, data=b"theirs")
        entry = await desk.walk.create("one/file", flags=0)
        assert entry.size == 6
        assert await errno_of(desk.walk.create("one/file")) == errno.EEXIST


async def test_two_names_of_a_file_are_not_renamed(autojump_clock: object) -> None:
    async with naming_desk() as desk:
        await desk.walk.create("one/file")
        await desk.walk.link("one/file", "one/second")
        await desk.walk.rename("one/file", "one/second")
        assert await desk.names() == {"file", "second"}


async def test_a_name_for_this_system_is_removed_by_its_own_name(autojump_clock: object) -> None:
    async with naming_desk() as desk:
        one = await desk.inode("one")
        await desk.walk.create("one/bin.amd64_linux26")
        await desk.walk.entry("one/bin.@sys", writable=True)
        await desk.walk.unlink("one/bin.amd64_linux26")
        assert ("name", one, b"bin.@sys") in desk.recorder.take()
        await desk.walk.create("one/bin.amd64_linux26")
        await desk.walk.entry("one/bin.amd64_linux26", writable=True)
        await desk.walk.unlink("one/bin.@sys")
        assert ("name", one, b"bin.amd64_linux26") in desk.recorder.take()
        assert await desk.names() == set()
        assert await errno_of(desk.walk.create("one/bin.@sys")) == errno.EINVAL


async def test_a_mount_point_is_removed_by_those_who_mean_it(autojump_clock: object) -> None:
    async with naming_desk() as desk:
        await desk.walk.symlink("one/point", b"#other.")
        await desk.walk.create("one/file")
        one = node(desk, await desk.inode("one"))
        who = desk.vfs._identify(ANONYMOUS)
        assert await errno_of(desk.walk.rmdir("one/point")) == errno.EBUSY
        dirops = desk.vfs.dirops
        assert await errno_of(dirops.rmmount(one, b"file", who)) == errno.EINVAL
        assert await errno_of(dirops.mkmount(one, b"p", b"no body", who)) == errno.EINVAL
        await dirops.rmmount(one, b"point", who)
        assert await desk.names() == {"file"}


async def test_a_listing_under_way_shows_nothing_that_was_removed(
    autojump_clock: object,
) -> None:
    async with naming_desk() as desk:
        for number in range(40):
            await desk.walk.create(f"one/{number:02}")
        handle = await desk.vfs.opendir(await desk.inode("one"), ANONYMOUS)
        page = await desk.vfs.readdir(handle, 0, 10)
        seen = {listing.name for listing in page}
        for number in range(10, 30):
            await desk.walk.unlink(f"one/{number:02}")
        await desk.walk.rename("one/35", "one/35-moved")
        while page:
            page = await desk.vfs.readdir(handle, page[-1].next_offset, 10)
            seen |= {listing.name for listing in page}
        desk.vfs.releasedir(handle)
        stayed = {b"%02d" % number for number in (*range(8), *range(30, 40)) if number != 35}
        assert seen >= stayed
        assert not seen & {b"%02d" % number for number in (*range(10, 30), 35)}


@pytest.mark.parametrize(
    ("body", "is_one"),
    [
        (b"#vol.", True), (b"%vol.", True), (b"#cell.org:vol.readonly.", True),
        (b"#vol", False), (b"vol.", False), (b"#.", False), (b"#a b.", False),
        (b"#x/../y.", False), (b"", False), (b".", False),
    ],
)  # fmt: skip
def test_bodies_of_mount_points(body: bytes, is_one: bool) -> None:
    assert is_mountpoint_body(body) is is_one
