"""A moment of looking before the event loop sleeps.

A program that opens, reads and closes one file after the other asks for the next thing some
microseconds after it was given the last. To sleep in between costs more than to look: a processor
goes idle and has to be woken, which on a virtual machine takes some 20 us of whoever wakes it, and
as long again until the woken one runs. So when something came soon after the loop had nothing to
do, it looks for a moment the next time, and sleeps only then. Where things come slowly it sleeps
at once, as it does on a machine of one processor, which the others need, or in a control group that
has the time of less than two.

What comes each time just after the look makes all looks vain, and so does what comes in pairs, of
which the second one is missed. So after each vain look in a row it looks half as often.

Linux does the same for virtual machines that have nothing to do: `Documentation/virt/kvm/
halt-polling.rst`.
"""

from __future__ import annotations

import contextlib
import math
import os
import select
import time
from pathlib import Path
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

LOOK_SECONDS = 100e-6
"""How long it looks: a call to a server near by takes about so long."""
SOON_SECONDS = 200e-6
"""What came within this time, came soon. A sleep of `LOOK_SECONDS` with its end is no longer."""
_PAUSE_MAX = 255  # waits in a row without a look


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
        self._pause = 0  # waits without a look after a vain one; 0: the last was not vain
        self._skip = 0  # ... that are left of them
        self._idle_since = 0.0

    def before_io_wait(self, timeout: float) -> None:
        """trio is going to sleep, unless `timeout` is 0."""
        if timeout <= 0:
            return
        self._idle_since = self._clock()
        if self._skip:
            self._skip -= 1
        elif self._came_soon:
            self._look(self._idle_since + LOOK_SECONDS)

    def _look(self, end: float) -> None:
        while not self._watched.poll(0):
            if self._clock() >= end:
                self._pause = self._skip = min(2 * self._pause + 1, _PAUSE_MAX)
                return
        self._pause = 0

    def after_io_wait(self, timeout: float) -> None:
        """It has slept, or found something to do at once."""
        if timeout > 0:
            self._came_soon = self._clock() - self._idle_since < SOON_SECONDS


def linger(descriptors: Iterable[int]) -> None:
    """Have this event loop look before it sleeps, if others have a processor meanwhile."""
    if len(os.sched_getaffinity(0)) > 1 and quota() >= 2:
        trio.lowlevel.add_instrument(Lingering(descriptors))


def quota(own: Path = Path("/proc/self/cgroup"), tree: Path = Path("/sys/fs/cgroup")) -> float:
    """The time of how many processors the control groups of this process leave to it; inf: of all.

    A container of one processor is often one that may use all of them, but not for long. What
    cannot be read is no limit. Sources: Documentation/admin-guide/cgroup-v2.rst (cpu.max) and
    Documentation/scheduler/sched-bwc.rst (version 1) of Linux.
    """
    least = math.inf
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return least
    for line in lines:
        number, controllers, path = line.split(":", 2)
        if number == "0":
            roots = [tree, tree / "unified"]
        elif "cpu" in controllers.split(","):
            roots = [tree / "cpu", tree / controllers]
        else:
            continue
        parts = path.strip("/").split("/")
        for root in roots:  # in a container the root can be the group, by whatever path
            for depth in range(len(parts) + 1):
                least = min(least, _limit(root.joinpath(*parts[:depth])))
    return least


def _limit(group: Path) -> float:
    """What one control group may use, in processors."""
    for names in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
        with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
            words = [word for name in names for word in (group / name).read_text().split()]
            given, period = map(int, words)  # "max" is no number
            return given / period if given >= 0 else math.inf
    return math.inf
