"""What the kernel is told to forget when somebody changes names beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from afsfuse.auth.identity import ANONYMOUS
from afsfuse.errors import AfsError
from afsfuse.model import Inode
from afsfuse.vfs.forgetting import Forgetting
from afsfuse.vfs.mountpoints import MountPoint
from tests.unit.afsfuse.vfs.world import World

if TYPE_CHECKING:
    from trio.testing import MockClock


async def test_another_sysname_makes_names_mean_other_things(autojump_clock: MockClock) -> None:
    world = World()
    world.home.file(b"bin.one", b"1")
    names = [b"two"]
    async with world.mounted(source="#home.org:root.cell.", sysnames=names) as m:
        forgetting = Forgetting(m.nodes, world.notifier, names)
        assert not (await m.fs.lookup(Inode(1), b"bin.@sys", ANONYMOUS)).inode
        world.notifier.take()
        forgetting.set_sysnames([b"one", b"two"])
        assert world.notifier.take() == [("name", 1, b"bin.@sys")]
        assert (await m.fs.lookup(Inode(1), b"bin.@sys", ANONYMOUS)).inode
        assert forgetting.sysnames == (b"one", b"two")
        wrong: tuple[list[bytes], ...] = ([], [b""], [b"a/b"], [b".."], [b"x" * 300], [b"x"] * 17)
        for each in wrong:
            with pytest.raises(AfsError):
                forgetting.set_sysnames(each)
        assert forgetting.sysnames == (b"one", b"two")


async def test_a_cell_and_mount_points_are_looked_up_anew(autojump_clock: MockClock) -> None:
    world = World()
    world.volume("other")
    world.home.mountpoint(b"point", b"#other.")
    async with world.mounted() as m:
        forgetting = Forgetting(m.nodes, world.notifier, [])
        assert not (await m.fs.lookup(Inode(1), b"new.org", ANONYMOUS)).inode
        inode = await m.walk(b"home.org/point")
        await m.names(inode)
        world.notifier.take()
        forgetting.cell_changed("new.org")
        assert world.notifier.take() == [("name", 1, b"new.org")]
        point = m.nodes.get(inode)
        assert isinstance(point, MountPoint)
        calls = world.locator.calls["home.org:other"]
        for forget in (forgetting.all_targets, lambda: forgetting.target(point)):
            forget()
            await m.names(inode)
            calls += 1
            assert world.locator.calls["home.org:other"] == calls
        await m.names(inode)
        assert world.locator.calls["home.org:other"] == calls
