"""statfs."""

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from afsfuse.auth.identity import ANONYMOUS, NOBODY
from afsfuse.interfaces.fileserver import VolumeStatus
from afsfuse.vfs import ROOT_INODE
from afsfuse.vfs.space import space_of
from tests.unit.afsfuse.vfs.world import World


@pytest.mark.parametrize(
    ("quota", "used", "left", "partition", "blocks", "free"),
    [
        (5000, 1200, 90_000, 100_000, 5000, 3800),
        (5000, 6000, 90_000, 100_000, 5000, 0),  # over quota
        (5000, 1200, 100, 100_000, 5000, 100),  # the partition is nearly full
        (0, 1200, 90_000, 100_000, 100_000, 90_000),  # no quota
        (0, 0, -1, 0, 0, 0),
        (5000, 0, -7, 100_000, 5000, 0),
    ],
)
def test_quota_or_partition(
    quota: int, used: int, left: int, partition: int, blocks: int, free: int
) -> None:
    space = space_of(VolumeStatus(1, 1, 1, 1, 1, 0, 0, 0, quota, used, left, partition))
    assert (space.blocks, space.blocks_free) == (blocks, free)
    assert (space.block_size, space.name_max) == (1024, 255)


async def test_a_volume_is_asked_once_in_a_while(autojump_clock: MockClock) -> None:
    world = World()
    world.home.mountpoint(b"m", b"#sub.")
    world.volume("sub").quota = 77
    async with world.mounted(source="#root.cell.") as m:
        for _ in range(5):
            assert (await m.fs.statfs(ROOT_INODE, ANONYMOUS)).blocks == 5000
        assert (await m.fs.statfs(await m.walk(b"m"), ANONYMOUS)).blocks == 77
        assert world.client.calls["volume_status"] == 2
        await trio.sleep(10)
        await m.fs.statfs(ROOT_INODE, ANONYMOUS)
        assert world.client.calls["volume_status"] == 3


async def test_not_all_volumes_are_remembered(autojump_clock: MockClock) -> None:
    world = World()
    async with world.mounted(source="#root.cell.") as m:
        spaces: Any = m.fs.spaces
        for number in range(300):
            volume: Any = world.volume(f"v{number}")
            await spaces.space(volume, NOBODY)
        assert len(spaces._known) == 256
