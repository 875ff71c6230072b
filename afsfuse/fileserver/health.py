"""Which file servers answer: who waits for them, which count as down, when they are back."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from types import TracebackType

    from afsfuse.cell.servers import FileServer

log = logging.getLogger(__name__)

_LATELY = 120.0  # seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthLimits:
    """When to give a server up, and when to ask it again. Times are seconds."""

    waiters: int = 256
    """Operations that may wait for one server that is silent; more fail at once."""

    silence: float = 3.0
    """A server of which waiting operations have not heard for so long is silent."""

    probe_interval: float = 5.0
    """Between two probes of a server that was heard of less than two minutes ago."""

    patient_interval: float = 30.0
    """... and of one that has been down for longer. Source: fs_probe.c."""


class _Record:
    """What is noted of one server beside its own fields."""

    __slots__ = ("address", "probe", "probe_at", "scopes", "since")

    def __init__(self) -> None:
        self.address = 0  # index of the address that answered last
        self.scopes: set[trio.CancelScope] = set()  # one for each operation that waits
        self.since = 0.0  # when the first of these began to wait
        self.probe: trio.Event | None = None  # a probe is under way
        self.probe_at: float | None = None  # when to probe next; None: the server is not down


class _Waiting:
    """One operation that waits for a server; a class since a generator would cost as much again."""

    __slots__ = ("_record", "_scope", "_server")

    def __init__(self, server: FileServer, record: _Record) -> None:
        self._server = server
        self._record = record
        self._scope = trio.CancelScope()

    def __enter__(self) -> None:
        if not self._server.waiting:
            self._record.since = trio.current_time()
        self._server.waiting += 1
        self._record.scopes.add(self._scope)
        self._scope.__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        self._server.waiting -= 1
        self._record.scopes.discard(self._scope)
        return self._scope.__exit__(kind, error, traceback)


class Health:
    """Watches over the file servers of all cells.

    `probe` is given a server and an address of it, and tells whether it answered.
    """

    def __init__(
        self, probe: Callable[[FileServer, tuple[str, int]], Awaitable[bool]], limits: HealthLimits
    ) -> None:
        """Servers that are down are asked again by `run`."""
        self._ask = probe
        self._limits = limits
        self._records: dict[FileServer, _Record] = {}
        self._went_down = trio.Event()

    def _record(self, server: FileServer) -> _Record:
        record = self._records.get(server)
        if record is None:
            record = self._records[server] = _Record()
        return record

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Probe the servers that are down until cancelled."""
        task_status.started()
        while True:
            await self._went_down.wait()
            self._went_down = trio.Event()
            while (due := self._next_probe()) is not None:
                with trio.move_on_at(due):
                    await self._went_down.wait()  # another one may be due earlier
                    self._went_down = trio.Event()
                    continue
                now = trio.current_time()
                await self.probe(
                    [
                        server
                        for server, record in self._records.items()
                        if record.probe_at is not None and record.probe_at <= now
                    ]
                )

    def _next_probe(self) -> float | None:
        times = [r.probe_at for r in self._records.values() if r.probe_at is not None]
        return min(times, default=None)

    def is_down(self, server: FileServer) -> bool:
        """Whether calls to the server should not even be tried."""
        return server.down_until > trio.current_time()

    def is_crowded(self, server: FileServer) -> bool:
        """Whether enough operations wait already for a server that says nothing."""
        if server.waiting < self._limits.waiters:
            return False
        heard = max(server.last_seen, self._record(server).since)
        return trio.current_time() - heard > self._limits.silence

    def waiting(self, server: FileServer) -> _Waiting:
        """While an operation waits for a server: ``with health.waiting(server): ...``.

        The block is left early when the server goes down.
        """
        return _Waiting(server, self._record(server))

    def address(self, server: FileServer) -> tuple[str, int] | None:
        """Where the server answered last, or its first address; None if it has none."""
        index = self._record(server).address
        return next(iter((*server.addresses[index : index + 1], *server.addresses[:1])), None)

    def heard(self, server: FileServer, address: tuple[str, int], rtt: float | None) -> None:
        """The server answered from there, even if only to refuse."""
        server.last_seen = trio.current_time()
        if rtt is not None:
            server.rtt = rtt
        record = self._record(server)
        if address != self.address(server) and address in server.addresses:
            record.address = server.addresses.index(address)
        if record.probe_at is not None:
            log.info("file server %s of cell %s answers again", address[0], server.cell)
            record.probe_at = None
            server.down_until = 0.0

    def silent(self, server: FileServer, since: float) -> None:
        """No address of the server answered a call that began at `since`.

        If others have heard of it since, it is not down: it may have lost its connections.
        """
        if server.last_seen > since:
            return
        record = self._record(server)
        if record.probe_at is None:
            host = server.addresses[0][0] if server.addresses else "without address"
            log.info("lost contact with file server %s of cell %s", host, server.cell)
        self._postpone(server, record)
        self._went_down.set()
        for scope in record.scopes:
            scope.cancel()

    def _postpone(self, server: FileServer, record: _Record) -> None:
        """The server stays down until the next probe is over."""
        now = trio.current_time()
        limits = self._limits
        lately = now - server.last_seen < _LATELY
        record.probe_at = now + (limits.probe_interval if lately else limits.patient_interval)
        server.down_until = now + 2 * limits.patient_interval

    async def probe(self, servers: Sequence[FileServer]) -> bool:
        """Ask these servers at all their addresses at once. Whether any of them answered."""
        answers: list[bool] = []

        async def ask(server: FileServer) -> None:
            answers.append(await self._probe_one(server))

        async with trio.open_nursery() as nursery:
            for server in servers:
                nursery.start_soon(ask, server)
        return any(answers)

    async def _probe_one(self, server: FileServer) -> bool:
        """Probe one server, or wait for the probe that is under way."""
        record = self._record(server)
        began = trio.current_time()
        if record.probe is not None:
            await record.probe.wait()
            return server.last_seen >= began
        done = record.probe = trio.Event()

        async def ask(address: tuple[str, int]) -> None:
            if await self._ask(server, address):
                self.heard(server, address, None)
                nursery.cancel_scope.cancel()  # one address is enough

        try:
            async with trio.open_nursery() as nursery:
                for address in server.addresses:
                    nursery.start_soon(ask, address)
            if server.last_seen >= began:
                return True
            if record.probe_at is not None:
                self._postpone(server, record)
            return False
        finally:
            record.probe = None
            done.set()
