"""Calling a service: a bundle of connections as one object."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, TypeVar

import trio

from rxrpc.core.clocks import CallTimeouts
from rxrpc.errors import CallBusy, EndpointClosed, LocalError
from rxrpc.net.streams import ByteCall, StreamCall
from rxrpc.rpc import SENDS
from rxrpc.xdr import encode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rxrpc.core.bundle import Bundle
    from rxrpc.net.driver import Driver
    from rxrpc.net.endpoint import Endpoint
    from rxrpc.rpc import Rpc
    from rxrpc.wire.packet import Address

A = TypeVar("A")
R = TypeVar("R")

_OPCODE = struct.Struct("!I")
_DEFAULT = CallTimeouts()


class Connection:
    """The way to one service of one server, with one identity. `Endpoint.connect` gives it.

    Behind it are as many Rx connections as the calls in flight need (four a connection), up to
    `Parameters.max_connections_per_bundle`; further calls wait their turn. It sends nothing and
    keeps nothing open by itself, so it may be made for one call and dropped, or kept for ever.
    """

    def __init__(self, endpoint: Endpoint, bundle: Bundle) -> None:
        self._endpoint = endpoint
        self._bundle = bundle

    @property
    def address(self) -> Address:
        """Where the server is."""
        return self._bundle.peer.address

    @property
    def service_id(self) -> int:
        """The service that calls go to.

        With ``upgrade`` this is another than was asked for when the server has said so, which it
        does in the reply of the first call that gets one.
        """
        return self._bundle.service_id

    def rtt(self) -> float | None:
        """The smoothed round-trip time in seconds; None while nothing was measured."""
        return self._bundle.peer.rtt.smoothed

    def loss(self) -> float:
        """The share of the server's packets that is lost on the way here though nothing queues.

        It is of the last hundreds of packets, and 0 where packets are lost as the line is full:
        then the round trip is longer than it could be.
        """
        peer = self._bundle.peer
        return peer.losses.share(peer.rtt, trio.current_time())

    async def call(
        self, rpc: Rpc[A, R], args: A, *, data: bytes = b"", timeouts: CallTimeouts | None = None
    ) -> R:
        """Call a procedure; its reply. ``data`` is sent behind the arguments, and is kept whole
        until it was taken: for more than a few kilobytes `stream` is the way.

        Raises `CallError` (see there for how a call can end), `LocalError` for arguments that do
        not fit, `SecurityLevelError` when the endpoint demands more than the identity gives; then
        nothing was sent. When the caller is cancelled, the server is told.
        """
        (call,) = self.streams(rpc, (args,), data=data, whole=True, timeouts=timeouts)
        try:
            return call.decode(await call.receive_rest())
        finally:
            call.close()

    def stream(
        self,
        rpc: Rpc[A, R],
        args: A,
        *,
        length: int | None = None,
        timeouts: CallTimeouts | None = None,
    ) -> StreamCall[R]:
        """Begin a call with a stream beside arguments and reply; use it in ``async with``.

        The arguments are on their way at once. ``length``: the bytes that will be sent behind
        them, when that is known; see `CallStream.set_length`. Raises as `call` does.
        """
        return self.streams(rpc, (args,), length=length, timeouts=timeouts)[0]

    def streams(
        self,
        rpc: Rpc[A, R],
        many: Sequence[A],
        *,
        length: int | None = None,
        data: bytes = b"",
        whole: bool = False,
        timeouts: CallTimeouts | None = None,
    ) -> list[StreamCall[R]]:
        """Begin a call for each of these arguments; their first packets go out together.

        ``data``: what is sent behind the arguments of each. ``whole``: that is all that is sent.
        Each call must be closed. Raises as `call` does; then none was begun.
        """
        if (length or data) and rpc.stream not in SENDS:
            raise LocalError(f"{rpc} takes nothing behind its arguments")
        driver = self._driver()
        opcode = _OPCODE.pack(rpc.opcode)
        requests = [b"".join((opcode, encode(args), data)) for args in many]
        now = trio.current_time()
        calls: list[StreamCall[R]] = []
        untyped: Rpc[Any, R] = rpc
        whole = whole or rpc.stream not in SENDS
        max_reply = self._endpoint.parameters.max_reply
        try:
            for request in requests:
                size = None if length is None else len(request) + length
                core_call = self._bundle.start_call(
                    timeouts or _DEFAULT, now, request, whole=whole, length=size
                )
                calls.append(StreamCall(core_call, driver, max_reply, untyped))
        except CallBusy:
            for call in calls:
                call.close()
            raise
        driver.flush()
        return calls

    def begin(self, *, length: int | None = None, timeouts: CallTimeouts | None = None) -> ByteCall:
        """Begin a call whose request and reply are just bytes; use it in ``async with``.

        ``length``: the bytes of the request, when that is known; see `CallStream.set_length`.
        Nothing is sent before a packet is full, or the request has ended. Raises as `call` does.
        """
        driver = self._driver()
        now = trio.current_time()
        core_call = self._bundle.start_call(timeouts or _DEFAULT, now, length=length)
        call = ByteCall(core_call, driver, self._endpoint.parameters.max_reply)
        driver.flush()
        return call

    def _driver(self) -> Driver:
        driver = self._endpoint.driver
        if driver is None:
            raise EndpointClosed
        return driver
