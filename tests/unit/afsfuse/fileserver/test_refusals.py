"""Servers that do not serve a volume: asked last, told of, and forgotten."""

from __future__ import annotations

from ipaddress import IPv4Network
from typing import TYPE_CHECKING

import pytest
import trio

from afsfuse.abortcodes import ABORT_CODES
from afsfuse.cell.volumes import Site, Volume
from afsfuse.errors import VolumeBusy, from_abort
from afsfuse.fileserver.preferences import Preferences
from afsfuse.fileserver.refusals import Refusals
from afsfuse.model import VolumeType
from tests.unit.afsfuse.fileserver.servers import world
from tests.unit.afsfuse.fileserver.test_rotation import sequence, timed

if TYPE_CHECKING:
    from trio.testing import MockClock

PREFERRED = [(IPv4Network("192.0.2.1"), 1)]
"""The first host is asked first, as long as it serves."""


@pytest.mark.parametrize("code", [110, 106, 103, 111])
async def test_a_server_that_refuses_a_volume_is_asked_last_for_a_while(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, code: int
) -> None:
    """Else each operation makes a detour, and from the tenth on waits there for three seconds."""
    caplog.set_level("INFO", "afsfuse.fileserver.refusals")
    async with world(hosts=2, preferences=Preferences(PREFERRED)) as w:
        first = w.hosts[0]
        first.abort = lambda: code
        for _ in range(20):
            await timed(w)
        assert first.calls["FetchStatus"] == 1
        assert w.locator.doubts == (code in (103, 111))  # its record is asked for again
        await trio.sleep(6)
        await timed(w)
        await timed(w)
        assert first.calls["FetchStatus"] == 2
        await trio.sleep(6)  # the second time is twice as long
        await timed(w)
        assert first.calls["FetchStatus"] == 2
        (refusal,) = w.client.refusals.of(w.volume).values()
        assert refusal.code == code
        assert ABORT_CODES[code].meaning in refusal.said
        first.abort = lambda: 0
        await trio.sleep(6)
        await timed(w)
        await timed(w)
        assert first.calls["FetchStatus"] == 4  # it is the preferred one again
        assert not w.client.refusals.of(w.volume)
    begin, end = caplog.messages
    assert begin.startswith("volume test.volume of cell test.afs is refused by file server 192.0.2")
    assert "is served by file server 192.0.2.1" in end
    assert "again, after 18 s" in end


async def test_each_kind_of_refusal_is_told_apart(autojump_clock: MockClock) -> None:
    async with world() as w:
        told = set()
        for code in (101, 103, 106, 110, 111, 113, -100):
            refusals = Refusals()
            error = from_abort(code)
            refusals.note(w.volume, w.hosts[0].server, error)
            (refusal,) = refusals.of(w.volume).values()
            told |= {refusal.word, refusal.said, error.message}
        assert len(told) == 3 * 7


async def test_a_server_is_never_asked_last_for_longer_than_five_minutes(
    autojump_clock: MockClock,
) -> None:
    async with world(hosts=2, preferences=Preferences(PREFERRED)) as w:
        w.hosts[0].abort = lambda: 106
        for _ in range(20):
            await timed(w)
            await trio.sleep(301)
        assert w.hosts[0].calls["FetchStatus"] == 20


async def test_of_servers_that_all_refuse_the_preferred_one_is_asked_first(
    autojump_clock: MockClock,
) -> None:
    async with world(hosts=2, preferences=Preferences(PREFERRED)) as w:
        codes = sequence(110, 110, 110)
        w.hosts[0].abort = lambda: next(codes)
        w.hosts[1].abort = lambda: 110
        assert await timed(w) < 1
        assert w.hosts[1].calls["FetchStatus"] == 3
        assert w.client.refusals.asked_last(w.volume) == [w.hosts[1].server]


async def test_refusals_are_forgotten_with_their_volume_and_their_site(
    autojump_clock: MockClock,
) -> None:
    async with world(hosts=2, preferences=Preferences(PREFERRED)) as w:
        w.hosts[0].abort = lambda: 103
        await timed(w)
        w.client.forget(w.volume)
        assert not w.client.refusals.of(w.volume)
        await timed(w)
        assert w.client.refusals.of(w.volume)
        w.volume.sites = (Site(w.hosts[1].server, 0),)  # what the record says by now
        await timed(w)
        assert not w.client.refusals.of(w.volume)


async def test_the_number_of_volumes_whose_refusals_are_remembered_is_bounded(
    autojump_clock: MockClock,
) -> None:
    async with world() as w:
        refusals = Refusals()
        error = VolumeBusy("the file server has no room for the call")
        volumes = [Volume(w.volume.cell, number, VolumeType.RW) for number in range(1000)]
        for volume in volumes:
            refusals.note(volume, w.hosts[0].server, error)
        kept = [volume for volume in volumes if refusals.of(volume)]
        assert kept == volumes[-256:]
        (refusal,) = refusals.of(volumes[-1]).values()
        assert (refusal.said, refusal.word) == (error.message, "refused")
