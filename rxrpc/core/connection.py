"""A connection: four channels, their call numbers, one security context, one serial counter."""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from rxrpc.core.losses import Losses
from rxrpc.core.outcomes import describe
from rxrpc.core.timers import NEVER
from rxrpc.errors import CallAborted, CallError, ParseError
from rxrpc.trace import ConnectionClosed, ConnectionOpened, DropReason
from rxrpc.wire.control import Abort
from rxrpc.wire.packet import (
    CHANNELS,
    CLIENT_INITIATED,
    HEADER,
    UPGRADE,
    Header,
    PacketType,
)
from rxrpc.wire.serial import following

if TYPE_CHECKING:
    from rxrpc.core.call import Call
    from rxrpc.core.context import Context
    from rxrpc.core.endpoint import EndpointCore
    from rxrpc.core.peer import Peer
    from rxrpc.security.base import ConnectionSecurity
    from rxrpc.wire.ack import Ack

_ROUTE = struct.Struct("!3I")

ConnectionKey = tuple[tuple[str, int], int, int, bool]
"""Address, epoch, cid, whether we are the client."""


class Connection(ABC):
    """What both roles share."""

    is_client: bool
    answered = True
    """Client: the server has answered a call of this connection, or takes too long for that."""
    seeks_upgrade = False
    """Client: the server is asked for a better service, and has not answered yet."""
    terse = False
    """Server: the client need not be who he says, so he gets ACKs without a trailer."""

    def __init__(
        self,
        core: EndpointCore,
        peer: Peer,
        epoch: int,
        cid: int,
        service_id: int,
        security_index: int,
        security: ConnectionSecurity,
        now: float,
    ) -> None:
        self.core = core
        self.context: Context = core.context
        self.peer = peer
        self.epoch = epoch
        self.cid = cid
        self.service_id = service_id
        self.asked_id = service_id  # what the first packet asked for: see `upgraded`
        self.security_index = security_index
        self.security = security
        self.calls: list[Call | None] = [None] * CHANNELS
        self.numbers = [0] * CHANNELS  # of the latest call on each channel
        self.ends: list[int | None] = [None] * CHANNELS  # client: where its reply ended, if it did
        self.active = 0  # calls that are not over
        self.idle_since = now
        self.error: CallError | None = None
        self.armed = NEVER
        self._serial = 0
        # Anybody can write anybody's address into packets that begin a connection to us.
        self.losses = peer.losses if self.is_client else Losses()  # of what the peer sends
        peer.connections += 1
        self.context.journal.record(
            now, ConnectionOpened(peer.address, epoch, cid, service_id, self.is_client)
        )

    @property
    def key(self) -> ConnectionKey:
        """What finds it."""
        return (self.peer.address, self.epoch, self.cid, self.is_client)

    @property
    def payload_size(self) -> int:
        """Bytes of payload in the largest DATA packet of a new call."""
        return self.security.capacity(self.peer.payload_size)

    @property
    def hears_us(self) -> bool:
        """Whether whoever sends is the one who gets what we send: who knows our epoch and cid."""
        return True

    def on_ack(self, ack: Ack) -> None:
        """An ACK that makes sense has come: take what it says of the sizes of packets."""
        if ack.trailer is not None:
            self.peer.learn_sizes(ack.trailer)

    @property
    def serial(self) -> int:
        """Of the packet that was sent last."""
        return self._serial

    def route(self, channel: int, number: int) -> bytes:
        """The first bytes of the packets of a call."""
        return _ROUTE.pack(self.epoch, self.cid | channel, number)

    def send(
        self,
        kind: PacketType,
        body: bytes,
        now: float,
        *,
        channel: int = 0,
        call_number: int = 0,
        seq: int = 0,
        flags: int = 0,
        checksum: int = 0,
    ) -> int:
        """Hand out a packet; its serial number."""
        self._serial = serial = following(self._serial)
        status = UPGRADE if self.seeks_upgrade and seq == 1 else 0
        header = HEADER.pack(
            self.epoch, self.cid | channel, call_number, seq, serial, kind, flags, status,
            self.security_index, checksum, self.service_id,
        )  # fmt: skip
        self.context.outbox.append((header + body, self.peer.address))
        self.peer.sent = now
        journal = self.context.journal
        journal.sent[kind] += 1
        if journal.every_packet:
            parsed, _body = Header.parse(header)
            journal.packet_sent(now, self.peer.address, parsed, body)
        return serial

    def receive(self, header: Header, body: bytes, now: float) -> None:
        """Feed one packet of this connection. A peer's mistake never raises out of here."""
        if header.security_index != self.security_index:
            self.drop(now, DropReason.WRONG_SECURITY, header)
        elif header.type is not PacketType.ABORT and not self._is_of_service(header.service_id):
            # OpenAFS refuses an unknown service with the service's number in the checksum's place.
            self.drop(now, DropReason.WRONG_SERVICE, header)
        elif header.call_number == 0:
            self._on_connection_packet(header, body, now)
        else:
            self._on_call_packet(header, body, now)

    def _is_of_service(self, service_id: int) -> bool:
        """A packet may name the service that was asked for, or the one that serves."""
        return service_id in (self.service_id, self.asked_id)

    def drop(self, now: float, reason: DropReason, header: Header, detail: str = "") -> None:
        """A packet has no effect."""
        self.context.journal.drop(now, self.peer.address, reason, header, detail)

    def _on_connection_packet(self, header: Header, body: bytes, now: float) -> None:
        match header.type:
            case PacketType.ABORT:
                try:
                    code = Abort.parse(body).code
                except ParseError as exc:
                    self.drop(now, DropReason.MALFORMED, header, str(exc))
                    return
                self.peer.heard = now
                self.close(CallAborted(code, remote=True, reason="connection aborted"), now)
            case PacketType.CHALLENGE:
                self._on_challenge(header, body, now)
            case PacketType.RESPONSE:
                self._on_response(header, body, now)
            case _:
                self.drop(now, DropReason.UNSUPPORTED, header)

    @abstractmethod
    def _on_call_packet(self, header: Header, body: bytes, now: float) -> None:
        """A packet of one of the calls."""

    def _on_challenge(self, header: Header, body: bytes, now: float) -> None:
        self.drop(now, DropReason.UNEXPECTED, header)

    def _on_response(self, header: Header, body: bytes, now: float) -> None:
        self.drop(now, DropReason.UNEXPECTED, header)

    def on_reached(self, now: float) -> None:
        """The peer has answered a ping of ours, so its address is no lie."""
        self.peer.reached = now

    def on_answer(self, now: float) -> None:  # noqa: B027
        """Client: the server has begun to reply."""

    def add(self, call: Call, channel: int) -> None:
        """Put a call on a channel; the one before it is forgotten."""
        before = self.calls[channel]
        if before is not None:
            before.retire()
        self.calls[channel] = call
        self.active += 1

    def on_call_over(self, call: Call, now: float) -> None:
        """A call has ended; it stays on its channel for late duplicates."""
        self.active -= 1
        self.idle_since = now

    def forget(self, call: Call) -> None:
        """Nobody asks for the call any more."""
        call.retire()
        self.calls[call.channel] = None

    def abort(self, code: int, now: float) -> None:
        """End the connection and all its calls, and say so to the peer."""
        self.send_abort(code, now)
        self.close(CallAborted(code, remote=False, reason="connection aborted"), now)

    def send_abort(self, code: int, now: float) -> None:
        """Tell the peer that the connection is no more."""
        flags = CLIENT_INITIATED if self.is_client else 0
        self.send(PacketType.ABORT, Abort(code).build(), now, flags=flags)

    def close(self, error: CallError, now: float) -> None:
        """End all calls; the connection is forgotten."""
        self.error = error
        for call in list(self.calls):
            if call is not None:
                call.fail(error, now)
                call.settle()
        self.discard(now, describe(error))

    def discard(self, now: float, reason: str) -> None:
        """Forget the connection and what is left of its calls."""
        for channel, call in enumerate(self.calls):
            if call is not None:
                call.retire()
                self.calls[channel] = None
        self.context.timers.retire(self)
        self.security.discard()
        self.peer.connections -= 1
        self.core.on_connection_closed(self)
        self.context.journal.record(
            now, ConnectionClosed(self.peer.address, self.epoch, self.cid, reason)
        )

    def next_timer(self) -> float:
        """When `on_timer` has something to do."""
        return NEVER if self.active else self.idle_since + self._idle_time()

    def on_timer(self, now: float) -> None:
        """The connection was idle for long: forget it."""
        self.discard(now, "idle")

    @abstractmethod
    def _idle_time(self) -> float:
        """Seconds without a call after which the connection is forgotten."""
