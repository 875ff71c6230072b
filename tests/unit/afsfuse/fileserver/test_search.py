"""Volumes that are not where their records say: found again, waited for, or given up."""

from __future__ import annotations

import errno
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import trio

from afsfuse.cell.volumes import Site, Volume
from afsfuse.errors import (
    VolumeMissing,
)
from tests.unit.afsfuse.fileserver.servers import world
from tests.unit.afsfuse.fileserver.test_rotation import failing, timed

if TYPE_CHECKING:
    from trio.testing import MockClock


@pytest.mark.parametrize("code", [103, 111])
async def test_a_moved_volume_is_found_again(autojump_clock: MockClock, code: int) -> None:
    async with world(hosts=2) as w:
        old, new = w.hosts
        w.volume.sites = (Site(old.server, 0),)
        old.abort = lambda: code

        def move(volume: Volume) -> None:
            volume.sites = (Site(new.server, 0),)

        w.locator.on_refresh = move
        assert await timed(w) < 0.1
        assert w.locator.refreshes == 1


@pytest.mark.parametrize(("code", "locked"), [(111, False), (103, True)])
async def test_a_volume_on_its_way_is_waited_for(
    autojump_clock: MockClock, code: int, locked: bool
) -> None:
    """Its old server has it no more before the record says where to; either says that it moves."""
    async with world(hosts=2) as w:
        old, new = w.hosts
        began = trio.current_time()

        def move(volume: Volume) -> None:
            volume.info = replace(volume.info, locked=locked)
            if trio.current_time() > began + 6:
                volume.sites = (Site(new.server, 0),)

        w.volume.sites = (Site(old.server, 0),)
        old.abort = lambda: code
        w.locator.on_refresh = move
        assert 6 < await timed(w) < 7.5
        w.volume.sites = (Site(old.server, 0),)
        w.locator.on_refresh = lambda volume: None
        error, elapsed = await failing(w, VolumeMissing)
        assert 14 < elapsed < 17
        assert error.code == code


async def test_a_volume_that_moves_again_and_again_is_caught(autojump_clock: MockClock) -> None:
    """Wherever it stays for a moment; a client that asks once a second would always be late."""
    async with world(hosts=2) as w:
        began = trio.current_time()

        def place() -> int:
            return int((trio.current_time() - began) / 1.1) % 2

        for number, host in enumerate(w.hosts):
            host.abort = lambda number=number: 0 if place() == number else 111  # type: ignore[misc]

        def look(volume: Volume) -> None:
            volume.sites = (Site(w.hosts[place()].server, 0),)

        w.locator.on_refresh = look
        for _ in range(40):
            await trio.sleep(1.05)
            assert await timed(w) < 0.5


async def test_a_volume_that_is_never_where_it_is_said_to_be(autojump_clock: MockClock) -> None:
    """Each record names another server, and none of them has it: that ends, too."""
    async with world(hosts=2) as w:
        for host in w.hosts:
            host.abort = lambda: 111

        def look(volume: Volume) -> None:
            volume.sites = (Site(w.hosts[w.locator.refreshes % 2].server, 0),)

        w.locator.on_refresh = look
        _, elapsed = await failing(w, VolumeMissing)
        assert 29 < elapsed < 32


async def test_a_volume_that_is_nowhere_is_missing(autojump_clock: MockClock) -> None:
    async with world() as w:
        w.hosts[0].abort = lambda: 103
        error, elapsed = await failing(w, VolumeMissing)
        assert w.locator.refreshes < 10
        assert 3 <= elapsed < 5
        assert error.errno == errno.ENODEV


async def test_a_volume_without_sites_is_missing(autojump_clock: MockClock) -> None:
    async with world() as w:
        w.volume.sites = ()
        error, _ = await failing(w, VolumeMissing)
        assert error.volume == "test.volume"


async def test_a_deleted_volume_is_what_the_locator_says(autojump_clock: MockClock) -> None:
    def gone(volume: Volume) -> None:
        raise VolumeMissing("the volume does not exist any more")

    async with world() as w:
        w.hosts[0].abort = lambda: 103
        w.locator.on_refresh = gone
        error, _ = await failing(w, VolumeMissing)
        assert "does not exist" in str(error)
