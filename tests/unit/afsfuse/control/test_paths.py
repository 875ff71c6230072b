"""Inode numbers that commands name: what is behind them, and that nobody is told too much."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from afsfuse.auth.identity import ANONYMOUS, Identity
from afsfuse.control.mounted import Mounted
from afsfuse.control.paths import Paths
from afsfuse.control.verbs import Peer
from afsfuse.errors import ControlRefused, NotPermitted, StaleInode
from afsfuse.model import Rights
from afsfuse.vfs.mountpoints import MountPoint
from tests.unit.afsfuse.control.test_trees import world_of_two
from tests.unit.afsfuse.vfs.kernel import Kernel, mounted

if TYPE_CHECKING:
    from trio.testing import MockClock

OTHER = Peer(1001, 1001, 1)
INSIDER = Peer(ANONYMOUS.uid, 1, 1)
DEVICE = "0:53"


def paths_of(kernel: Kernel) -> Paths:
    m = kernel.m
    return Paths(
        Mounted(m.fs, m.cache, "/afs", lambda: DEVICE, lambda peer: Identity(uid=peer.uid))
    )


async def test_what_is_behind_a_path(autojump_clock: MockClock) -> None:
    async with mounted(world_of_two(), expire=0.0) as kernel:
        file = await kernel.walk("home.org/open/file")
        point = await kernel.walk("home.org/open")
        paths = paths_of(kernel)
        assert await paths.verbs["serves"]({}, OTHER) == {
            "device": DEVICE, "directory": "/afs", "pid": os.getpid(),
        }  # fmt: skip
        found = await paths.find({"device": DEVICE, "inode": file}, OTHER)
        assert found.mount.volume.name == "open.volume"
        assert found.vnode.fid == found.fid
        assert paths.mounted.shown(found.node.path()) == "/afs/home.org/open/file"
        entered = await paths.find({"device": DEVICE, "inode": point}, OTHER)
        assert (entered.mount.volume.name, entered.fid.vnode) == ("open.volume", 1)
        assert isinstance(await paths.node({"device": DEVICE, "inode": point}, OTHER), MountPoint)
        with pytest.raises(ControlRefused, match="shows cells"):
            await paths.find({"device": DEVICE, "inode": 1}, OTHER)


async def test_who_guesses_a_number_is_told_nothing(autojump_clock: MockClock) -> None:
    world = world_of_two()
    folder = world.home.directory(b"shut")
    folder.rights = Rights.NONE
    folder.permits[Identity(uid=ANONYMOUS.uid)] = Rights.LOOKUP | Rights.READ
    world.home.file(b"inner", b"text", at=folder)
    async with mounted(world, expire=0.0) as kernel:
        file = await kernel.walk("home.org/shut/inner")
        paths = paths_of(kernel)
        request = {"device": DEVICE, "inode": file}
        found = await paths.find(request, INSIDER)
        assert found.vnode.status.length == len(b"text")
        for ask in (paths.find, paths.node):
            with pytest.raises(NotPermitted) as refused:
                await ask(request, OTHER)
            assert "inner" not in str(refused.value)


async def test_requests_that_make_no_sense(autojump_clock: MockClock) -> None:
    async with mounted(world_of_two(), expire=0.0) as kernel:
        paths = paths_of(kernel)
        for request, error in (
            ({}, ControlRefused),
            ({"device": "0:1", "inode": 1}, ControlRefused),
            ({"device": DEVICE, "inode": "1"}, ControlRefused),
            ({"device": DEVICE, "inode": 4711}, StaleInode),
        ):  # type: tuple[dict[str, object], type[AfsError]]
            with pytest.raises(error):
                await paths.find(request, OTHER)
