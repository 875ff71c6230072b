"""The public face: one UDP socket, both roles."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from rxrpc.core.endpoint import EndpointCore
from rxrpc.core.events import CallChanged, Event, IncomingCall
from rxrpc.errors import LocalError
from rxrpc.net.client import Connection
from rxrpc.net.driver import Driver
from rxrpc.net.sockets import UdpSocket
from rxrpc.net.streams import CallStream
from rxrpc.security.null import NULL
from rxrpc.trace import NullTracer, Tracer

if TYPE_CHECKING:
    import random

    from rxrpc.core.bundle import Bundle
    from rxrpc.core.parameters import Parameters, Value
    from rxrpc.core.statistics import Statistics
    from rxrpc.net.server import Service
    from rxrpc.net.sockets import DatagramSocket
    from rxrpc.security.base import ClientSecurity
    from rxrpc.wire.packet import Address


class Endpoint:
    """Makes calls and takes calls, from one port.

    AFS wants both on one: a file server calls its client back on the port that the client's calls
    come from.
    """

    def __init__(
        self,
        *,
        bind: Address = ("0.0.0.0", 0),
        parameters: Parameters | None = None,
        tracer: Tracer | None = None,
        socket: DatagramSocket | None = None,
        rng: random.Random | None = None,
    ) -> None:
        """Open nothing yet; `run` does.

        ``socket``: use this one, which is open, instead of binding. ``rng``: where epoch and
        connection ids come from; by default they cannot be guessed.
        """
        self._bind = bind
        self._socket = socket
        self._core = EndpointCore(parameters, tracer or NullTracer(), rng)
        self._services: dict[int, Service] = {}
        self._connections: dict[Bundle, Connection] = {}
        self._nursery: trio.Nursery | None = None
        self.driver: Driver | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled: `await nursery.start(endpoint.run)`.

        Raises `OSError` before it reports that it has started when the port cannot be had. At the
        end all calls fail with `EndpointClosed`.
        """
        if self.driver is not None:
            raise LocalError("the endpoint runs already")
        if self._socket is None:
            self._socket = UdpSocket(self._bind, self.parameters.socket_buffer)
        socket = self._socket
        try:
            async with trio.open_nursery() as self._nursery:
                self.driver = driver = Driver(self._core, socket, self._on_event)
                await self._nursery.start(driver.run)
                task_status.started()
        finally:
            self._core.close(trio.current_time())
            if self.driver is not None:
                self.driver.flush()
            self.driver = None
            socket.close()

    @property
    def parameters(self) -> Parameters:
        """Those in use now."""
        return self._core.parameters

    def configure(self, **changes: Value) -> Parameters:
        """Change parameters, at any time, by their names; all that are then in use.

        `LocalError` for an unknown name or a value that cannot work, and nothing has changed. A
        call that has begun keeps its timeouts, packet size and windows for sending; everything
        else holds at once, except `Parameters.socket_buffer`, which is read when the endpoint
        opens its socket.
        """
        self._core.configure(self.parameters.changed(**changes))
        if self.driver is not None:
            self.driver.flush()
        return self.parameters

    @property
    def local_address(self) -> Address:
        """Where it is bound, while it runs."""
        if self._socket is None:
            raise LocalError("the endpoint does not run")
        return self._socket.local_address

    def add_service(self, service: Service) -> None:
        """Take calls for a service; before or while the endpoint runs."""
        self._core.add_service(service.interface.service_id, service.security)
        self._services[service.interface.service_id] = service

    def connect(
        self, address: Address, service_id: int, *, security: ClientSecurity = NULL
    ) -> Connection:
        """The way to a service. Sends nothing; equal arguments give the same object."""
        bundle = self._core.bundle(address, service_id, security)
        connection = self._connections.get(bundle)
        if connection is None:
            connection = self._connections[bundle] = Connection(self, bundle)
        return connection

    def statistics(self) -> Statistics:
        """A picture of what was and is. Only inside trio."""
        return self._core.statistics(trio.current_time())

    def _on_event(self, event: Event) -> None:
        match event:
            case CallChanged(call):
                if isinstance(call.user, CallStream):
                    call.user.wake()
            case IncomingCall(call):
                if self._nursery is not None and self.driver is not None:
                    service = self._services[call.service_id]
                    self._nursery.start_soon(
                        service.serve, call, self.driver, self.parameters.max_reply
                    )
