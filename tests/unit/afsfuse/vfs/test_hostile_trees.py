"""Trees that a server or another user has laid out as traps."""

from __future__ import annotations

import gc
import tracemalloc
from typing import TYPE_CHECKING

import pytest

from afsfuse.auth.identity import ANONYMOUS
from afsfuse.errors import AfsError
from afsfuse.vfs import ROOT_INODE
from tests.unit.afsfuse.vfs.world import World

if TYPE_CHECKING:
    from trio.testing import MockClock

    from afsfuse.model import Inode

DEPTH = 10_000
MEASURED = 2000  # levels of these, since that is slow
NODE = 2500  # bytes that a mount point on the way may cost while the kernel holds it
HOME = "#root.cell:"


async def test_ten_thousand_mount_points_one_in_the_other(autojump_clock: MockClock) -> None:
    """The kernel ends a path before; a program can go on from directory to directory."""
    world = World()
    world.home.mountpoint(b"loop", b"#root.cell.")
    async with world.mounted(source="#root.cell.") as m:
        inode: Inode = (await m.fs.lookup(ROOT_INODE, b"loop", ANONYMOUS)).inode
        inodes = [inode]
        tracemalloc.start()
        try:
            for _ in range(MEASURED):
                inode = (await m.fs.lookup(inode, b"loop", ANONYMOUS)).inode
                inodes.append(inode)
            held = tracemalloc.get_traced_memory()[0]
            print(f"{held // MEASURED} bytes a level")
            assert held < NODE * MEASURED
            assert len(set(inodes)) == MEASURED + 1
            m.fs.forget([(inode, 1) for inode in inodes])
            del inodes
            gc.collect()
            assert tracemalloc.get_traced_memory()[0] < held / 10
        finally:
            tracemalloc.stop()
        assert m.fs.statistics().nodes.nodes == 1
        inodes = [(await m.fs.lookup(ROOT_INODE, b"loop", ANONYMOUS)).inode]
        for _ in range(DEPTH):
            inodes.append((await m.fs.lookup(inodes[-1], b"loop", ANONYMOUS)).inode)
        assert len(set(inodes)) == DEPTH + 1
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
        entry = await m.fs.lookup(ROOT_INODE, b"trap", ANONYMOUS)
        with pytest.raises(AfsError):
            await m.fs.opendir(entry.inode, ANONYMOUS)
        assert await m.read_all(await m.walk(b"beside")) == b"as it was"
        assert all(len(name) < 254 and "/" not in name for name in world.dns.queries)
