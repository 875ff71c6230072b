"""Whether the machine has slept: trio's clock stands still then, and that of promises does not."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Callable

_CHECK = 2.0  # seconds between two looks
_SLEPT = 1.0  # seconds by which the clocks must differ


async def watch_sleep(told: Callable[[float], None]) -> None:
    """Call `told` with the seconds after each sleep, until cancelled."""
    if not hasattr(time, "CLOCK_BOOTTIME"):
        return
    before = time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()
    while True:
        await trio.sleep(_CHECK)
        ahead = time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()
        if ahead - before > _SLEPT:
            told(ahead - before)
        before = ahead
