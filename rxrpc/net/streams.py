"""A call as streams of bytes: a request, then a reply."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, Self, TypeVar

import trio

from rxrpc.errors import LocalError, ParseError, PhaseError, ProtocolError, RxCode
from rxrpc.rpc import RxgenCode
from rxrpc.xdr import decode

if TYPE_CHECKING:
    from rxrpc.core.call import Call
    from rxrpc.core.clocks import CallTimeouts
    from rxrpc.errors import CallError
    from rxrpc.net.driver import Driver
    from rxrpc.rpc import Rpc

R = TypeVar("R")

_ROLES = ("_receiver", "_sender", "_watcher")
"""Who may wait in a call at a time: one of each. Attributes, since a call is made often."""


class CallStream:
    """The bytes of a call, at either end.

    What the call ended with, a `CallError`, is raised by whatever method runs, or comes next. One
    task may receive while another sends and a third waits in `acknowledged`; two that do the same
    get a `LocalError`. A method that need not wait does not let other tasks run.

    Nothing here is unbounded: a reader that stops shuts the window of the peer, which then waits;
    a writer waits while `Parameters.send_buffer` packets are under way.

    The end of what the peer sends (`at_end`) is not the end of the call (`over`): a server still
    has its reply to send then, and a reply wants to be acknowledged.
    """

    _receiver: trio.lowlevel.Task | None = None
    _sender: trio.lowlevel.Task | None = None
    _watcher: trio.lowlevel.Task | None = None

    def __init__(self, call: Call, driver: Driver, max_tail: int) -> None:
        """``max_tail``: the most bytes that `receive_rest` takes."""
        self._call = call
        self._driver = driver
        self._max_tail = max_tail
        call.user = self

    def wake(self) -> None:
        """The core has news of the call."""
        for role in _ROLES:
            task = getattr(self, role)
            if task is not None:
                setattr(self, role, None)
                trio.lowlevel.reschedule(task)

    async def _wait(self, role: str) -> None:
        """Until the core has news. Whoever calls has just looked whether there is need to wait."""
        if getattr(self, role) is not None:
            raise LocalError("two tasks do the same in one call")

        def forget(_raise: object) -> trio.lowlevel.Abort:
            setattr(self, role, None)
            return trio.lowlevel.Abort.SUCCEEDED

        setattr(self, role, trio.lowlevel.current_task())
        await trio.lowlevel.wait_task_rescheduled(forget)

    def _check(self) -> None:
        if self._call.error is not None:
            raise self._call.error.again()

    def _check_reading(self) -> None:
        self._check()
        if self._call.cut:
            raise PhaseError("the reply has begun: what was not read of the request is gone")

    # How the call is

    @property
    def over(self) -> bool:
        """Whether nothing more will happen: it is complete, or it has failed."""
        return self._call.over

    @property
    def error(self) -> CallError | None:
        """What the call has failed with, if it has."""
        return self._call.error

    @property
    def silence(self) -> float:
        """Seconds since the peer last gave a sign of life in this call; pings ask for some."""
        return trio.current_time() - self._call.heard

    @property
    def received(self) -> int:
        """Bytes that came in order, whether they were read or not."""
        return 0 if self._call.connection is None else self._call.receiving.bytes

    @property
    def at_end(self) -> bool:
        """Whether all that the peer has to say was read."""
        if self._call.connection is None:
            return False
        receiving = self._call.receiving
        return receiving.complete and not receiving.unread

    def set_timeouts(self, timeouts: CallTimeouts) -> None:
        """Other timeouts from now on; those that are None are the endpoint's."""
        self._call.set_timeouts(timeouts, trio.current_time())
        self._driver.flush()

    # Receiving

    async def receive_into(self, *buffers: memoryview) -> None:
        """Fill the buffers, one after the other, with what comes next.

        This is the fast way to receive: payload goes from each packet straight into them.
        Raises `ProtocolError` when the peer has ended before, `PhaseError` when this side has
        begun its reply before the request had ended.
        """
        call = self._call
        await self._wait_for_channel()
        receiving = call.receiving
        done = receiving.read_into([buffer.cast("B") for buffer in buffers])
        try:
            while not done:
                self._check_reading()
                if receiving.complete:
                    raise ProtocolError("the stream ended early", code=RxgenCode.CC_UNMARSHAL)
                await self._wait("_receiver")
                self._check_reading()  # a call that failed has let go of the buffers: not full
                done = not receiving.room
        finally:
            receiving.stop_reading()
        if receiving.urgent is not None:  # reading has opened the window again
            call.mark()
            self._driver.flush()

    async def _wait_for_channel(self) -> None:
        while self._call.connection is None:
            self._check()
            await self._wait("_receiver")

    async def receive_exactly(self, count: int) -> bytes:
        """The next ``count`` bytes, which the caller must know to be a sane number."""
        buffer = bytearray(count)
        await self.receive_into(memoryview(buffer))
        return bytes(buffer)

    async def receive_some(self) -> bytes:
        """All that has come in order, from however many packets, or what comes next.

        Empty at the end. Raises as `receive_into` does.
        """
        await self._wait_for_channel()
        receiving = self._call.receiving
        receiving.demand(1)
        while not receiving.unread and not receiving.complete:
            self._check_reading()
            await self._wait("_receiver")
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
            self._check_reading()
            await self._wait("_receiver")
            if receiving.unread_bytes + len(rest) > self._max_tail:
                break
            if not receiving.complete and receiving.unread_bytes:
                rest += self._take()
        self._check()
        rest += self._take()
        if len(rest) > self._max_tail:
            raise ProtocolError("the reply is too long", code=RxgenCode.CC_UNMARSHAL)
        return rest

    # Sending

    def set_length(self, length: int) -> None:
        """Announce that exactly so many bytes will be sent from now on; then the end follows.

        To send more, or to end before, raises `MessageSizeError`, and nothing of it is sent: the
        peer never takes a part for the whole. AF_RXRPC: RXRPC_TX_LENGTH.
        """
        self._call.packetizer.expect(length)
        if not length:
            self._finish()

    async def send(self, data: bytes | bytearray | memoryview) -> None:
        """Send more; waits while more is under way than there is room for.

        What does not fill a packet goes out with what is sent next, or with the end. Raises
        `PhaseError` when the server has begun its reply and takes no more, `MessageSizeError` for
        more than was announced by `set_length`, `LocalError` behind the end.
        """
        call = self._call
        size = call.context.parameters.send_buffer * 512
        view = memoryview(data).cast("B")
        self._check()
        call.packetizer.check(len(view))
        while view:
            while not call.room:
                self._check()
                await self._wait("_sender")
            self._check()
            call.write(view[:size])
            view = view[size:]
            self._driver.flush()

    async def send_eof(self) -> None:
        """Nothing more will be sent; what the peer sends may still be received.

        Raises `MessageSizeError` when that is less than was announced.
        """
        self._finish()

    def _finish(self) -> None:
        self._check()
        if not (self._call.over or self._call.confirmed):
            self._call.finish()
            self._driver.flush()

    async def acknowledged(self) -> None:
        """Wait until the peer has all that was sent, its end included.

        A server knows then that its reply has arrived whole: the final ACK. A client knows that
        its request has, or that the server has answered without waiting for all of it. Whether
        the program at the other end has read it is not said by that. Raises `LocalError` when the
        end was not sent yet.
        """
        call = self._call
        if not (call.packetizer.finished or call.confirmed):
            raise LocalError("the end was not sent yet")
        call.watched = True
        while not call.confirmed:
            self._check()
            await self._wait("_watcher")

    def abort(self, code: int, reason: str = "") -> None:
        """End the call, if it is not over, and tell the peer the code (signed, 32 bits).

        Whoever waits for the call gets a `CallAborted` with this code, and ``reason``, which stays
        here.
        """
        if not self._call.over:
            self._call.abort(code, trio.current_time(), reason)
            self._driver.flush()


class ByteCall(CallStream):
    """A call of ours without a declared RPC: request and reply are bytes.

    As a context manager: leaving it before the reply was received to its end aborts the call.
    """

    def close(self) -> None:
        """Whoever made the call does not want it any more, or has its reply."""
        self.abort(RxCode.USER_ABORT)
        if self._call.connection is not None:
            self._call.receiving.take_unread()
        self._call.user = None

    async def __aenter__(self) -> Self:
        """The call was begun already."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """End the call if it is not over."""
        self.close()


class StreamCall(ByteCall, Generic[R]):
    """A call of ours of an RPC. As a context manager: leaving it before `finish` aborts the call.

    What is sent stands behind the arguments, what is received in front of the reply.
    """

    def __init__(self, call: Call, driver: Driver, max_tail: int, rpc: Rpc[object, R]) -> None:
        super().__init__(call, driver, max_tail)
        self._rpc = rpc

    async def finish(self) -> R:
        """End what we send, and take the reply that stands behind the stream."""
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
