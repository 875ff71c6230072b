"""Two cells at once, with another number of the same user in each; one of them dies.

Time is virtual, so what an operation waits for can be told exactly: whatever the dead cell does,
the same operations in the other one take the same time as before, while all who wait for the dead
one still wait.
"""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio

from afsfuse.acl import from_letters
from afsfuse.auth.identity import Caller
from afsfuse.auth.security import Credentials
from afsfuse.cell.cellservdb import CellFiles, parse_cellservdb
from afsfuse.democell import DemoCell
from afsfuse.democell.acl import AccessList
from afsfuse.democell.trees import MountPoint, plant
from afsfuse.errors import AfsError
from afsfuse.interfaces import fileserver as fs
from afsfuse.interfaces import vldb
from afsfuse.interfaces.protection import ANYUSER
from rxrpc import NULL, Endpoint
from tests.cell.site import composed
from tests.cell.walker import ROOT_INODE, Walker
from tests.net import LossyNetwork

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from afsfuse.auth.identity import Identity
    from afsfuse.cache import CacheManager
    from afsfuse.vfs import FileSystem
    from rxrpc.security.base import ClientSecurity
    from tests.cell.site import Site

ALICE = Caller(uid=1000, gid=1000, tid=0)
NUMBERS = {"here.test": 1001, "there.test": 2002}
CLIENT = ("192.0.2.100", 7001)
ADDRESSES = {"here.test": "192.0.2.11", "there.test": "192.0.2.21"}
CROWD = 100


def make_cell(name: str) -> DemoCell:
    """A cell in which everybody may look, and `private` is alice's alone."""
    cell = DemoCell(name, [ADDRESSES[name]], rng=random.Random(name))
    cell.people.add_user("alice", NUMBERS[name])
    everybody = AccessList({ANYUSER: from_letters("rl")})
    hers = AccessList({NUMBERS[name]: from_letters("rlidwka")})
    cell.create_volume("root.cell", acl=everybody)
    volumes = [f"v{number}" for number in range(CROWD)]
    for volume in ("private", *volumes):
        cell.create_volume(volume, acl=hers)
    points = {v.encode(): MountPoint(b"#%s." % v.encode()) for v in ("private", *volumes)}
    plant(cell.volume("root.cell"), {**points, b"file": b"public"})
    plant(cell.volume("private"), {b"f%d" % number: b"secret" for number in range(CROWD)})
    return cell


class Tokens(Credentials):
    """One for each cell, for one user."""

    def __init__(self, cells: list[DemoCell]) -> None:
        self._tokens = {cell.name: cell.token_for("alice").security(time.time) for cell in cells}

    def of(self, who: Identity, cell: str) -> ClientSecurity:
        return self._tokens[cell] if who.uid == ALICE.uid else NULL


class Both:
    """The two cells as a place to be mounted."""

    name = "here.test"

    def __init__(self, cells: list[DemoCell], network: LossyNetwork) -> None:
        self.cells = {cell.name: cell for cell in cells}
        self.network = network

    def endpoint(self) -> Endpoint:
        return Endpoint(socket=self.network.socket(CLIENT))

    def files(self) -> CellFiles:
        text = "".join(f">{name}\n{ADDRESSES[name]} #fs\n" for name in self.cells)
        return CellFiles(self.name, parse_cellservdb(text, "test"))


class Desk:
    """A client of both, and what happens to them."""

    def __init__(self, both: Both, filesystem: FileSystem, cache: CacheManager) -> None:
        self.both = both
        self.vfs = filesystem
        self.here, self.there = (
            Walker(filesystem, name, cache, ALICE) for name in ("here.test", "there.test")
        )
        self._names = 0

    def kill(self, *ports: int) -> None:
        """Cut the second cell's services off."""
        for port in ports:
            self.both.network.partition(CLIENT, (ADDRESSES["there.test"], port))

    async def work(self, walk: Walker) -> None:
        """A bit of everything, in calls to servers, the location server among them."""
        self._names += 1
        name = f"private/new{self._names}"
        await walk.create(name)
        await walk.rename(name, f"{name}-moved")
        await walk.unlink(f"{name}-moved")
        assert await walk.read(f"private/f{self._names}", writable=True) == b"secret"
        assert len(await walk.list("private", writable=True)) == CROWD
        assert await walk.list(f"v{self._names}", writable=True) == set()  # a volume not seen yet
        await self.vfs.statfs((await walk.entry(f"v{self._names}", writable=True)).inode, ALICE)
        await self.top()

    async def top(self) -> set[bytes]:
        """The list of cells."""
        handle = await self.vfs.opendir(ROOT_INODE, ALICE)
        listings = await self.vfs.readdir(handle, 0, 1 << 16)
        self.vfs.releasedir(handle)
        return {listing.name for listing in listings}

    async def timed(self, walk: Walker) -> float:
        """The virtual seconds of a bit of everything."""
        began = trio.current_time()
        await self.work(walk)
        return trio.current_time() - began


@asynccontextmanager
async def desk_of_two() -> AsyncIterator[Desk]:
    network = LossyNetwork(random.Random(1), min_delay=0.001, max_delay=0.001)
    cells = [make_cell(name) for name in NUMBERS]
    both = Both(cells, network)
    site: Site = both  # type: ignore[assignment]  # no more of it is used
    async with trio.open_nursery() as nursery:
        await nursery.start(network.run)
        async with (
            cells[0].serving(network.socket),
            cells[1].serving(network.socket),
            composed(site, Tokens(cells)) as (filesystem, cache),
        ):
            yield Desk(both, filesystem, cache)
        nursery.cancel_scope.cancel()


async def test_a_user_is_another_number_in_each_cell(autojump_clock: object) -> None:
    async with desk_of_two() as desk:
        for walk, number in ((desk.here, 1001), (desk.there, 2002)):
            await desk.work(walk)
            await walk.create("private/mine")
            volume = desk.both.cells[walk.cell].volume("private")
            owners = [vnode.owner for vnode in volume.vnodes.values()]
            assert owners.count(number) == 1
        with pytest.raises((AfsError, FileNotFoundError)):
            await desk.vfs.lookup(
                (await desk.there.entry("private", writable=True)).inode, b"f1",
                Caller(uid=1001, gid=1001, tid=0),
            )  # fmt: skip


Wait = Callable[[Desk, int], Awaitable[object]]


def read_known(desk: Desk, number: int) -> Awaitable[object]:
    """Of a volume whose place is known."""
    return desk.there.read(f"private/f{number}", writable=True)


def enter_unknown(desk: Desk, number: int) -> Awaitable[object]:
    return desk.there.list(f"v{number}", writable=True)


SILENT: tuple[Wait, Wait] = (read_known, enter_unknown)
DEATHS: dict[str, tuple[tuple[int, ...], Wait]] = {
    "file server": ((fs.PORT,), read_known),
    "location server": ((vldb.PORT,), enter_unknown),
    "all": ((fs.PORT, vldb.PORT), lambda desk, n: SILENT[n % 2](desk, n)),
}


@pytest.mark.parametrize("callers", [1, CROWD])
@pytest.mark.parametrize("death", DEATHS)
async def test_a_dead_cell_does_not_slow_the_other_one(
    death: str, callers: int, autojump_clock: object
) -> None:
    ports, wait = DEATHS[death]
    errors: list[int | None] = []

    async with desk_of_two() as desk:
        for walk in (desk.here, desk.there):
            await walk.list("private", writable=True)
        await desk.work(desk.here)
        usual = await desk.timed(desk.here)
        desk.kill(*ports)

        async def suffer(number: int) -> None:
            try:
                await wait(desk, number)
            except AfsError as exc:
                errors.append(exc.errno)

        async with trio.open_nursery() as nursery:
            for number in range(callers):
                nursery.start_soon(suffer, number)
            await trio.sleep(0.5)
            for _ in range(5):
                took = await desk.timed(desk.here)
                assert took <= usual + 0.01
            assert await desk.top() >= {b"here.test", b"there.test"}
            assert not errors, "they wait still"
            await trio.sleep(100)
            assert await desk.timed(desk.here) <= usual + 0.01  # and while it is known to be dead
        assert len(errors) == callers
        desk.both.network.heal()
        await trio.sleep(120)  # it is probed, whatever else is dead or alive
        await desk.work(desk.there)


async def test_a_dead_cell_does_not_hold_up_the_end(autojump_clock: object) -> None:
    """Trees go, promises are given back where anybody listens, and waits are ended."""
    async with trio.open_nursery() as nursery:
        async with desk_of_two() as desk:
            for walk in (desk.here, desk.there):
                await walk.list("private", writable=True)
            desk.kill(fs.PORT, vldb.PORT)
            for number in range(CROWD):
                nursery.start_soon(patiently, desk.there.read, f"private/f{number}")
            await trio.sleep(0.5)
            began = trio.current_time()
        assert trio.current_time() - began < 10
        assert desk.both.cells["here.test"].faults.counts["GiveUpAllCallBacks"] == 1
        nursery.cancel_scope.cancel()


async def patiently(read: Callable[..., Awaitable[bytes]], path: str) -> None:
    try:
        await read(path, writable=True)
    except AfsError:
        await trio.sleep_forever()
