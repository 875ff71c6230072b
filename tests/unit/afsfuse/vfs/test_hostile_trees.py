"""Trees that a server or another user has laid out as traps."""

from __future__ import annotations

import errno
import gc
from typing import TYPE_CHECKING

import pytest

from afsfuse.auth.identity import ANONYMOUS
from afsfuse.errors import AfsError
from afsfuse.vfs import ROOT_INODE
from tests.unit.afsfuse.vfs.world import World

if TYPE_CHECKING:
    from trio.testing import MockClock

    from afsfuse.model import Inode

LEVELS = 100
HOME = "#root.cell:"


async def test_a_volume_that_is_mounted_in_itself_comes_to_an_end(
    autojump_clock: MockClock,
) -> None:
    """Also for a program that goes on from directory to directory, which has no longest path."""
    world = World()
    world.home.mountpoint(b"loop", b"#root.cell.")
    async with world.mounted(source="#root.cell.") as m:
        inodes: list[Inode] = [ROOT_INODE]
        end = 0
        while not end and len(inodes) < LEVELS:
            try:
                inodes.append((await m.look_up(inodes[-1], b"loop", ANONYMOUS)).inode)
            except AfsError as exc:
                end = exc.errno
        assert end == errno.ELOOP
        assert len(inodes) > 2
        assert len(set(inodes)) == len(inodes)
        m.fs.forget([(inode, 1) for inode in inodes[1:]])
        gc.collect()
        assert m.fs.statistics().nodes.nodes == 1
        assert world.client.calls.total() < 10


@pytest.mark.parametrize(
    "body",
    [
        b"#../../etc:root.cell.", b"#a/b.org:root.cell.", b"#" + b"a." * 10_000 + b"org:v.",
        b"#.org:v.", b"#..:v.", b"#x..org:v.", b"#" + b"l" * 64 + b".org:v.", b"#a\0b.org:v.",
        b"#-:v.", b"#:v.", b"#cell:.", b"#" + b"v" * 10_000 + b".", b"#a b:v.", b"%" * 500,
    ],
    ids=lambda body: body[:12].decode("ascii", "backslashreplace"),
)  # fmt: skip
async def test_what_a_mount_point_can_name(autojump_clock: MockClock, body: bytes) -> None:
    """It is shown, entering it fails, and the DNS is not asked for what is no cell's name."""
    world = World()
    world.home.mountpoint(b"trap", body)
    world.home.file(b"beside", b"as it was")
    async with world.mounted(source="#root.cell.") as m:
        entry = await m.look_up(ROOT_INODE, b"trap", ANONYMOUS)
        with pytest.raises(AfsError):
            await m.fs.opendir(entry.inode, ANONYMOUS)
        assert await m.read_all(await m.walk(b"beside")) == b"as it was"
        assert all(len(name) < 254 and "/" not in name for name in world.dns.queries)
