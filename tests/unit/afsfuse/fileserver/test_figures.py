"""Operations are counted, timed and remembered when they fail."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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
    operations, one, other = Operations(lambda: 5.0), object(), object()
    who = Identity(uid=7)
    for volume, error in (
        (one, ServerUnreachable("silent", server="192.0.2.1")),
        (other, NotPermitted("no")),
        (other, trio.TooSlowError()),
    ):
        operations.end(operations.begin(operation(volume, who=who)), error)
    failure = operations.failure(one)  # type: ignore[arg-type]
    assert failure is not None
    assert (failure.at, failure.public, failure.error) == (5.0, True, "silent (server 192.0.2.1)")
    refused = operations.failure(other)  # type: ignore[arg-type]
    assert refused is not None
    assert (refused.who, refused.public) == (who, False)
    assert operations.statistics()[0].failures == 3
    operations.forget(one)  # type: ignore[arg-type]
    assert operations.failure(one) is None  # type: ignore[arg-type]
