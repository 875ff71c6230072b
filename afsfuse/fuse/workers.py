"""Who of pyfuse3's workers waits for the next request.

pyfuse3 runs several copies of one loop: wait for the device, take a request, answer it. A lock
around the wait lets one of them do that at a time and hands over to the next for every request,
which costs a task switch and a turn of the event loop each time: more than most answers that come
out of the cache. So here a worker that has answered without waiting goes on waiting itself, and
hands over only when its answer is going to take time.

pyfuse3 finds its event loop's functions through `pyfuse3.trio`, which its own `pyfuse3.asyncio`
replaces in the same way to run without trio. `install` puts a `Loop` there.
"""

from __future__ import annotations

import select
from typing import TYPE_CHECKING, Any, TypeVar

import pyfuse3
import trio

if TYPE_CHECKING:
    from collections.abc import Coroutine, Generator

T = TypeVar("T")

_STREAK = 16
"""Requests answered without a look at other tasks."""


class Gate:
    """What stands in for the lock around the wait.

    `spare`: workers that pyfuse3 keeps idle; one more than these ends when it comes back, so it
    must have handed over before. `pass_on` is to be called when a worker is going to wait for
    something else than the device. After `close` each worker hands over at once, like a lock: the
    loop ends, and all of them have to learn it.
    """

    def __init__(self, spare: int) -> None:
        self._spare = spare
        self._taken = False
        self._closed = False
        self._idle = trio.lowlevel.ParkingLot()

    async def __aenter__(self) -> None:
        if self._taken:
            await self._idle.park()  # whoever wakes us leaves the gate taken, for us
        self._taken = True

    async def __aexit__(self, *exc: object) -> None:
        self._taken = False
        if self._closed or len(self._idle) > self._spare:
            self.pass_on()

    def pass_on(self) -> None:
        """Let another worker wait for requests, if none does and one is there."""
        if not self._taken and self._idle:
            self._taken = True
            self._idle.unpark()

    def close(self) -> None:
        """The mount ends."""
        self._closed = True
        self.pass_on()


class Loop:
    """What pyfuse3 takes for trio: the same, but for the lock and the wait that it guards."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.lowlevel = self
        self._device = select.poll()
        self._watched = -1
        self._streak = 0

    def __getattr__(self, name: str) -> object:
        """All that is not here: `open_nursery`, `ClosedResourceError`, `notify_closing`…"""
        return getattr(trio if hasattr(trio, name) else trio.lowlevel, name)

    def Lock(self) -> Gate:
        return self.gate

    async def wait_readable(self, descriptor: int) -> None:
        """Wait for a request; at once when there is one, as long as others are not kept waiting."""
        if self._watched != descriptor:
            self._device.register(descriptor, select.POLLIN)
            self._watched = descriptor
        self._streak += 1
        if self._streak < _STREAK and self._device.poll(0):
            return
        self._streak = 0
        try:
            await trio.lowlevel.wait_readable(descriptor)
        except trio.ClosedResourceError:
            self.gate.close()
            raise


class Answer:
    """Awaits a handler's work; the gate passes on if that really waits."""

    __slots__ = ("_gate", "_work")

    def __init__(self, gate: Gate, work: Coroutine[Any, Any, T]) -> None:
        self._gate = gate
        self._work = work

    def __await__(self) -> Generator[Any, Any, Any]:
        work = self._work.__await__()
        try:
            trap = next(work)
        except StopIteration as done:
            return done.value
        self._gate.pass_on()
        return (yield from _resumed(work, trap))


def _resumed(work: Generator[Any, Any, T], trap: object) -> Generator[Any, Any, T]:
    """`yield from work`, whose first trap was taken out already."""
    try:
        while True:
            try:
                answer = yield trap
            except BaseException as exc:
                trap = work.throw(exc)
            else:
                trap = work.send(answer)
    except StopIteration as done:
        result: T = done.value
        return result


def install(gate: Gate) -> None:
    """Have pyfuse3 use the gate from its next `main` on."""
    vars(pyfuse3)["trio"] = Loop(gate)


def uninstall() -> None:
    """Give pyfuse3 its trio back."""
    vars(pyfuse3)["trio"] = trio
