"""The vnode table: identity, bounds, and what a vnode costs."""

from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING

import pytest

from afsfuse.cache.vnodes import Vnode, VnodeTable
from afsfuse.interfaces.fileserver import Fid
from tests.unit.afsfuse.cache.fakes import VOLUME_ID, fid, make_status, make_volume

if TYPE_CHECKING:
    from afsfuse.cell.volumes import Volume
    from afsfuse.model import Status


class World:
    """A table with a listener that holds what it is told to."""

    def __init__(self, limit: int = 100) -> None:
        self.held: set[Vnode] = set()
        self.dropped: list[Vnode] = []
        self.table = VnodeTable(limit, self.held.__contains__, self.dropped.append)
        self.volume = make_volume()

    def add(self, number: int, volume: Volume | None = None, status: Status | None = None) -> Vnode:
        volume = volume or self.volume
        vnode = Vnode(volume, fid(number, volume=volume.id), status or make_status())
        self.table.add(self.table.shelf(volume), vnode)
        return vnode


def test_a_promise_counts_until_ten_seconds_before_its_end() -> None:
    vnode = World().add(2)
    assert not vnode.valid(0.0)
    assert vnode.remaining(0.0) == 0
    vnode.expires = 100.0
    assert vnode.valid(89.9)
    assert not vnode.valid(90.0)
    assert vnode.remaining(40.0) == pytest.approx(50.0)
    assert vnode.remaining(95.0) == 0


def test_vnodes_are_found_by_volume_and_fid() -> None:
    world = World()
    vnode = world.add(2)
    assert world.table.find(world.volume, fid(2)) is vnode
    assert world.table.find(world.volume, fid(2, unique=9)) is None
    assert world.table.find(make_volume(7), fid(2, volume=7)) is None
    assert world.table.with_fid(fid(2)) == [vnode]
    assert world.table.of_volume(VOLUME_ID) == [vnode]
    assert world.table.of_volume(1) == []
    assert repr(vnode) == f"<Vnode test.afs:{VOLUME_ID}.2.1>"


def test_cells_may_use_the_same_volume_number() -> None:
    world = World()
    other = make_volume()
    other.cell.name = "other.afs"
    vnodes = [world.add(2), world.add(2, other)]
    assert world.table.find(other, fid(2)) is vnodes[1]
    assert world.table.with_fid(fid(2)) == vnodes
    assert world.table.of_volume(VOLUME_ID) == vnodes


def test_the_least_used_leave_and_lose_their_promise() -> None:
    world = World(limit=100)
    first = world.add(2)
    first.expires = 1e9
    for number in range(1, 500):
        world.add(2 + 2 * number).used = False
        first.used = number < 250
    assert len(world.table) <= 101
    assert first in world.dropped
    assert first.expires == 0.0
    assert world.table.find(world.volume, fid(2)) is None


def test_held_vnodes_stay_whatever_their_number() -> None:
    world = World(limit=50)
    for number in range(200):
        world.held.add(world.add(2 + 2 * number))
    assert len(world.table) == 200
    assert not world.dropped
    world.held.clear()
    for number in range(200, 400):
        world.add(2 + 2 * number).used = False
    assert len(world.table) <= 51


def test_adding_to_a_full_table_of_held_vnodes_stays_cheap() -> None:
    world = World(limit=10)
    looked_at = 0

    def held(vnode: Vnode) -> bool:
        nonlocal looked_at
        looked_at += 1
        return True

    table = VnodeTable(10, held, world.dropped.append)
    shelf = table.shelf(world.volume)
    for number in range(1000):
        table.add(shelf, Vnode(world.volume, fid(number), make_status()))
    assert looked_at <= 8 * 1000


def test_a_vnode_with_its_status_takes_less_than_two_kibibytes() -> None:
    world = World(limit=100_000)
    world.add(1_000_000)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for number in range(10_000):
            unshared = 1_000_000_000 + number  # numbers that no two statuses have in common
            status = make_status()._replace(
                length=unshared, data_version=unshared + 1, mtime=unshared + 2, owner=unshared + 3
            )
            world.add(2 * number, status=status).expires = float(unshared)
        each = (tracemalloc.get_traced_memory()[0] - before) / 10_000
    finally:
        tracemalloc.stop()
    assert each < 2048, f"{each:.0f} bytes"
    assert isinstance(next(iter(world.table)).fid, Fid)
