"""A call that somebody makes to one of our services."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from rxrpc.core.call import Call
from rxrpc.core.events import IncomingCall
from rxrpc.core.states import CallState
from rxrpc.errors import CallAborted, CallTimeout, RxCode
from rxrpc.trace import DropReason
from rxrpc.wire.packet import Header, PacketType

if TYPE_CHECKING:
    from rxrpc.core.connection import Connection
    from rxrpc.core.context import Context
    from rxrpc.core.peer import Peer
    from rxrpc.core.server_connection import ServerConnection
    from rxrpc.core.services import ServiceEntry
    from rxrpc.security.base import ConnectionSecurity

_UNANSWERED = frozenset({CallState.REQUEST, CallState.SERVING})


class ServerCall(Call):
    """The server's end of a call.

    It is shown to the service (`IncomingCall`) when its first packet is there and its client has
    proven its address and, where the security class asks for that, itself.
    """

    is_client = False

    def __init__(self, context: Context, peer: Peer, service: ServiceEntry, now: float) -> None:
        super().__init__(context, service.timeouts, now)
        self.peer = peer
        self.admitted = False
        self._service = service
        self._counted = False
        self._unread: dict[int, tuple[Header, bytes]] = {}  # until the client is known

    def bind(self, connection: Connection, channel: int, number: int, now: float) -> None:
        """The first packet of the call has come."""
        super().bind(connection, channel, number, now)
        self._become(CallState.REQUEST)

    @property
    def service_id(self) -> int:
        """The service that is called."""
        return self._connection.service_id

    @property
    def epoch(self) -> int:
        """The client's epoch: it changes when the client is started anew."""
        return self._connection.epoch

    @property
    def security(self) -> ConnectionSecurity:
        """What protects the connection, and knows who the client is."""
        return self._connection.security

    def receive(self, header: Header, body: bytes, now: float) -> None:
        """Feed one packet of this call. DATA waits until it can be read: until there is a key."""
        known = self._connection.security.established
        if known or self.over or header.type is not PacketType.DATA:
            super().receive(header, body, now)
            return
        drop = self._put_aside(header, body)
        if drop is not None:
            self._drop(now, drop, header)
        else:
            self.heard = now

    def _put_aside(self, header: Header, body: bytes) -> DropReason | None:
        """Keep a packet of a client that has yet to say who it is; a few, in no order."""
        parameters = self.context.parameters
        if not 0 < header.seq <= parameters.receive_window:
            return DropReason.BEYOND_WINDOW
        if header.seq in self._unread:
            return DropReason.DUPLICATE
        full = self.context.buffered >= parameters.max_buffered_packets
        if full or len(self._unread) >= parameters.read_ahead:
            return DropReason.NO_SPACE
        self._unread[header.seq] = header, body
        self.context.buffered += 1
        return None

    def on_established(self, now: float) -> None:
        """The client is known: its packets can be read, and replies take what its level leaves."""
        self.packetizer.size = self._connection.payload_size
        for header, body in self._take_aside():
            self.receive(header, body, now)

    def _take_aside(self) -> list[tuple[Header, bytes]]:
        packets = [self._unread[seq] for seq in sorted(self._unread)]
        self.context.buffered -= len(packets)
        self._unread.clear()
        return packets

    def _end(self, now: float, outcome: str) -> None:
        self._take_aside()
        super()._end(now, outcome)

    def admit(self, now: float) -> None:
        """Show the call to the service, if it is time for that."""
        begun = self.receiving.complete or (self.receiving.bytes and not self._service.whole)
        if self.admitted or self.state not in _UNANSWERED or not begun:
            return
        connection = cast("ServerConnection", self._connection)
        if connection.may_admit(now):
            self.admitted = True
            connection.core.admission.prove(self)
            if self.security.level < self._service.level:
                reason = f"security level {self.security.level.name}"
                self.abort(RxCode.INVALID_OPERATION, now, reason)
                return
            self._counted = True
            self._service.calls += 1
            self.context.events.append(IncomingCall(self))

    @property
    def unfinished(self) -> bool:
        """Whether nobody is shown the call before more of its request comes."""
        return self._service.whole and self.state is CallState.REQUEST

    def release(self) -> None:
        """The service is done with the call, so that another may take its place."""
        if self._counted:
            self._counted = False
            self._service.calls -= 1

    def give_up(self, now: float) -> None:
        """The client has not answered, and there are too many like it: not a word to anybody."""
        self.error = CallTimeout("reach")
        self._become(CallState.FAILED)
        self._end(now, "reach")
        self._connection.forget(self)

    def supersede(self, now: float) -> None:
        """The client has begun another call on the channel: this one is over for it."""
        if self.state is CallState.CONFIRMING:
            self.sending.acknowledge_all(now)
            self._complete(now)
        else:
            self.fail(CallAborted(RxCode.CALL_DEAD, remote=True, reason="client moved on"), now)

    @property
    def confirmed(self) -> bool:
        """Whether the client has the whole reply."""
        return self.state is CallState.COMPLETE

    def _begin_sending(self) -> None:
        """The reply begins, and with it the request ends, whether it was whole or not.

        Rx cannot do otherwise: a client takes the first packet of a reply for an ACK of all that
        it has sent, and Linux's sends no more; a server of OpenAFS that writes reads no more.
        OpenAFS's client does not notice before it reads, so what still comes is acknowledged and
        thrown away. Source: rx.c (rxi_ReceivePacket), rx_rdwr.c (rxi_WriteProc); linux,
        net/rxrpc/input.c (rxrpc_receiving_reply).
        """
        if self.state in _UNANSWERED:
            self._become(CallState.REPLYING)
            if not self.receiving.complete:
                self.cut = True
                self.receiving.stop_reading()
                self.receiving.take_unread()
            self.receiving.on_acknowledged()  # the reply says it

    def retire(self) -> None:
        """Nobody remembers the call."""
        self._take_aside()
        if self.cut:
            self.receiving.discard()  # what was out of order never got into it
        super().retire()

    def _after_data(self, now: float) -> None:
        if self.state is CallState.REQUEST:
            if self.receiving.complete:
                self._become(CallState.SERVING)
            self.admit(now)
        if self.cut:
            self.receiving.take_unread()
        self.wake_reader()

    def _after_ack(self, now: float) -> None:
        if self.state in (CallState.REPLYING, CallState.CONFIRMING):
            self._check_arrived(now)
            if self.state is CallState.REPLYING and self.room:
                self.wake()

    def _after_transmit(self, now: float) -> None:
        if self.state is CallState.REPLYING and self.sending.all_sent:
            self._become(CallState.CONFIRMING)

    def _check_arrived(self, now: float) -> None:
        if self.sending.all_arrived:
            self._complete(now)

    def _waits_for_peer(self) -> bool:
        if self.state is CallState.SERVING:
            return False
        if self.state is CallState.REPLYING and not self.sending.queued:
            return False
        return super()._waits_for_peer()

    def _peer_knows(self) -> bool:
        return True
