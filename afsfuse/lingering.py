"""A moment of looking before the event loop sleeps.

A program that opens, reads and closes one file after the other asks for the next thing some
microseconds after it was given the last. To sleep in between costs more than to look: a processor
goes idle and has to be woken, which on a virtual machine takes some 20 us of whoever wakes it, and
as long again until the woken one runs. So when something came soon after the loop had nothing to
do, it looks for a moment the next time, and sleeps only then. Where things come slowly it sleeps
at once, as it does on a machine of one processor, which the others need.

Linux does the same for virtual machines that have nothing to do: `Documentation/virt/kvm/
halt-polling.rst`.
"""

from __future__ import annotations

import os
import select
import time
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

LOOK_SECONDS = 100e-6
"""How long it looks: a call to a server near by takes about so long."""
SOON_SECONDS = 200e-6
"""What came within this time, came soon. A sleep of `LOOK_SECONDS` with its end is no longer."""


class Lingering(trio.abc.Instrument):
    """Looks at descriptors before an event loop sleeps. `clock` tells seconds."""

    def __init__(
        self, descriptors: Iterable[int], clock: Callable[[], float] = time.perf_counter
    ) -> None:
        """A descriptor that is closed later ends each look at once, and is no error."""
        self._clock = clock
        self._watched = select.poll()
        for descriptor in descriptors:
            self._watched.register(descriptor, select.POLLIN)
        self._came_soon = False
        self._idle_since = 0.0

    def before_io_wait(self, timeout: float) -> None:
        """trio is going to sleep, unless `timeout` is 0."""
        if timeout <= 0:
            return
        self._idle_since = self._clock()
        if self._came_soon:
            end = self._idle_since + LOOK_SECONDS
            while not self._watched.poll(0) and self._clock() < end:
                pass

    def after_io_wait(self, timeout: float) -> None:
        """It has slept, or found something to do at once."""
        if timeout > 0:
            self._came_soon = self._clock() - self._idle_since < SOON_SECONDS


def linger(descriptors: Iterable[int]) -> None:
    """Have this event loop look before it sleeps, if others have a processor meanwhile."""
    if len(os.sched_getaffinity(0)) > 1:
        trio.lowlevel.add_instrument(Lingering(descriptors))
