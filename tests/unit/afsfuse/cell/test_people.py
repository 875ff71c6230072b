"""Names of users and groups, asked of a protection service on a network in memory."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import trio

from afsfuse.auth.identity import NOBODY
from afsfuse.cell.directory import CellDirectory
from afsfuse.cell.people import People, is_number
from afsfuse.cell.usernumbers import LIMITS, ProtectionService
from afsfuse.democell import DemoCell
from tests.cell.site import in_process

if TYPE_CHECKING:
    from trio.testing import MockClock

CELL = "test.afs"


async def test_who_is_known(autojump_clock: MockClock) -> None:
    cell = DemoCell(CELL, ("192.0.2.1",), rng=random.Random(1))
    cell.add_user("alice", 1001)
    async with in_process(cell) as site, trio.open_nursery() as nursery:
        endpoint = site.endpoint()
        await nursery.start(endpoint.run)
        people = People(ProtectionService(endpoint, LIMITS))
        found = await CellDirectory(site.files()).find(CELL)
        names = [b"alice", b"Alice", b"system:anyuser", b"anonymous", b"bob", b"1001", b"x" * 64]
        unknown = {b"bob", b"1001", b"x" * 64}
        assert await people.unknown(found, names, NOBODY) == unknown
        assert await people.unknown(found, [], NOBODY) == set()
        assert await people.name_of(found, b"1001", NOBODY) == b"alice"
        assert await people.name_of(found, b"-101", NOBODY) == b"system:anyuser"
        for number in (b"4711", b"alice", b"99999999999"):
            assert await people.name_of(found, number, NOBODY) is None
        nursery.cancel_scope.cancel()


async def test_servers_that_do_not_answer_know_everybody(autojump_clock: MockClock) -> None:
    """Whether a name is good the file server says then."""
    cell = DemoCell(CELL, ("192.0.2.1",), rng=random.Random(1))
    async with in_process(cell) as site, trio.open_nursery() as nursery:
        endpoint = site.endpoint()
        await nursery.start(endpoint.run)
        people = People(ProtectionService(endpoint, LIMITS))
        found = await CellDirectory(site.files()).find(CELL)
        found.vl_servers = (("192.0.2.66", 7003),)
        assert await people.unknown(found, [b"bob"], NOBODY) == set()
        assert await people.name_of(found, b"1001", NOBODY) is None
        nursery.cancel_scope.cancel()


def test_numbers_stand_for_those_who_are_gone() -> None:
    assert [is_number(name) for name in (b"1001", b"-204", b"alice", b"12a", b"")] == [
        True, True, False, False, False,
    ]  # fmt: skip
