"""Work of the vfs that goes on while nobody, or somebody impatient, waits for it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, TypeVarTuple

import trio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

log = logging.getLogger(__name__)

Args = TypeVarTuple("Args")


class Background:
    """The nursery behind `FileSystem.run`; tasks started here end with it.

    A bug in one of them is logged and costs that task alone, as a bug in a request costs that
    request alone. Whoever waits for a task must therefore be woken in a `finally` of it.
    """

    def __init__(self) -> None:
        self._nursery: trio.Nursery | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                task_status.started()
                await trio.sleep_forever()
            finally:
                self._nursery = None

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
