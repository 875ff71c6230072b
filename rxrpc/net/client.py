"""Calling a service: a bundle of connections as one object."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, TypeVar

import trio

from rxrpc.core.clocks import CallTimeouts
from rxrpc.errors import CallBusy, EndpointClosed
from rxrpc.net.streams import StreamCall
from rxrpc.rpc import Stream
from rxrpc.xdr import encode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rxrpc.core.bundle import Bundle
    from rxrpc.net.endpoint import Endpoint
    from rxrpc.rpc import Rpc
    from rxrpc.wire.packet import Address

A = TypeVar("A")
R = TypeVar("R")

_OPCODE = struct.Struct("!I")
_DEFAULT = CallTimeouts()


class Connection:
    """The way to one service of one server, with one identity.

    Behind it are as many Rx connections as the calls in flight need (four a connection), up to
    `Parameters.max_connections_per_bundle`; further calls wait their turn.
    """

    def __init__(self, endpoint: Endpoint, bundle: Bundle) -> None:
        self._endpoint = endpoint
        self._bundle = bundle

    @property
    def address(self) -> Address:
        """Where the server is."""
        return self._bundle.peer.address

    def rtt(self) -> float | None:
        """The smoothed round-trip time in seconds; None while nothing was measured."""
        return self._bundle.peer.rtt.smoothed

    async def call(self, rpc: Rpc[A, R], args: A, *, timeouts: CallTimeouts | None = None) -> R:
        """Call a procedure; its reply. Raises `CallError` or, for arguments that do not fit,
        `LocalError`. When the caller is cancelled, the server is told.
        """
        call = self.stream(rpc, args, timeouts=timeouts)
        try:
            return await call.finish()
        finally:
            call.close()

    def stream(
        self, rpc: Rpc[A, R], args: A, *, timeouts: CallTimeouts | None = None
    ) -> StreamCall[R]:
        """Begin a call with a stream beside arguments and reply; use it in ``async with``.

        The arguments are on their way at once. Raises as `call` does.
        """
        return self.streams(rpc, (args,), timeouts=timeouts)[0]

    def streams(
        self, rpc: Rpc[A, R], many: Sequence[A], *, timeouts: CallTimeouts | None = None
    ) -> list[StreamCall[R]]:
        """Begin a call for each of these arguments; their first packets go out together.

        Each call must be closed. Raises as `call` does; then none was begun.
        """
        driver = self._endpoint.driver
        if driver is None:
            raise EndpointClosed
        opcode = _OPCODE.pack(rpc.opcode)
        requests = [opcode + encode(args) for args in many]
        now = trio.current_time()
        calls: list[StreamCall[R]] = []
        untyped: Rpc[Any, R] = rpc
        whole = rpc.stream is not Stream.TO_SERVER
        max_reply = self._endpoint.parameters.max_reply
        try:
            for request in requests:
                core_call = self._bundle.start_call(timeouts or _DEFAULT, now, request, whole=whole)
                calls.append(StreamCall(core_call, driver, max_reply, untyped))
        except CallBusy:
            for call in calls:
                call.close()
            raise
        driver.flush()
        return calls
