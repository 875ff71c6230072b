"""All connections to one service of a peer with one identity, and the calls that wait for them."""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

from rxrpc.core.client_call import ClientCall
from rxrpc.errors import CallBusy

if TYPE_CHECKING:
    from rxrpc.core.client_connection import ClientConnection
    from rxrpc.core.clocks import CallTimeouts
    from rxrpc.core.endpoint import EndpointCore
    from rxrpc.core.peer import Peer
    from rxrpc.security.base import ClientSecurity


class Bundle:
    """Gives channels to calls, first come, first served.

    A free channel of a connection that exists comes first. Connections are opened on demand, up to
    `Parameters.max_connections_per_bundle`; then calls wait.

    A new connection is opened only when no other is new, and carries one call until the server has
    answered that, or has taken `Parameters.introduction_time`. An OpenAFS file server asks the
    client who it is at the first call of each connection, holds the client's other calls
    meanwhile, and answers VBUSY as soon as more than a few wait for that. Source: viced/host.c
    (h_GetHost_r, h_threadquota).
    """

    def __init__(
        self, core: EndpointCore, peer: Peer, service_id: int, security: ClientSecurity
    ) -> None:
        self.peer = peer
        self.service_id = service_id
        self.security = security
        self.connections: list[ClientConnection] = []
        self.waiting: deque[ClientCall] = deque()
        self._core = core
        peer.bundles += 1

    def start_call(
        self, timeouts: CallTimeouts, now: float, request: bytes = b"", *, whole: bool = False
    ) -> ClientCall:
        """Begin a call, with the beginning of its request, or with the `whole` of it.

        It can be written to at once, whether it has a channel or not. Raises `CallBusy` when
        `Parameters.max_waiting_calls` wait already.
        """
        context = self._core.context
        if len(self.waiting) >= context.parameters.max_waiting_calls:
            raise CallBusy
        call = ClientCall(context, self, timeouts, now)
        call.write(request)
        if whole:
            call.finish()
        self.waiting.append(call)
        self.on_channel_free(now)
        if self.waiting and self.waiting[-1] is call:
            context.timers.update(call)
        return call

    def on_channel_free(self, now: float) -> None:
        """Let calls that wait have what channels there are."""
        while self.waiting:
            place = self._find_channel() or self._open(now)
            if place is None:
                return
            connection, channel = place
            connection.start(self.waiting.popleft(), channel, now)

    def _find_channel(self) -> tuple[ClientConnection, int] | None:
        for connection in self.connections:
            if connection.answered or not connection.active:
                channel = connection.free_channel()
                if channel is not None:
                    return connection, channel
        return None

    def _open(self, now: float) -> tuple[ClientConnection, int] | None:
        """A new connection, unless one is new already or there are as many as there may be."""
        if len(self.connections) >= self._core.context.parameters.max_connections_per_bundle:
            return None
        if any(not connection.answered for connection in self.connections):
            return None
        connection = self._core.open_connection(self, now)
        self.connections.append(connection)
        return connection, 0

    def withdraw(self, call: ClientCall) -> None:
        """A waiting call is over."""
        with suppress(ValueError):  # it may have had its channel
            self.waiting.remove(call)

    def remove(self, connection: ClientConnection) -> None:
        """A connection is no more."""
        self.connections.remove(connection)
