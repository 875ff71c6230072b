"""The logical clock that sets breaks against fetches."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from afsfuse.cache.callbacks import BreakLog
from tests.unit.afsfuse.cache.fakes import VOLUME_ID, fid

if TYPE_CHECKING:
    from collections.abc import Hashable


def test_a_quiet_fetch_keeps_its_promise() -> None:
    log = BreakLog()
    log.note(fid(2))
    ticket = log.begin()
    assert not log.broken_since(ticket, fid(2), ["192.0.2.1"])


def test_a_break_of_the_fid_its_volume_or_its_server_counts() -> None:
    for key in (fid(2), VOLUME_ID, "192.0.2.1"):
        log = BreakLog()
        ticket = log.begin()
        log.note(key)
        assert log.broken_since(ticket, fid(2), ["192.0.2.7", "192.0.2.1"])
        assert not log.broken_since(log.begin(), fid(2), ["192.0.2.1"])


def test_breaks_of_others_do_not_count() -> None:
    log = BreakLog()
    ticket = log.begin()
    log.note(fid(4))
    log.note(VOLUME_ID + 1)
    log.note("192.0.2.9")
    assert not log.broken_since(ticket, fid(2), ["192.0.2.1"])


def test_a_break_of_everything_counts_for_all_fetches_under_way() -> None:
    log = BreakLog()
    ticket = log.begin()
    log.note_all()
    assert log.broken_since(ticket, fid(2))
    assert not log.broken_since(log.begin(), fid(2))


def test_nobody_joins_a_fetch_from_before_a_break() -> None:
    log = BreakLog()
    ticket = log.begin()
    assert log.may_join(ticket, fid(2))
    log.note(fid(4))
    assert log.may_join(ticket, fid(2))
    assert not log.may_join(ticket, fid(4))
    log.note_server(["192.0.2.1"])  # whichever server it was
    assert not log.may_join(ticket, fid(2))
    assert log.may_join(log.begin(), fid(2))
    ticket = log.begin()
    log.note_all()
    assert not log.may_join(ticket, fid(2))


def test_what_is_remembered_is_bounded_and_errs_on_the_safe_side() -> None:
    log = BreakLog(remembered=10)
    ticket = log.begin()
    for vnode in range(2, 100, 2):
        log.note(fid(vnode))
    assert log.broken_since(ticket, fid(2))
    assert log.broken_since(ticket, fid(1000))  # nobody knows any more
    assert not log.broken_since(log.begin(), fid(2))


def test_nothing_is_remembered_while_no_fetch_is_under_way() -> None:
    log = BreakLog(remembered=10)
    for _ in range(3):
        log.begin()
        log.note(fid(2))
        log.end()
    for vnode in range(1000):
        log.note(fid(vnode))
    assert not log.broken_since(log.begin(), fid(2))
    assert log._breaks == {}


def test_the_clock_moves_with_each_event() -> None:
    log = BreakLog()
    times = [log.begin(), log.begin()]
    log.note(fid(2))
    times += [log.now, log.begin()]
    assert times == sorted(set(times))


@pytest.mark.parametrize("key", [fid(2), VOLUME_ID])
def test_what_is_given_back_is_broken_all_the_time(key: Hashable) -> None:
    log = BreakLog()
    before = log.begin()
    log.suspend([key])
    log.suspend([key, fid(8)])  # by another call
    during = log.begin()
    log.note(fid(6))
    assert log.broken_since(before, fid(2))
    assert log.broken_since(during, fid(2))
    assert not log.may_join(during, fid(2))
    assert not log.broken_since(during, fid(4, volume=VOLUME_ID + 1))
    log.resume([key])
    assert log.broken_since(log.begin(), fid(2)), "one call is not over"
    later = log.begin()
    log.resume([key, fid(8)])
    for ticket in (before, during, later):
        assert log.broken_since(ticket, fid(2))
    assert not log.broken_since(log.begin(), fid(2))
