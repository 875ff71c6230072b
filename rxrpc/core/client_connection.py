"""A connection that we opened."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rxrpc.core.connection import Connection
from rxrpc.core.states import CallState
from rxrpc.core.timers import NEVER
from rxrpc.errors import CallAborted, CallTimeout, SecurityError
from rxrpc.trace import DropReason
from rxrpc.wire.ack import AckReason, build_ack
from rxrpc.wire.packet import CHANNELS, CLIENT_INITIATED, Header, PacketType
from rxrpc.wire.serial import add, before

if TYPE_CHECKING:
    from rxrpc.core.bundle import Bundle
    from rxrpc.core.call import Call
    from rxrpc.core.client_call import ClientCall
    from rxrpc.errors import CallError


class ClientConnection(Connection):
    """Four channels to one service of a peer."""

    is_client = True
    bundle: Bundle
    exclusive = False
    """For one call only: `Bundle.exclusive`."""
    answered = False
    _introducing = False  # it has one of the peer's turns
    _introduced_at = NEVER

    def free_channel(self) -> int | None:
        """A channel without a call, best one on which the last call ended well.

        Where it did not, the server may still be at it and would say BUSY.
        """
        doubtful = None
        for channel in range(CHANNELS):
            call = self.calls[channel]
            if call is None or call.state is CallState.COMPLETE:
                return channel
            if call.over:
                doubtful = channel
        return doubtful

    def start(self, call: ClientCall, channel: int, now: float) -> None:
        """Give the call a channel that is free."""
        number = add(self.numbers[channel], 1) or 1
        self.numbers[channel] = number
        self.add(call, channel)
        call.bind(self, channel, number, now)
        if not self.answered:
            self._introducing = True
            self.peer.introductions.begin()
            self._introduced_at = now + self.context.parameters.introduction_time
            self.context.timers.update(self)
        self.peer.used = now
        if self.peer.armed == NEVER:
            self.context.timers.update(self.peer)

    def on_answer(self, now: float) -> None:
        """A reply has begun to come: the server is there, and knows us."""
        self.on_reached(now)
        if self.seeks_upgrade:
            self.seeks_upgrade = False
            self.bundle.on_service_known(self.service_id)
        self._introduce(now)

    def _introduce(self, now: float) -> None:
        """Let more calls use the connection."""
        if not self.answered:
            self.answered = True
            self.bundle.on_channel_free(now)
        self._introduced_at = NEVER
        self._end_turn(now)

    def _end_turn(self, now: float) -> None:
        """Let another new connection begin."""
        if self._introducing:
            self._introducing = False
            self.peer.introductions.end(now)

    def next_timer(self) -> float:
        """When `on_timer` has something to do."""
        return min(super().next_timer(), self._introduced_at)

    def on_timer(self, now: float) -> None:
        """A first call that takes long does not hold up others; idle connections are forgotten."""
        if now < self._introduced_at:
            super().on_timer(now)
        elif self.seeks_upgrade:  # its bundle's others wait however long it takes
            self._introduced_at = NEVER
            self._end_turn(now)
        else:
            self._introduce(now)

    def _is_of_service(self, service_id: int) -> bool:
        if self.seeks_upgrade and self.service_id == self.asked_id:
            self.service_id = service_id  # the server says which service it is
        return super()._is_of_service(service_id)

    def _on_call_packet(self, header: Header, body: bytes, now: float) -> None:
        call = self.calls[header.channel]
        if call is not None and call.number == header.call_number:
            call.receive(header, body, now)
        elif call is None and self._is_of_complete(header):
            self._acknowledge_again(header, now)
        elif before(header.call_number, self.numbers[header.channel]):
            self.drop(now, DropReason.OLD_CALL, header)
        else:
            self.drop(now, DropReason.UNKNOWN_CALL, header)

    def forget(self, call: Call) -> None:
        """Nobody asks for the call any more, but its server may have missed the last ACK."""
        super().forget(call)
        complete = call.state is CallState.COMPLETE
        self.ends[call.channel] = call.receiving.next if complete else None

    def _is_of_complete(self, header: Header) -> bool:
        """Whether it belongs to a reply that came whole and was the latest on its channel."""
        end = self.ends[header.channel]
        return (
            header.type is PacketType.DATA
            and header.call_number == self.numbers[header.channel]
            and end is not None
            and before(header.seq, end)
        )

    def _acknowledge_again(self, header: Header, now: float) -> None:
        """As Linux does: net/rxrpc/conn_event.c (rxrpc_conn_retransmit_call)."""
        self.drop(now, DropReason.DUPLICATE, header)
        following = self.ends[header.channel]
        assert following is not None
        body = build_ack(
            following, header.seq, header.serial, AckReason.DUPLICATE, b"",
            self.peer.ack_trailer,
        )  # fmt: skip
        self.send(
            PacketType.ACK, body, now, channel=header.channel,
            call_number=header.call_number, flags=CLIENT_INITIATED,
        )  # fmt: skip

    def _on_challenge(self, header: Header, body: bytes, now: float) -> None:
        try:
            response = self.security.respond(body, self.numbers)
        except SecurityError as exc:
            self.drop(now, DropReason.INSECURE, header, str(exc))
            self.abort(exc.code, now)
            return
        if response is None:
            self.drop(now, DropReason.UNEXPECTED, header)
            return
        for call in self.calls:
            if call is not None and not call.over:
                call.heard = now
        self.send(PacketType.RESPONSE, response, now, flags=CLIENT_INITIATED)

    def close(self, error: CallError, now: float) -> None:
        """End all calls; those that wait in the bundle get other connections, and not this one."""
        self.bundle.remove(self)
        super().close(error, now)

    def on_call_over(self, call: Call, now: float) -> None:
        """A call has ended: its channel is for the next one."""
        super().on_call_over(call, now)
        self.peer.used = now
        if self.exclusive or _was_silence(call):
            self.bundle.remove(self)
        self._end_turn(now)
        if isinstance(call.error, CallAborted) and call.error.remote and not self.seeks_upgrade:
            self.answered = True  # the server has looked at the call
        self.bundle.on_channel_free(now)
        if self.armed == NEVER:
            self.context.timers.update(self)

    def _idle_time(self) -> float:
        if self.exclusive:  # it only remembers that its reply was whole, while the server may ask
            return self.context.parameters.dead_time
        return self.context.parameters.client_idle_time


def _was_silence(call: Call) -> bool:
    """Whether a call ended since nothing came, so that its connection had better be a new one.

    A NAT on the way may have given us another port or address: the server goes on answering at the
    one that the connection began with. Source: rx.c, rxi_FindConnection.
    """
    error = call.error
    if not isinstance(error, CallTimeout):
        return False
    return error.what in CallTimeout.SILENCE or (error.what == "hard" and call.unheard)
