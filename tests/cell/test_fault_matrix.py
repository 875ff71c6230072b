"""The fault matrix on the cell in one process: its faults meet five loads of one client at once.

As `tests/interop/matrix` does it with kernel mounts and real servers, but on trio's autojump clock
and a network in memory: faults last as long as real ones and cost no time. The client gives up as
a mount with `soft` does, so faults are a little shorter than its patience. What it was told to be
stored is judged by a second client.
"""

from __future__ import annotations

import errno
import hashlib
import itertools
import os
import random
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
import trio

from afsfuse.auth.identity import ANONYMOUS
from afsfuse.democell import DemoCell
from afsfuse.democell.acl import AccessList
from afsfuse.democell.trees import MountPoint, plant
from afsfuse.errors import AfsError, ViceCode
from afsfuse.interfaces.protection import ANYUSER
from tests.cell.site import in_process, walker
from tests.net import LossyNetwork

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

    from tests.cell.walker import Walker
    from tests.conftest import ExpectedWarnings

CELL = "matrix.test"
FS1, FS2 = "192.0.2.11", "192.0.2.12"
CLIENT = ("192.0.2.100", 7001)
PIECES = {b"p%02d" % number: random.Random(number).randbytes(40_000) for number in range(80)}
TREE = {b"d%d" % d: {b"f%d" % f: b"%d %d" % (d, f) for f in range(6)} for d in range(5)}
STEP = 0.25  # seconds between two things that a load does
BLOCK = 50_000
BOUND = 90.0  # seconds after the fault within which each load has to go on
AFTER = b"after, by another client\n"


@dataclass
class Scene:
    """The cell, its network, and what the loads have seen so far."""

    cell: DemoCell
    network: LossyNetwork
    walk: Walker
    done: Counter[str] = field(default_factory=Counter)
    errors: dict[str, Counter[int]] = field(default_factory=dict)
    confirmed: dict[str, str] = field(default_factory=dict)
    """Digests of what is stored, by name."""


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def make_cell() -> DemoCell:
    """What the faults are about is on fs2; of the big files there is a copy on each server."""
    cell = DemoCell(CELL, [FS1, FS2], rng=random.Random(1))
    everything = AccessList({ANYUSER: 0x7F})
    for name, server in (("root.afs", "fs1"), ("root.cell", "fs1"), ("work", "fs2"),
                         ("copies", "fs2")):  # fmt: skip
        cell.create_volume(name, server=server, acl=everything)
    plant(cell.volume("root.afs"), {CELL.encode(): MountPoint(b"%root.cell.")})
    points = {b"work": MountPoint(b"%work."), b"copies": MountPoint(b"#copies.readonly.")}
    plant(cell.volume("root.cell"), points)
    plant(cell.volume("copies"), PIECES)
    plant(cell.volume("work"), {b"idle": b"before", b"tree": TREE, b"new": {}})
    return cell


# Loads: one step each; what it returns is what it was doing


async def reading(scene: Scene, number: int) -> None:
    name = b"p%02d" % (number % len(PIECES))
    assert await scene.walk.read(f"copies/{name.decode()}") == PIECES[name]


async def walking(scene: Scene, number: int) -> None:
    assert await scene.walk.list("work/tree", writable=True) == {f"d{d}" for d in range(5)}
    folder = f"work/tree/d{number % 5}"
    for name in await scene.walk.list(folder, writable=True):
        content = await scene.walk.read(f"{folder}/{name}", writable=True)
        assert content == TREE[b"d%d" % (number % 5)][name.encode()]


async def store(scene: Scene, path: str, data: bytes, flags: int) -> None:
    """A file is made or written anew, and closed; only then it counts as confirmed."""
    vfs = scene.walk.vfs
    parent, name = await scene.walk.parent(path)
    opened, _ = await vfs.create(parent, name, 0o644, flags | os.O_WRONLY, ANONYMOUS)
    try:
        await vfs.write(opened.handle, 0, data)
        await vfs.fsync(opened.handle)
        scene.confirmed[path] = digest(data)
    finally:
        vfs.release(opened.handle)


async def writing(scene: Scene, number: int) -> None:
    scene.confirmed.pop("work/big", None)  # neither the old one nor the new one is sure meanwhile
    data = random.Random(number).randbytes(BLOCK * (1 + number % 4))
    await store(scene, "work/big", data, os.O_TRUNC)


async def creating(scene: Scene, number: int) -> None:
    await store(scene, f"work/new/f{number}", b"%d" % number, os.O_EXCL)


LOADS = (reading, walking, writing, creating)


# Faults


@asynccontextmanager
async def server_restarted(scene: Scene) -> AsyncIterator[None]:
    """It is gone without a word, and its successor knows nobody."""
    await scene.cell.stop_server("fs2")
    await trio.sleep(10)
    await scene.cell.start_server("fs2")
    yield


def cut(
    *, there: bool = True, back: bool = True
) -> Callable[[Scene], AbstractAsyncContextManager[None]]:
    """The client's network, in one direction or both."""

    @asynccontextmanager
    async def happens(scene: Scene) -> AsyncIterator[None]:
        for address in itertools.product((FS1, FS2), (7000, 7003)):
            if there:
                scene.network.cut.add((CLIENT, address))
            if back:
                scene.network.cut.add((address, CLIENT))
        await trio.sleep(15)
        scene.network.heal()
        yield

    return happens


def state(code: ViceCode, seconds: float) -> Callable[[Scene], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def happens(scene: Scene) -> AsyncIterator[None]:
        await scene.cell.set_state("work", code)
        await trio.sleep(seconds)
        await scene.cell.set_state("work", None)
        yield

    return happens


@asynccontextmanager
async def moved(scene: Scene) -> AsyncIterator[None]:
    await scene.cell.move("work", "fs1")
    yield


def line(
    drop: float = 0.0, duplicate: float = 0.0, min_delay: float = 0.0001, max_delay: float = 0.0001
) -> Callable[[Scene], AbstractAsyncContextManager[None]]:
    """A bad line; delays are drawn for each packet, so they also reorder."""

    @asynccontextmanager
    async def happens(scene: Scene) -> AsyncIterator[None]:
        network = scene.network
        before = network.min_delay, network.max_delay
        network.drop, network.duplicate = drop, duplicate
        network.min_delay, network.max_delay = min_delay, max_delay
        await trio.sleep(30)
        network.drop = network.duplicate = 0.0
        network.min_delay, network.max_delay = before
        yield

    return happens


@asynccontextmanager
async def tunnel(scene: Scene) -> AsyncIterator[None]:
    """A way that carries 1280 bytes, and swallows what is longer."""
    scene.network.largest = 1280 - 28
    await trio.sleep(30)
    yield
    scene.network.largest = 65535


FAULTS: dict[str, Callable[[Scene], AbstractAsyncContextManager[None]]] = {
    "restart": server_restarted,
    "cut": cut(),
    "mute": cut(back=False),
    "deaf": cut(there=False),
    "busy": state(ViceCode.VBUSY, 20.0),
    "offline": state(ViceCode.VOFFLINE, 2.0),
    "missing": state(ViceCode.VNOVOL, 2.0),
    "move": moved,
    "loss20": line(drop=0.2, duplicate=0.05, max_delay=0.02),
    "twice": line(duplicate=1.0, max_delay=0.002),
    "jitter": line(min_delay=0.001, max_delay=0.25),
    "tunnel": tunnel,
    "far": line(min_delay=0.3, max_delay=0.3),
}


SILENT = ("restart", "cut", "mute", "deaf")
"""With `soft` ETIMEDOUT is said at once while a server is known to be down."""


def allowed(fault: str, load: str) -> set[int]:
    """What errors a load may see: what a replica can serve has none."""
    if fault in SILENT and (fault, load) != ("restart", "reading"):
        return {errno.ETIMEDOUT}
    return {errno.ETIMEDOUT} if load == "creating" else set()  # it may have been made


@dataclass
class Player:
    """Plays one fault."""

    scene: Scene
    stopped: bool = False
    stepped: trio.Event = field(default_factory=trio.Event)

    async def run(self, load: Callable[[Scene, int], Awaitable[None]]) -> None:
        """A load, again and again, whatever it meets."""
        name = load.__name__
        errors = self.scene.errors[name] = Counter()
        for number in itertools.count():
            if self.stopped:
                return
            try:
                await load(self.scene, number)
            except AfsError as exc:
                errors[exc.errno] += 1
            else:
                self.scene.done[name] += 1
                self.stepped.set()
                self.stepped = trio.Event()
            await trio.sleep(STEP)

    async def play(self, fault: Callable[[Scene], AbstractAsyncContextManager[None]]) -> None:
        scene = self.scene
        async with trio.open_nursery() as nursery:
            for load in LOADS:
                nursery.start_soon(self.run, load)
            with trio.fail_after(BOUND):
                while len(scene.done) < len(LOADS):
                    await self.stepped.wait()
            async with fault(scene):
                before = Counter(scene.done)
                with trio.fail_after(BOUND):
                    while any(scene.done[f.__name__] <= before[f.__name__] for f in LOADS):
                        await self.stepped.wait()
            self.stopped = True


@pytest.mark.parametrize("fault", FAULTS)
async def test_five_loads_survive(
    autojump_clock: object, expected_warnings: ExpectedWarnings, fault: str
) -> None:
    network = LossyNetwork(random.Random(fault), min_delay=0.0001, max_delay=0.0001)
    if fault in SILENT:
        expected_warnings("cannot be stored, and are kept: the file server does not answer")
    async with in_process(make_cell(), network) as site:
        await site.cell.replicate("copies", ["fs2", "fs1"])
        async with walker(site) as walk, walker(site) as judge:
            scene = Scene(site.cell, network, walk)
            idle = await walk.open("work/idle", writable=True)
            assert await walk.vfs.read(idle, 0, 99) == b"before"
            await Player(scene).play(FAULTS[fault])
            changing = await judge.open("work/idle", writable=True, flags=os.O_WRONLY)
            await judge.vfs.write(changing, 0, AFTER)
            await judge.vfs.flush(changing, 0)
            judge.vfs.release(changing)
            with trio.fail_after(BOUND):
                while await walk.vfs.read(idle, 0, 99) != AFTER:  # noqa: ASYNC110
                    await trio.sleep(STEP)
            walk.vfs.release(idle)
            for path, known in scene.confirmed.items():
                assert digest(await judge.read(path, writable=True)) == known, path
            for load, errors in scene.errors.items():
                assert set(errors) <= allowed(fault, load), (load, errors)
            assert scene.confirmed
            assert not walk.cache.statistics().dirty_bytes
