"""Operations are counted, timed and remembered when they fail."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, cast

import pytest
import trio

from afsfuse.auth.identity import NOBODY, Identity
from afsfuse.errors import NotPermitted, ServerUnreachable
from afsfuse.fileserver.figures import BOUNDS, Operations
from afsfuse.fileserver.operation import Operation

if TYPE_CHECKING:
    from trio.testing import MockClock


async def unused(site: object) -> None:
    raise AssertionError


def operation(volume: Any, name: str = "FetchStatus", who: Identity = NOBODY) -> Operation[None]:
    return Operation(name, volume, unused, who)


async def test_durations_are_counted_in_classes(autojump_clock: MockClock) -> None:
    operations, volume = Operations(lambda: 5.0), object()
    for seconds in (0.0005, 0.02, 0.02, 100.0):
        running = operations.begin(operation(volume))
        assert operations.under_way() == [running]
        await trio.sleep(seconds)
        operations.end(running, None)
    assert operations.under_way() == []
    (figures,) = operations.statistics()
    assert (figures.name, figures.count, figures.failures) == ("FetchStatus", 4, 0)
    assert figures.seconds == pytest.approx(100.0405)
    counted = dict(zip((*BOUNDS, "more"), figures.durations, strict=True))
    assert {bound: count for bound, count in counted.items() if count} == {
        0.001: 1, 0.03: 2, "more": 1,
    }  # fmt: skip


async def test_the_last_failure_of_a_volume_is_remembered(autojump_clock: MockClock) -> None:
    time = itertools.count(5)
    operations, one, other = Operations(lambda: next(time)), cast("Any", object()), object()
    alice, bob = Identity(uid=7), Identity(uid=8)

    def fails(volume: object, who: Identity, error: Exception) -> None:
        operations.end(operations.begin(operation(volume, who=who)), error)

    def told(volume: object, *whose: Identity) -> tuple[float, str] | None:
        failure = operations.failure(cast("Any", volume), whose)
        return None if failure is None else (failure.at, failure.error)

    fails(one, alice, ServerUnreachable("silent", server="192.0.2.1"))
    assert told(one) == told(one, alice) == told(one, bob) == (5, "silent (server 192.0.2.1)")
    fails(other, alice, NotPermitted("no"))
    fails(other, alice, trio.TooSlowError())
    assert told(other, alice) == (6, "no")
    assert told(other, bob) is told(other) is None
    fails(one, bob, NotPermitted("nor bob"))
    assert told(one, bob) == (7, "nor bob")
    assert told(one, alice) == (5, "silent (server 192.0.2.1)"), "not hidden by another one's"
    assert operations.statistics()[0].failures == 4
    operations.forget(one)
    assert told(one, bob) is None
    assert told(other, alice) == (6, "no")
    for number in range(300):
        fails(object(), Identity(uid=number), NotPermitted("no"))
    assert told(other, alice) is None
    assert len(operations._failures) == 256
