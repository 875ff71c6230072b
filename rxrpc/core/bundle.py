"""All connections to one service of a peer with one identity, and the calls that wait for them."""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from rxrpc.core.client_call import ClientCall
from rxrpc.errors import CallAborted, CallBusy, SecurityError

if TYPE_CHECKING:
    from rxrpc.core.client_connection import ClientConnection
    from rxrpc.core.clocks import CallTimeouts
    from rxrpc.core.endpoint import EndpointCore
    from rxrpc.core.peer import Peer
    from rxrpc.security.base import ClientSecurity
    from rxrpc.wire.packet import Address


class BundleKey(NamedTuple):
    """Calls with equal keys may share connections."""

    address: Address
    service_id: int
    security: ClientSecurity
    exclusive: bool = False
    """Each call has a connection of its own, which nobody uses after it."""
    upgrade: bool = False
    """The first call asks the server for a better service in this one's place."""


class Bundle:
    """Gives channels to calls, first come, first served.

    A free channel of a connection that exists comes first. Connections are opened on demand, up to
    `Parameters.max_connections_per_bundle`; then calls wait.

    A new connection is opened only when no other is new, and carries one call until the server has
    answered that, or has taken `Parameters.introduction_time`. An OpenAFS file server asks the
    client who it is at the first call of each connection, holds the client's other calls
    meanwhile, and answers VBUSY as soon as more than a few wait for that, of whichever bundle:
    so the bundles of a peer take turns, see `Introductions`. Source: viced/host.c (h_GetHost_r,
    h_threadquota).

    With `BundleKey.upgrade` one call goes alone, and the others wait until its reply has said
    which service it is (the id in its header); that service is theirs from then on. A call that
    fails before has said nothing, and the next one asks. Source: linux, rxrpc.rst.

    The core knows a bundle as long as it has connections or calls; a handle may outlive that.
    """

    def __init__(self, core: EndpointCore, key: BundleKey, peer: Peer) -> None:
        self.key = key
        self.peer = peer
        self.service_id = key.service_id  # that of new connections
        self.security = key.security
        self.connections: list[ClientConnection] = []
        self.waiting: deque[ClientCall] = deque()
        self.seeks_upgrade = key.upgrade
        self._core = core

    def start_call(
        self,
        timeouts: CallTimeouts,
        now: float,
        request: bytes = b"",
        *,
        whole: bool = False,
        length: int | None = None,
    ) -> ClientCall:
        """Begin a call, with the beginning of its request, or with the `whole` of it.

        It can be written to at once, whether it has a channel or not. ``length``: the bytes of the
        request in all, when they are known. Raises `CallBusy` when `Parameters.max_waiting_calls`
        wait already, `SecurityLevelError` when the endpoint demands more than the identity gives.
        """
        context = self._core.context
        if context.parameters.min_security_level:
            self._core.check_level(self.security)
        if not (self.connections or self.waiting):
            active = self._core.activate(self, now)
            if active is not self:  # another handle to the same, and in use
                return active.start_call(timeouts, now, request, whole=whole, length=length)
        if len(self.waiting) >= context.parameters.max_waiting_calls:
            raise CallBusy
        call = ClientCall(context, self, timeouts, now)
        if length is not None:
            call.packetizer.expect(length)
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
            try:
                place = self._find_channel() or self._open(now)
            except SecurityError as exc:  # the identity has expired
                self._fail_waiting(exc, now)
                return
            if place is None:
                return
            connection, channel = place
            connection.start(self.waiting.popleft(), channel, now)

    def _fail_waiting(self, error: SecurityError, now: float) -> None:
        """There will be no connection for those that wait."""
        while self.waiting:
            call = self.waiting.popleft()
            call.fail(CallAborted(error.code, remote=False, reason=error.reason), now)
        self._core.on_bundle_changed(self)

    def _find_channel(self) -> tuple[ClientConnection, int] | None:
        if self.key.exclusive:
            return None
        for connection in self.connections:
            if connection.answered or not connection.active:
                channel = connection.free_channel()
                if channel is not None and (connection.answered or self._may_introduce()):
                    return connection, channel
        return None

    def _may_introduce(self) -> bool:
        return self.peer.introductions.may_begin(self)

    def _open(self, now: float) -> tuple[ClientConnection, int] | None:
        """A new connection, unless one is new already or there are as many as there may be."""
        if len(self.connections) >= self._core.parameters.max_connections_per_bundle:
            return None
        if (self.seeks_upgrade or not self.key.exclusive) and not all(
            connection.answered for connection in self.connections
        ):
            return None
        if not self._may_introduce():
            return None
        connection = self._core.open_connection(self, now)
        connection.seeks_upgrade = self.seeks_upgrade
        connection.exclusive = self.key.exclusive
        self.connections.append(connection)
        return connection, 0

    def on_service_known(self, service_id: int) -> None:
        """The server has answered the call that asked for an upgrade."""
        self.seeks_upgrade = False
        self.service_id = service_id

    def withdraw(self, call: ClientCall) -> None:
        """A waiting call is over."""
        with suppress(ValueError):  # it may have had its channel
            self.waiting.remove(call)
        self._core.on_bundle_changed(self)

    def remove(self, connection: ClientConnection) -> None:
        """A connection takes no more calls."""
        if connection in self.connections:
            self.connections.remove(connection)
        self._core.on_bundle_changed(self)
