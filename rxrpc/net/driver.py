"""Runs one core over one socket. Owns no protocol knowledge at all.

Whoever changes the core (a task that begins a call, writes, reads) calls `flush` afterwards; that
sends at once, so a call costs no switch of tasks on its way out. Timers are one cancel scope whose
deadline is moved when the core's moves earlier; when it moves later, the scope just fires in vain.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Callable

    from rxrpc.core.endpoint import EndpointCore
    from rxrpc.core.events import Event
    from rxrpc.net.sockets import DatagramSocket

_BACKLOG_MAX = 8192  # datagrams that wait while the kernel takes none


class Driver:
    """The tasks between a core and a socket."""

    def __init__(
        self, core: EndpointCore, socket: DatagramSocket, on_event: Callable[[Event], None]
    ) -> None:
        """``on_event`` must not raise and not block."""
        self._core = core
        self._socket = socket
        self._on_event = on_event
        self._timer = trio.CancelScope()
        self._backlog: list[tuple[bytes, tuple[str, int]]] = []
        self._blocked = trio.Event()  # set when the kernel takes no more

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled. Start it with `await nursery.start(driver.run)`."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._receive_loop)
            nursery.start_soon(self._timer_loop)
            nursery.start_soon(self._backlog_loop)
            task_status.started()

    def flush(self) -> None:
        """Send what the core has to send, tell what it has to tell."""
        self._turn(trio.current_time())

    def _turn(self, now: float) -> None:
        core = self._core
        datagrams = core.datagrams_to_send(now)
        if datagrams:
            self._send(datagrams)
        while events := core.events():
            for event in events:
                self._on_event(event)
        deadline = core.deadline()
        if deadline < self._timer.deadline:
            self._timer.deadline = deadline

    def _send(self, datagrams: list[tuple[bytes, tuple[str, int]]]) -> None:
        if self._backlog:  # what is too much for it is lost, as in any queue of the network
            self._backlog += datagrams[: max(_BACKLOG_MAX - len(self._backlog), 0)]
            return
        sent = self._socket.send(datagrams)
        if sent < len(datagrams):
            self._backlog = datagrams[sent:]
            self._blocked.set()

    async def _receive_loop(self) -> None:
        socket, core = self._socket, self._core
        while True:
            await socket.wait_readable()
            limit, rounds = core.parameters.batch, core.parameters.max_batches
            for _ in range(rounds):
                batch = socket.receive(limit)
                if not batch:
                    self._report_errors()
                    break
                now = trio.current_time()
                core.receive_batch(batch, now)
                self._turn(now)
                if len(batch) < limit:
                    break

    def _report_errors(self) -> None:
        errors = self._socket.errors()
        if errors:
            now = trio.current_time()
            for error in errors:
                self._core.network_error(error.address, error.errno, now, mtu=error.mtu)
            self._turn(now)

    async def _timer_loop(self) -> None:
        while True:
            with trio.CancelScope(deadline=self._core.deadline()) as self._timer:
                await trio.sleep_forever()
            self._timer = trio.CancelScope(deadline=inf)
            self.flush()

    async def _backlog_loop(self) -> None:
        """Send what the kernel did not take at once."""
        while True:
            await self._blocked.wait()
            await self._socket.wait_writable()
            sent = self._socket.send(self._backlog)
            del self._backlog[:sent]
            if not self._backlog:
                self._blocked = trio.Event()
