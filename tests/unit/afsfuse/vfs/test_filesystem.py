"""The facade: mounting, numbers from the kernel, figures."""

import errno
import os

import pytest
from trio.testing import MockClock

from afsfuse.auth.identity import ANONYMOUS
from afsfuse.errors import AfsError, CellUnreachable, StaleInode, VolumeMissing
from afsfuse.model import Inode, Rights, VolumeType
from afsfuse.vfs import ROOT_INODE, VfsOptions
from tests.unit.afsfuse.vfs.world import Mounted, World


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("#root.cell.", b"ro"),
        ("%root.cell.", b"rw"),
        ("#home.org:root.cell", b"ro"),
        ("%HOME.org:root.cell.", b"rw"),
        ("#root.cell.readonly.", b"ro"),
        ("#root.cell.backup", b"bk"),
    ],
)
async def test_a_mount_of_one_volume(autojump_clock: MockClock, source: str, shown: bytes) -> None:
    world = World()
    world.home.file(b"rw")
    world.volume("root.cell.readonly", type=VolumeType.RO).file(b"ro")
    world.volume("root.cell.backup", type=VolumeType.BACKUP).file(b"bk")
    async with world.mounted(source=source) as m:
        assert await m.names(ROOT_INODE) == [b".", b"..", shown]
        entry = await m.stat(ROOT_INODE, ANONYMOUS)
        assert (entry.inode, entry.generation) == (1, 1)


@pytest.mark.parametrize("source", ["", "home.org", "/afs", "#", "#a b.", "afs "])
def test_a_wrong_source_is_refused(source: str) -> None:
    with pytest.raises(AfsError, match="not a mount point's body"):
        Mounted(World(), VfsOptions(source=source))


async def test_a_volume_that_is_not_there_cannot_be_mounted(autojump_clock: MockClock) -> None:
    world = World()
    with pytest.raises(ExceptionGroup) as caught:
        async with world.mounted(source="#none."):
            pass
    assert caught.group_contains(VolumeMissing)
    world.dead.add("home.org")
    with pytest.raises(ExceptionGroup) as caught:
        async with world.mounted(source="#root.cell."):
            pass
    assert caught.group_contains(CellUnreachable)


async def test_unknown_inodes_are_stale_everywhere(autojump_clock: MockClock) -> None:
    world = World()
    gone = Inode(4711)
    async with world.mounted() as m:
        for request in (
            m.look_up(gone, b"x", ANONYMOUS),
            m.stat(gone, ANONYMOUS),
            m.fs.readlink(gone, ANONYMOUS),
            m.fs.open(gone, 0, ANONYMOUS),
            m.fs.opendir(gone, ANONYMOUS),
            m.fs.statfs(gone, ANONYMOUS),
            m.fs.access(gone, 0, ANONYMOUS),
            m.fs.getxattr(gone, b"afs.fid", ANONYMOUS),
            m.fs.listxattr(gone, ANONYMOUS),
        ):
            with pytest.raises(StaleInode):
                await request


async def test_access_tells_the_truth(autojump_clock: MockClock) -> None:
    world = World()
    world.home.file(b"script", mode=0o755)
    world.home.file(b"text", mode=0o644)
    world.home.link(b"link", b"text")
    async with world.mounted(source="#root.cell.") as m:

        async def may(name: bytes, mask: int) -> bool:
            return await m.fs.access(await m.walk(name), mask, ANONYMOUS)

        assert await may(b"script", os.X_OK | os.R_OK)
        assert await may(b"text", os.R_OK)
        assert not await may(b"text", os.X_OK)
        assert await may(b"link", os.R_OK)
        assert not await may(b"text", os.W_OK)
        text = await m.walk(b"text")
        world.home.root.rights = Rights.LOOKUP
        m.break_callback([world.home.root])
        assert not await m.fs.access(text, os.R_OK, ANONYMOUS)
        assert await m.fs.access(text, os.F_OK, ANONYMOUS)
        assert await may(b"link", os.R_OK)
        world.home.root.rights = Rights.LOOKUP | Rights.WRITE
        m.break_callback([world.home.root])
        assert await m.fs.access(text, os.W_OK, ANONYMOUS)
        assert not await m.fs.access(text, os.R_OK | os.W_OK, ANONYMOUS)
        assert not await m.fs.access(ROOT_INODE, os.W_OK, ANONYMOUS)
        world.home.root.rights = Rights.LOOKUP | Rights.DELETE
        m.break_callback([world.home.root])
        assert await m.fs.access(ROOT_INODE, os.W_OK | os.X_OK, ANONYMOUS)


async def test_where_nobody_can_write(autojump_clock: MockClock) -> None:
    world = World()
    everything = Rights(127)
    world.home.root.rights = everything
    for name, type in (("sub.readonly", VolumeType.RO), ("sub.backup", VolumeType.BACKUP)):
        volume = world.volume(name, type=type)
        volume.root.rights = everything
        volume.file(b"f")
        world.home.mountpoint(name.encode(), f"#{name}.".encode())
    async with world.mounted() as m:
        for path in (b"sub.readonly", b"sub.readonly/f", b"sub.backup", b"sub.backup/f"):
            inode = await m.walk(b"home.org/" + path)
            assert await m.fs.access(inode, os.R_OK, ANONYMOUS)
            with pytest.raises(AfsError) as caught:
                await m.fs.access(inode, os.R_OK | os.W_OK, ANONYMOUS)
            assert caught.value.errno == errno.EROFS
        with pytest.raises(AfsError) as caught:
            await m.fs.access(ROOT_INODE, os.W_OK, ANONYMOUS)
        assert caught.value.errno == errno.EROFS
        assert await m.fs.access(await m.walk(b"home.org"), os.W_OK, ANONYMOUS)


async def test_everything_is_given_back_in_the_end(autojump_clock: MockClock) -> None:
    world = World()
    top = world.home.directory(b"d")
    for number in range(20):
        world.home.file(b"f%d" % number, at=top)
    world.home.mountpoint(b"m", b"#sub.")
    world.volume("sub").file(b"x")
    async with world.mounted() as m:
        held: list[Inode] = []
        for path in (b"home.org", b"home.org/d", b"home.org/m", b"home.org/m/x", b"@cell"):
            inode = Inode(1)
            for name in path.split(b"/"):
                inode = (await m.look_up(inode, name, ANONYMOUS)).inode
                held.append(inode)
        handle = await m.fs.opendir(held[2], ANONYMOUS)
        for listing in await m.fs.readdir(handle, 0, 100):
            m.fs.listed(handle, listing)
            if listing.name not in (b".", b".."):
                held.append(listing.entry.inode)
        m.fs.releasedir(handle)
        m.fs.releasedir(handle)  # never raises
        m.fs.forget([(inode, 1) for inode in held])
        statistics = m.fs.statistics()
        assert (statistics.nodes.nodes, statistics.nodes.lookups) == (1, 1)
        assert (statistics.open_files, statistics.open_directories) == (0, 0)


async def test_handles_that_are_not_open(autojump_clock: MockClock) -> None:
    world = World()
    async with world.mounted() as m:
        for request in (m.fs.read(9, 0, 1), m.fs.readdir(9, 0, 1)):
            with pytest.raises(AfsError) as caught:
                await request
            assert caught.value.errno == errno.EBADF


async def test_a_file_that_was_there_and_may_not_be_opened_is_not_held(
    autojump_clock: MockClock,
) -> None:
    """The kernel is told of no inode then, so it would never give it back."""
    world = World()
    world.home.file(b"f", b"hello", mode=0)
    async with world.mounted(source="#root.cell.") as m:
        with pytest.raises(AfsError) as caught:
            await m.fs.create(ROOT_INODE, b"f", 0o644, os.O_RDWR, ANONYMOUS)
        assert caught.value.errno == errno.EACCES
        assert m.fs.statistics().nodes.nodes == 1
