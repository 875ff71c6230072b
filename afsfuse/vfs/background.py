"""Work of the vfs that goes on while nobody, or somebody impatient, waits for it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, TypeVarTuple

from afsfuse.cache.tasks import Tasks

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

log = logging.getLogger(__name__)

Args = TypeVarTuple("Args")


class Background(Tasks):
    """The nursery behind `FileSystem.run`; tasks started here end with it.

    A bug in one of them is logged and costs that task alone, as a bug in a request costs that
    request alone. Whoever waits for a task must therefore be woken in a `finally` of it.
    """

    def start(self, work: Callable[[*Args], Awaitable[object]], *args: *Args) -> None:
        """Start `work(*args)` as a task of its own."""
        if self._nursery is None:
            raise RuntimeError("FileSystem.run() is not running")
        self._nursery.start_soon(_guarded, work, args)


async def _guarded(work: Callable[[*Args], Awaitable[object]], args: tuple[*Args]) -> None:
    try:
        await work(*args)
    except Exception:  # cancellation is a BaseException and passes through
        log.exception("a background task of the vfs failed")
