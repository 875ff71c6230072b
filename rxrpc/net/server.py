"""Services: handlers by procedure or for bare bytes, a task for each call, bounds on both."""

from __future__ import annotations

import logging
import struct
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import trio

from rxrpc.core.clocks import CallTimeouts
from rxrpc.core.services import ServiceEntry
from rxrpc.errors import CallAborted, CallError, LocalError, ParseError
from rxrpc.net.streams import CallStream
from rxrpc.rpc import SENDS, Interface, Rpc, RxgenCode
from rxrpc.security.base import SecurityLevel
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
ByteHandler = Callable[["ServerCall"], Awaitable[None]]
Accept = Callable[["ServerCall"], None]

_OPCODE = struct.Struct("!I")
_WORD = 4


class ServerCall(CallStream):
    """A call that somebody makes to us, as its handler sees it.

    What a handler sends goes in front of the reply; what it receives stands behind the arguments.
    A handler may send before it has received the whole request, but that ends the request: what
    it has not received is thrown away, and to receive more raises `PhaseError`. Rx has no other
    order than request, then reply.
    """

    _call: CoreCall

    def __init__(self, call: CoreCall, driver: Driver, max_tail: int) -> None:
        super().__init__(call, driver, max_tail)
        self._replied = False
        self._queue: trio.CancelScope | None = None  # around the wait for a handler

    @property
    def peer(self) -> Address:
        """Who calls; proven by an answer to a ping, unless `Parameters.check_reach` is off."""
        return self._call.address

    @property
    def epoch(self) -> int:
        """Of the caller; it changes when the caller is started anew."""
        return self._call.epoch

    @property
    def service_id(self) -> int:
        """Which service is called; after an upgrade that to which the caller was moved."""
        return self._call.service_id

    @property
    def security(self) -> ConnectionSecurity:
        """What the caller's connection is protected by, and says of the caller."""
        return self._call.security

    @property
    def security_level(self) -> SecurityLevel:
        """How much of each packet is protected."""
        return self._call.security.level

    def wake(self) -> None:
        """The core has news of the call."""
        if self._queue is not None and self._call.over:
            self._queue.cancel()
        super().wake()

    async def receive_request(self) -> bytes:
        """Opcode and arguments of a call without a stream from the client."""
        return await self.receive_rest()

    async def receive_opcode(self) -> int:
        """The word in front of the arguments."""
        (opcode,) = _OPCODE.unpack(await self.receive_exactly(_WORD))
        return int(opcode)

    async def receive_args(self, cls: type[A]) -> A:
        """Arguments with a stream behind them: as many bytes as they need, and no more.

        Raises `ParseError` when they cannot be decoded.
        """
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
        """The reply, behind all that was sent; nothing can be sent after it.

        The handler of an RPC does this only when it has something to do afterwards, such as to
        wait until the reply is `acknowledged`; what it returns is then not sent.
        """
        self._call.write(encode(value))
        self._finish()
        self._replied = True

    @property
    def replied(self) -> bool:
        """Whether the handler has given its reply."""
        return self._replied

    async def _take_turn(self, limit: trio.Semaphore) -> bool:
        """Wait for a handler to be free; False when the call was over before."""
        try:
            limit.acquire_nowait()
        except trio.WouldBlock:
            pass
        else:
            return True
        if self._call.over:
            return False
        with trio.CancelScope() as self._queue:
            await limit.acquire()
        return not self._queue.cancelled_caught


class BaseService(ABC):
    """A service and its bounds; subclasses know what a call to it means.

    A call goes to a handler, in a task of its own. What the handler raises ends the call:
    `CallAborted` with its code, anything else with `RxgenCode.SS_MARSHAL` and a line in the log.
    """

    def __init__(
        self,
        name: str,
        service_id: int,
        *,
        security: Sequence[ServerSecurity] = (NULL,),
        min_level: SecurityLevel = SecurityLevel.CLEAR,
        max_calls: int = 64,
        backlog: int | None = None,
        accept: Accept | None = None,
        timeouts: CallTimeouts | None = None,
        whole: bool = False,
    ) -> None:
        """``name`` is for logs.

        ``security``: the classes that callers may come with. ``min_level``: the least protection;
        calls with less are aborted with `RxCode.INVALID_OPERATION`.

        ``max_calls``: handlers that run at a time. ``backlog``: calls that may wait for one; more
        are told BUSY and not begun. None: no bound but `Parameters.max_server_calls`. Calls whose
        caller has not yet proven his address count for `Parameters.max_unproven_calls` only.

        ``accept``: called with each call before anything of its request is read or a handler is
        taken; it may look at who calls, must not wait, and raises `CallAborted` with a code to
        reject the call.

        ``timeouts``: of the calls to this service; `CallTimeouts.idle` is the time that a client
        has for the next packet of its request.

        ``whole``: no handler is taken before the request is whole, and of calls whose is not the
        oldest makes room for others. For short requests: 255 packets are waited for, no more.
        """
        if max_calls < 1 or (backlog is not None and backlog < 0):
            raise LocalError("a service needs a handler, and no less than no backlog")
        self.name = name
        self.service_id = service_id
        self.entry = ServiceEntry(
            service_id,
            {each.index: each for each in security},
            min_level,
            timeouts or CallTimeouts(),
            None if backlog is None else max_calls + backlog,
            whole,
        )
        self._accept = accept
        self._limit = trio.Semaphore(max_calls, max_value=max_calls)

    async def serve(self, core_call: CoreCall, driver: Driver, max_request: int) -> None:
        """Serve one call. Raises nothing but cancellation."""
        call = ServerCall(core_call, driver, max_request)
        try:
            if self._accept is not None:
                self._accept(call)
            if await call._take_turn(self._limit):
                try:
                    await self._handle(call)
                finally:
                    self._limit.release()
        except CallAborted as exc:
            call.abort(exc.code, exc.reason)
        except CallError as exc:
            log.debug("call from %s ended: %s", call.peer, exc)
            call.abort(RxgenCode.SS_MARSHAL, str(exc))
        except Exception:
            log.exception("%s: a call from %s failed", self.name, call.peer)
            call.abort(RxgenCode.SS_MARSHAL, "handler failed")
        except BaseException:
            call.abort(RxgenCode.SS_MARSHAL, "service stopped")
            raise
        finally:
            core_call.user = None
            core_call.receiving.take_unread()
            core_call.release()

    @abstractmethod
    async def _handle(self, call: ServerCall) -> None:
        """Read the request, do what it asks for, send the reply to its end."""


class Service(BaseService):
    """Procedures of an interface, and who serves them.

    A handler is a coroutine function of the call and the arguments; it returns the reply, or
    raises `CallAborted` with the code that the caller is to see.
    """

    def __init__(
        self,
        interface: Interface,
        *,
        security: Sequence[ServerSecurity] = (NULL,),
        min_level: SecurityLevel = SecurityLevel.CLEAR,
        max_calls: int = 64,
        backlog: int | None = None,
        accept: Accept | None = None,
        timeouts: CallTimeouts | None = None,
        whole: bool = False,
    ) -> None:
        """All but ``interface`` as for `BaseService`."""
        super().__init__(
            interface.name, interface.service_id, security=security, min_level=min_level,
            max_calls=max_calls, backlog=backlog, accept=accept, timeouts=timeouts, whole=whole,
        )  # fmt: skip
        self.interface = interface
        self._handlers: dict[int, Handler[Any, Any]] = {}

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

    async def _handle(self, call: ServerCall) -> None:
        opcode = await call.receive_opcode()
        handler = self._handlers.get(opcode)
        if handler is None:
            raise CallAborted(RxgenCode.OPCODE, reason=f"no procedure {opcode}")
        rpc = self.interface.by_opcode[opcode]
        try:
            if rpc.stream in SENDS:
                args = await call.receive_args(rpc.args)
            else:
                args = decode(rpc.args, await call.receive_request())
        except ParseError as exc:
            raise CallAborted(RxgenCode.DECODE, reason=f"{rpc}: {exc}") from None
        value = await handler(call, args)
        if not call.replied:
            call.reply(value)


class ByteService(BaseService):
    """A service without declared RPCs: its handler is given the bytes of each call.

    When the handler returns, the reply has ended, whether the handler said so (`send_eof`) or not.
    """

    def __init__(
        self,
        service_id: int,
        handler: ByteHandler,
        *,
        name: str = "",
        security: Sequence[ServerSecurity] = (NULL,),
        min_level: SecurityLevel = SecurityLevel.CLEAR,
        max_calls: int = 64,
        backlog: int | None = None,
        accept: Accept | None = None,
        timeouts: CallTimeouts | None = None,
    ) -> None:
        """``handler``: a coroutine function of the call. All else as for `BaseService`."""
        super().__init__(
            name or f"service {service_id}", service_id, security=security, min_level=min_level,
            max_calls=max_calls, backlog=backlog, accept=accept, timeouts=timeouts,
        )  # fmt: skip
        self._handler = handler

    async def _handle(self, call: ServerCall) -> None:
        await self._handler(call)
        await call.send_eof()
