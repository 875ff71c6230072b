"""Services: handlers by procedure, a task for each call, bounds on both."""

from __future__ import annotations

import logging
import struct
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import trio

from rxrpc.errors import CallAborted, CallError, LocalError, ParseError
from rxrpc.net.streams import CallStream
from rxrpc.rpc import Interface, Rpc, RxgenCode, Stream
from rxrpc.security.null import NULL
from rxrpc.xdr import Reader, decode, encode

if TYPE_CHECKING:
    from rxrpc.core.server_call import ServerCall as CoreCall
    from rxrpc.net.driver import Driver
    from rxrpc.security.base import ConnectionSecurity, ServerSecurity
    from rxrpc.wire.packet import Address

log = logging.getLogger(__name__)

A = TypeVar("A")
R = TypeVar("R")
Handler = Callable[["ServerCall", A], Awaitable[R]]

_OPCODE = struct.Struct("!I")
_WORD = 4


class ServerCall(CallStream):
    """A call that somebody makes to us, as its handler sees it.

    What a handler sends goes in front of the reply; what it receives stands behind the arguments.
    """

    _call: CoreCall

    @property
    def peer(self) -> Address:
        """Who calls."""
        return self._call.address

    @property
    def epoch(self) -> int:
        """Of the caller; it changes when the caller is started anew."""
        return self._call.epoch

    @property
    def service_id(self) -> int:
        """Which service is called."""
        return self._call.service_id

    @property
    def security(self) -> ConnectionSecurity:
        """What the caller's connection is protected by, and says of the caller."""
        return self._call.security

    async def receive_request(self) -> bytes:
        """Opcode and arguments of a call without a stream from the client."""
        return await self.receive_rest()

    async def receive_opcode(self) -> int:
        """The word in front of the arguments."""
        (opcode,) = _OPCODE.unpack(await self.receive_exactly(_WORD))
        return int(opcode)

    async def receive_args(self, cls: type[A]) -> A:
        """Arguments with a stream behind them: as many bytes as they need, and no more."""
        data = b""
        while True:
            reader = Reader(data)
            try:
                args = reader.struct(cls)
            except ParseError:
                more = await self.receive_some()
                if not more or len(data) > self._max_tail:
                    raise
                data += more
            else:
                self._call.receiving.put_back(data[len(data) - reader.remaining :])
                return args

    def reply(self, value: object) -> None:
        """The reply, behind all that was sent."""
        self._call.write(encode(value))
        self._finish()


class Service:
    """Procedures of an interface, and who serves them.

    A handler is a coroutine function of the call and the arguments; it returns the reply, or
    raises `CallAborted` with the code that the caller is to see. Whatever else it raises is
    logged, and the caller sees an abort.
    """

    def __init__(
        self,
        interface: Interface,
        *,
        security: Sequence[ServerSecurity] = (NULL,),
        max_calls: int = 64,
    ) -> None:
        """``max_calls``: handlers that run at a time; further calls wait."""
        self.interface = interface
        self.security = tuple(security)
        self._handlers: dict[int, Handler[Any, Any]] = {}
        self._limit = trio.Semaphore(max_calls, max_value=max_calls)

    def handles(self, rpc: Rpc[A, R]) -> Callable[[Handler[A, R]], Handler[A, R]]:
        """Decorator: this coroutine function serves ``rpc``."""
        if self.interface.by_opcode.get(rpc.opcode) is not rpc:
            raise LocalError(f"{rpc} is not in {self.interface.name}")
        if rpc.opcode in self._handlers:
            raise LocalError(f"{rpc} has a handler already")

        def register(handler: Handler[A, R]) -> Handler[A, R]:
            self._handlers[rpc.opcode] = handler
            return handler

        return register

    async def serve(self, core_call: CoreCall, driver: Driver, max_request: int) -> None:
        """Serve one call. Raises nothing but cancellation."""
        call = ServerCall(core_call, driver, max_request)
        try:
            async with self._limit:
                await self._dispatch(call)
        except CallAborted as exc:
            call.abort(exc.code, exc.reason)
        except CallError as exc:
            log.debug("call from %s ended: %s", call.peer, exc)
            call.abort(RxgenCode.SS_MARSHAL, str(exc))
        except Exception:
            log.exception("%s: a call from %s failed", self.interface.name, call.peer)
            call.abort(RxgenCode.SS_MARSHAL, "handler failed")
        except BaseException:
            call.abort(RxgenCode.SS_MARSHAL, "service stopped")
            raise
        finally:
            core_call.user = None

    async def _dispatch(self, call: ServerCall) -> None:
        opcode = await call.receive_opcode()
        handler = self._handlers.get(opcode)
        if handler is None:
            raise CallAborted(RxgenCode.OPCODE, reason=f"no procedure {opcode}")
        rpc = self.interface.by_opcode[opcode]
        try:
            if rpc.stream is Stream.TO_SERVER:
                args = await call.receive_args(rpc.args)
            else:
                args = decode(rpc.args, await call.receive_request())
        except ParseError as exc:
            raise CallAborted(RxgenCode.DECODE, reason=f"{rpc}: {exc}") from None
        call.reply(await handler(call, args))
