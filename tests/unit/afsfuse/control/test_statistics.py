"""Pictures of a mount, for somebody who looks on."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any, cast

import trio

from afsfuse.control.outlets import Outlet
from afsfuse.control.statistics import SHORTEST, Overview
from afsfuse.control.verbs import Peer

if TYPE_CHECKING:
    from trio.testing import MockClock


class Numbered(Overview):
    """Its pictures are numbers."""

    def __init__(self) -> None:
        nothing = cast("Any", None)
        super().__init__(nothing, nothing, nothing, nothing, nothing, "")
        self._numbers = count()

    def shown(self, peer: Peer) -> dict[str, Any]:
        return {"n": next(self._numbers)}


async def test_a_slow_reader_has_few_pictures_kept_for_him(autojump_clock: MockClock) -> None:
    """Whoever takes one in ten seconds had thousands of them waiting, and any user may look on."""
    outlet = Outlet()
    async with trio.open_nursery() as nursery:
        watch = Numbered().streams["watch"]
        nursery.start_soon(watch, {"every": SHORTEST}, Peer(1001, 1001, 1), outlet)
        await trio.sleep(SHORTEST * 1000.5)
        assert await outlet.take() == [{"n": 0}, {"n": 1}]
        await trio.sleep(SHORTEST)
        assert await outlet.take() == [{"n": 2}], "and it goes on"
        nursery.cancel_scope.cancel()
