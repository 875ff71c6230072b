"""What is refused of servers' words is counted once, however often it is told."""

from __future__ import annotations

from afsfuse.errors import DataCorrupt
from afsfuse.refusals import Refused, counted, note


def test_a_reply_that_cannot_be_is_counted_once() -> None:
    before = counted()[Refused.REPLY]
    error = DataCorrupt("nonsense", cell="test.afs", server="192.0.2.1")
    again = error.again()
    assert counted()[Refused.REPLY] == before + 1
    assert str(again) == str(error) == "nonsense (cell test.afs, server 192.0.2.1)"
    assert (type(again), again.args, again.errno) == (DataCorrupt, error.args, error.errno)


def test_a_picture_has_all_kinds_and_does_not_change() -> None:
    before = counted()
    note(Refused.EXCESS, 3)
    assert set(before) == set(Refused)
    assert counted()[Refused.EXCESS] == before[Refused.EXCESS] + 3
