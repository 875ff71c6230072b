"""Extended attributes."""

import errno

import pytest
from trio.testing import MockClock

from afsfuse.auth.identity import ANONYMOUS
from afsfuse.errors import AfsError
from afsfuse.vfs import ROOT_INODE
from tests.unit.afsfuse.vfs.world import World


async def test_values(autojump_clock: MockClock) -> None:
    world = World()
    file = world.home.file(b"f")
    async with world.mounted(source="#root.cell.") as m:
        inode = await m.walk(b"f")
        names = await m.fs.listxattr(inode, ANONYMOUS)
        values = {name: await m.fs.getxattr(inode, name, ANONYMOUS) for name in names}
        fid = f"{file.fid.volume:x}:{file.fid.vnode:x}:{file.fid.unique:x}"
        assert values == {
            b"afs.acl": b"1\n0\nsystem:anyuser\t9\n",
            b"afs.cell": b"home.org",
            b"afs.fid": fid.encode(),
            b"afs.volume": b"root.cell",
        }


async def test_a_mount_point_has_those_of_its_target(autojump_clock: MockClock) -> None:
    world = World()
    world.home.mountpoint(b"m", b"#other.org:sub.")
    sub = world.volume("sub", cell="other.org")
    async with world.mounted(source="#root.cell.") as m:
        inode = await m.walk(b"m")
        assert await m.fs.getxattr(inode, b"afs.cell", ANONYMOUS) == b"other.org"
        assert await m.fs.getxattr(inode, b"afs.fid", ANONYMOUS) == b"%x:1:1" % sub.id


async def test_other_names_cost_nothing(autojump_clock: MockClock) -> None:
    world = World()
    world.home.mountpoint(b"m", b"#missing.")
    async with world.mounted(source="#root.cell.") as m:
        for inode in (ROOT_INODE, await m.page_inode(ROOT_INODE, b"m")):
            calls = world.client.calls.total() + world.locator.calls.total()
            for name in (b"security.selinux", b"system.posix_acl_access", b"user.x", b"afs.other"):
                with pytest.raises(AfsError) as caught:
                    await m.fs.getxattr(inode, name, ANONYMOUS)
                assert caught.value.errno == errno.ENODATA
            assert world.client.calls.total() + world.locator.calls.total() == calls
