"""What is known of operations: which are under way, how those before went, what failed last.

An operation costs one small object and one entry in a table here, beside a call that takes a
thousand times as long. Who looks gets frozen snapshots.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import trio

from afsfuse.errors import (
    AfsError,
    CellUnreachable,
    ServerUnreachable,
    VolumeBusy,
    VolumeMissing,
    VolumeOffline,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from afsfuse.auth.identity import Identity
    from afsfuse.cell.servers import FileServer
    from afsfuse.cell.volumes import Volume
    from afsfuse.fileserver.operation import Operation

BOUNDS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
"""Seconds: the upper ends of the classes in which durations are counted; above is one more."""

_FAILURES_MAX = 256  # that are remembered

_PUBLIC = (CellUnreachable, ServerUnreachable, VolumeBusy, VolumeMissing, VolumeOffline)


class Running:
    """One operation that is under way."""

    __slots__ = ("operation", "server", "since")

    def __init__(self, operation: Operation[Any]) -> None:
        self.operation = operation
        self.since = trio.current_time()
        self.server: FileServer | None = None
        """The one that is being asked."""


@dataclass(frozen=True, slots=True)
class OperationStatistics:
    """How operations of one kind went since the start."""

    name: str
    count: int
    """Those that are over, well or not."""
    failures: int
    seconds: float
    """All of them together, with all their waiting and repeating."""
    durations: tuple[int, ...]
    """How many lasted up to each of `BOUNDS`, and longer; each counted once."""


@dataclass(frozen=True, slots=True)
class Failure:
    """The last operation on a volume that failed."""

    name: str
    at: float
    """Unix time."""
    who: Identity
    error: str
    public: bool
    """Whether it says something of a server or volume, and nothing of who asked or for what."""


class OperationWatcher(Protocol):
    """Somebody who wants to hear of each operation. Must not raise and not block."""

    def began(self, running: Running) -> None: ...

    def ended(self, running: Running, error: BaseException | None) -> None: ...


class NullWatcher:
    """Wants nothing."""

    def began(self, running: Running) -> None:
        """Nobody looks."""

    def ended(self, running: Running, error: BaseException | None) -> None:
        """Nobody looks."""


class _Kind:
    """The counters of one kind of operation."""

    __slots__ = ("durations", "failures", "seconds")

    def __init__(self) -> None:
        self.failures = 0
        self.seconds = 0.0
        self.durations = [0] * (len(BOUNDS) + 1)


class Operations:
    """Keeps account of all operations of one client."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        """`clock` gives Unix time, for people."""
        self._watcher: OperationWatcher = NullWatcher()
        self._clock = clock
        self._running: dict[Running, None] = {}
        self._kinds: dict[str, _Kind] = {}
        self._failures: OrderedDict[tuple[Volume, Identity | None], Failure] = OrderedDict()
        """Of each user the last one on a volume, and under None the last that may be told to all:
        what happens to one does not hide what happened to another.
        """

    def watch(self, watcher: OperationWatcher | None) -> None:
        """Tell somebody of each operation; nobody with None."""
        self._watcher = watcher or NullWatcher()

    def begin(self, operation: Operation[Any]) -> Running:
        """An operation begins; each `begin` must be followed by one `end`."""
        running = Running(operation)
        self._running[running] = None
        self._watcher.began(running)
        return running

    def end(self, running: Running, error: BaseException | None) -> None:
        """It is over."""
        del self._running[running]
        lasted = trio.current_time() - running.since
        name = running.operation.name
        kind = self._kinds.get(name)
        if kind is None:
            kind = self._kinds[name] = _Kind()
        kind.seconds += lasted
        kind.durations[bisect_left(BOUNDS, lasted)] += 1
        if isinstance(error, Exception):  # who gave up has not seen it fail
            kind.failures += 1
            if isinstance(error, AfsError):
                self._remember(running.operation, error)
        self._watcher.ended(running, error)

    def _remember(self, operation: Operation[Any], error: AfsError) -> None:
        public = isinstance(error, _PUBLIC)
        failure = Failure(operation.name, self._clock(), operation.who, str(error), public)
        for key in ((operation.volume, operation.who), (operation.volume, None))[: 1 + public]:
            self._failures.pop(key, None)
            self._failures[key] = failure
        while len(self._failures) > _FAILURES_MAX:
            self._failures.popitem(last=False)

    def forget(self, volume: Volume) -> None:
        """Nobody uses a volume any more."""
        for key in [key for key in self._failures if key[0] is volume]:
            del self._failures[key]

    def under_way(self) -> list[Running]:
        """Those that have not ended, oldest first."""
        return list(self._running)

    def failure(self, volume: Volume, whose: Iterable[Identity]) -> Failure | None:
        """What failed last on a volume, of what these may be told."""
        known = (self._failures.get((volume, who)) for who in (*whose, None))
        return max(filter(None, known), key=lambda failure: failure.at, default=None)

    def statistics(self) -> tuple[OperationStatistics, ...]:
        """A snapshot, by name."""
        return tuple(
            OperationStatistics(
                name, sum(kind.durations), kind.failures, kind.seconds, tuple(kind.durations)
            )
            for name, kind in sorted(self._kinds.items())
        )
