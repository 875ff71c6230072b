"""The public face: one UDP socket, both roles."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar
from weakref import WeakValueDictionary

import trio

from rxrpc.core.bundle import BundleKey
from rxrpc.core.endpoint import EndpointCore
from rxrpc.core.events import CallChanged, Event
from rxrpc.errors import LocalError
from rxrpc.net.client import Connection
from rxrpc.net.driver import Driver
from rxrpc.net.sockets import UdpSocket, source_of
from rxrpc.net.streams import CallStream
from rxrpc.security.base import SecurityLevel
from rxrpc.security.null import NULL
from rxrpc.trace import NullTracer, Tracer

if TYPE_CHECKING:
    import random

    from rxrpc.core.clocks import CallTimeouts
    from rxrpc.core.parameters import Parameters, Value
    from rxrpc.core.snapshot import Snapshot
    from rxrpc.core.statistics import Statistics
    from rxrpc.net.server import BaseService
    from rxrpc.net.sockets import DatagramSocket
    from rxrpc.rpc import Rpc
    from rxrpc.security.base import ClientSecurity
    from rxrpc.wire.packet import Address

A = TypeVar("A")
R = TypeVar("R")


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
        self._services: dict[int, BaseService] = {}
        self._connections: WeakValueDictionary[BundleKey, Connection] = WeakValueDictionary()
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

    def fileno(self) -> int:
        """The descriptor of its UDP socket, for who looks at several; -1 while it has none."""
        return self._socket.fileno() if isinstance(self._socket, UdpSocket) else -1

    def add_service(self, service: BaseService) -> None:
        """Take calls for a service, one of any number; before or while the endpoint runs.

        Raises `LocalError` when there is one with this number.
        """
        self._core.services.add(service.entry)
        self._services[service.service_id] = service

    def offer_upgrade(self, service_id: int, better_id: int) -> None:
        """Serve as ``better_id`` those clients of ``service_id`` that ask for something better.

        Both services must have been added, else `LocalError`. They ask in the first packet of a
        connection, and all calls of that connection go to the better service. AF_RXRPC:
        RXRPC_UPGRADEABLE_SERVICE. OpenAFS file servers may ask without meaning it, so a callback
        service offers none.
        """
        self._core.services.offer_upgrade(service_id, better_id)

    def connect(
        self,
        address: Address,
        service_id: int,
        *,
        security: ClientSecurity = NULL,
        min_level: SecurityLevel = SecurityLevel.CLEAR,
        exclusive: bool = False,
        upgrade: bool = False,
    ) -> Connection:
        """The way to a service. Sends nothing; equal arguments give the same object.

        ``min_level``: raise `SecurityLevelError` when ``security`` protects less than this, or
        less than `Parameters.min_security_level`.

        ``exclusive``: each call gets an Rx connection of its own, which is discarded with it.

        ``upgrade``: the first call asks the server whether it has a better service in this one's
        place, and calls wait until its reply has told; from then on they go to
        `Connection.service_id`. So the first must be an RPC that is the same in both services.
        """
        self._core.check_level(security, min_level)
        key = BundleKey(address, service_id, security, exclusive, upgrade)
        connection = self._connections.get(key)
        if connection is None:
            connection = self._connections[key] = Connection(self, self._core.bundle(key))
        return connection

    async def call(
        self,
        address: Address,
        service_id: int,
        rpc: Rpc[A, R],
        args: A,
        *,
        security: ClientSecurity = NULL,
        min_level: SecurityLevel = SecurityLevel.CLEAR,
        exclusive: bool = False,
        timeouts: CallTimeouts | None = None,
    ) -> R:
        """Call a procedure of any service anywhere; its reply. Raises as `Connection.call` does.

        Calls to one destination share connections, whether they are made this way or the other.
        """
        connection = self.connect(
            address, service_id, security=security, min_level=min_level, exclusive=exclusive
        )
        return await connection.call(rpc, args, timeouts=timeouts)

    def source_towards(self, address: Address) -> str | None:
        """The address of this host that packets to a peer come from; None when there is no way.

        Sends nothing.
        """
        if isinstance(self._socket, UdpSocket):
            return source_of(self._socket.local_address[0], address)
        return self.local_address[0]

    def reconnect(self) -> None:
        """Make all client connections anew, since this host has another address now: peers answer
        at the one that a connection began with. Only inside trio.

        Calls under way fail with `CallTimeout`; what became of them is not known.
        """
        if self.driver is not None:
            self._core.reconnect(trio.current_time())
            self.driver.flush()

    def trace(self, tracer: Tracer | None) -> None:
        """Tell another tracer from now on, at any time; nobody for None. Only inside trio.

        One that wants every packet hears of those of calls that have begun, too.
        """
        self._core.trace(tracer or NullTracer())

    def doubt(self, address: Address) -> None:
        """A peer says that it was started anew, or so it seems: those of our calls to it that it
        does not know fail with `CallTimeout` in 3 s, not after the dead time. Only inside trio.
        """
        if self.driver is not None:
            self._core.doubt(address, trio.current_time())
            self.driver.flush()

    def statistics(self) -> Statistics:
        """A picture of what was and is. Only inside trio."""
        return self._core.statistics(trio.current_time())

    def snapshot(self) -> Snapshot:
        """A picture of every peer, bundle, connection and call. Only inside trio."""
        return self._core.snapshot(trio.current_time())

    def _on_event(self, event: Event) -> None:
        # No patterns such as `case CallChanged(call)`: in Python 3.11 each makes a string anew,
        # "__match_args__", which the interpreter's cache of attributes keeps, up to 4,096 of them.
        # Strewn over the heap, they kept it from shrinking. Source: match_class in ceval.c
        if isinstance(event, CallChanged):
            if isinstance(event.call.user, CallStream):
                event.call.user.wake()
        elif self._nursery is not None and self.driver is not None:
            service = self._services[event.call.service_id]
            self._nursery.start_soon(
                service.serve, event.call, self.driver, self.parameters.max_reply
            )
