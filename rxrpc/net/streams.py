"""A call as streams of bytes, for one task at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, Self, TypeVar

import trio

from rxrpc.errors import LocalError, ParseError, ProtocolError, RxCode
from rxrpc.rpc import RxgenCode
from rxrpc.xdr import decode

if TYPE_CHECKING:
    from types import TracebackType

    from rxrpc.core.call import Call
    from rxrpc.net.driver import Driver
    from rxrpc.rpc import Rpc

R = TypeVar("R")


class CallStream:
    """The bytes of a call, at either end.

    Errors of the call are raised by whatever method runs, or comes next. At most one task may
    wait in here at a time. A method that need not wait does not let other tasks run.
    """

    def __init__(self, call: Call, driver: Driver, max_tail: int) -> None:
        """``max_tail``: the most bytes that `receive_rest` takes."""
        self._call = call
        self._driver = driver
        self._max_tail = max_tail
        self._waiter: trio.lowlevel.Task | None = None
        self._changed = False
        call.user = self

    def wake(self) -> None:
        """The core has news of the call."""
        self._changed = True
        if self._waiter is not None:
            trio.lowlevel.reschedule(self._waiter)
            self._waiter = None

    async def _wait(self) -> None:
        """Until the core has news."""
        if self._changed:
            self._changed = False
            return
        if self._waiter is not None:
            raise LocalError("two tasks wait for one call")

        def forget(_raise: object) -> trio.lowlevel.Abort:
            self._waiter = None
            return trio.lowlevel.Abort.SUCCEEDED

        self._waiter = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(forget)
        self._changed = False

    def _check(self) -> None:
        if self._call.error is not None:
            raise self._call.error.again()

    @property
    def at_end(self) -> bool:
        """Whether all that the peer has to say was read."""
        receiving = self._call.receiving
        return receiving.complete and not receiving.unread

    async def receive_into(self, *buffers: memoryview) -> None:
        """Fill the buffers, one after the other, with what comes next.

        This is the fast way to receive: payload goes from each packet straight into them.
        Raises `ProtocolError` when the peer has ended before.
        """
        call = self._call
        await self._wait_for_channel()
        receiving = call.receiving
        done = receiving.read_into([buffer.cast("B") for buffer in buffers])
        try:
            while not done:
                self._check()
                if receiving.complete:
                    raise ProtocolError("the stream ended early", code=RxgenCode.CC_UNMARSHAL)
                await self._wait()
                self._check()  # a call that failed has let go of the buffers: they are not full
                done = not receiving.room
        finally:
            receiving.stop_reading()
        if receiving.urgent is not None:  # reading has opened the window again
            call.mark()
            self._driver.flush()

    async def _wait_for_channel(self) -> None:
        while self._call.connection is None:
            self._check()
            await self._wait()

    async def receive_exactly(self, count: int) -> bytes:
        """The next ``count`` bytes, which the caller must know to be a sane number."""
        buffer = bytearray(count)
        await self.receive_into(memoryview(buffer))
        return bytes(buffer)

    async def receive_some(self) -> bytes:
        """What has come, or comes next; empty at the end."""
        await self._wait_for_channel()
        receiving = self._call.receiving
        receiving.demand(1)
        while not receiving.unread and not receiving.complete:
            self._check()
            await self._wait()
        return self._take()

    def _take(self) -> bytes:
        receiving = self._call.receiving
        data = b"".join(receiving.take_unread())
        if receiving.urgent is not None:
            self._call.mark()
            self._driver.flush()
        return data

    async def receive_rest(self) -> bytes:
        """All that is left; `ProtocolError` when it is more than a reply may have."""
        await self._wait_for_channel()
        receiving = self._call.receiving
        receiving.demand(self._call.context.parameters.read_ahead * 1024)
        rest = b""
        while not receiving.complete:
            self._check()
            await self._wait()
            if receiving.unread_bytes + len(rest) > self._max_tail:
                break
            if not receiving.complete and receiving.unread_bytes:
                rest += self._take()
        self._check()
        rest += self._take()
        if len(rest) > self._max_tail:
            raise ProtocolError("the reply is too long", code=RxgenCode.CC_UNMARSHAL)
        return rest

    async def send(self, data: bytes | bytearray | memoryview) -> None:
        """Send more; waits while more is under way than there is room for.

        What does not fill a packet goes out with what is sent next, or with the end.
        """
        call = self._call
        size = call.context.parameters.send_buffer * 512
        view = memoryview(data).cast("B")
        while view:
            while not call.room:
                self._check()
                await self._wait()
            self._check()
            call.write(view[:size])
            view = view[size:]
            self._driver.flush()

    def _finish(self) -> None:
        """Nothing more will be sent."""
        self._call.finish()
        self._driver.flush()

    def abort(self, code: int, reason: str = "") -> None:
        """End the call, if it is not over, and tell the peer."""
        if not self._call.over:
            self._call.abort(code, trio.current_time(), reason)
            self._driver.flush()


class StreamCall(CallStream, Generic[R]):
    """A call of ours. As a context manager: leaving it before `finish` aborts the call."""

    def __init__(self, call: Call, driver: Driver, max_tail: int, rpc: Rpc[object, R]) -> None:
        super().__init__(call, driver, max_tail)
        self._rpc = rpc

    async def finish(self) -> R:
        """End what we send, and take the reply that stands behind the stream."""
        if not self._call.over:
            self._finish()
        return self.decode(await self.receive_rest())

    def decode(self, data: bytes | memoryview) -> R:
        """The reply that stands behind a stream which was read together with it.

        Raises `ProtocolError` when it is none.
        """
        try:
            return decode(self._rpc.reply, data)
        except ParseError as exc:
            reason = f"reply of {self._rpc}: {exc}"
            raise ProtocolError(reason, code=RxgenCode.CC_UNMARSHAL) from None

    def close(self) -> None:
        """Whoever made the call does not want it any more, or has its reply."""
        self.abort(RxCode.USER_ABORT)
        if self._call.connection is not None:
            self._call.receiving.take_unread()
        self._call.user = None

    async def __aenter__(self) -> Self:
        """The call was begun already."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the call if it is not over."""
        self.close()
