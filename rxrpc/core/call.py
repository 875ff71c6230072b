"""A call: its state, its clocks, and the two halves that do the work, sending and receiving."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from rxrpc.core.clocks import Clocks
from rxrpc.core.events import CallChanged
from rxrpc.core.hotpath import HotPath
from rxrpc.core.outcomes import describe
from rxrpc.core.packetizer import Packetizer
from rxrpc.core.receiving import Receiving
from rxrpc.core.sending import Outgoing, Sending
from rxrpc.core.states import ACCEPT_MASKS, CallState
from rxrpc.core.timers import NEVER
from rxrpc.core.writing import PacketWriter
from rxrpc.errors import CallAborted, CallError, CallTimeout, ParseError, SecurityError
from rxrpc.security.base import PacketIdentity
from rxrpc.trace import CallEnded, CallStarted, DropReason, PacketsLost
from rxrpc.wire import jumbo
from rxrpc.wire.ack import Ack, AckReason
from rxrpc.wire.control import Abort
from rxrpc.wire.packet import (
    CLIENT_INITIATED,
    JUMBO,
    LAST_PACKET,
    REQUEST_ACK,
    Address,
    Header,
    PacketType,
)
from rxrpc.wire.serial import MASK

if TYPE_CHECKING:
    from rxrpc.core.clocks import CallTimeouts
    from rxrpc.core.connection import Connection
    from rxrpc.core.context import Context

_USUAL_RTT = 0.05  # seconds, while none was measured
_INCOMING = (CallState.RECEIVING, CallState.REQUEST)
_STREAMING = (CallState.SENDING, *_INCOMING, CallState.REPLYING)


class Call(HotPath):
    """One call, at one of its ends. Subclasses know which end."""

    is_client: bool
    admitted = False
    """Server: whether the service was shown the call."""

    def __init__(self, context: Context, timeouts: CallTimeouts, now: float) -> None:
        self.context = context
        self.connection: Connection | None = None
        self.channel = 0
        self.number = 0
        self.address: Address = ("", 0)
        self.state = CallState.WAITING
        self._accepts = ACCEPT_MASKS[CallState.WAITING]
        self.over = False  # nothing more will happen to it
        self.error: CallError | None = None
        self.user: object | None = None  # whoever waits for the events of this call
        self.watched = False  # the user waits for `confirmed`
        self.cut = False  # server: the reply began before the request had ended
        self.armed = NEVER
        self.dirty = False  # in the list of calls that may have something to send
        self.announced = False  # an event for the user is on its way
        self.heard = now  # when the peer last sent something sensible
        self._bound = now  # when the call got its place
        self.receiving: Receiving
        self.sending: Sending
        self._packets: PacketWriter
        self._route = b""
        self._clocks = Clocks(context.parameters, timeouts, now)
        self._ping_serial = 0
        self.packetizer = Packetizer()
        self._probe: Outgoing | None = None
        self._abort_due = False  # the peer is to be told that the call has failed
        self._refused: SecurityError | None = None  # what was written cannot be protected
        self._over_at = 0.0

    def bind(self, connection: Connection, channel: int, number: int, now: float) -> None:
        """The call gets its place."""
        self.connection = connection
        self.channel, self.number = channel, number
        self.address = connection.peer.address
        self._packets = PacketWriter(self.context, connection, channel, number)
        self._route = connection.route(channel, number)
        self.receiving = Receiving(
            self.context,
            is_client=self.is_client,
            transparent=connection.security.transparent,
            now=now,
        )
        self.expect_packets()
        self.sending = Sending(connection.peer, self.context.parameters, now=now)
        self.packetizer.size = connection.payload_size
        self.heard = self._bound = self._clocks.pinged = now
        if not self.context.journal.every_packet:
            self.open_fast_path()
        started = CallStarted(self.address, connection.cid | channel, number)
        self.context.journal.record(now, started)

    @property
    def unheard(self) -> bool:
        """Whether nothing sensible has ever come for this call."""
        return self.heard == self._bound

    def open_fast_path(self) -> None:
        """Have packets of this call come to `take` at once."""
        self.context.routes.setdefault(self._route, self)

    # Packets

    def receive(self, header: Header, body: bytes, now: float) -> None:
        """Feed one packet of this call. A peer's mistake never raises out of here."""
        if not self._accepts >> header.type & 1:
            self._drop(now, DropReason.WRONG_STATE, header)
            return
        try:
            match header.type:
                case PacketType.DATA:
                    self._on_data(header, body, now)
                case PacketType.ACK:
                    self._on_ack(header, Ack.parse(body), now)
                case PacketType.ACKALL:
                    self._heard_from(now)
                    self.sending.acknowledge_all(now)
                    self._after_ack(now)
                case PacketType.BUSY:
                    self._on_busy(now)
                case _:  # ABORT: nothing else is accepted in any state
                    self._heard_from(now)
                    self.fail(CallAborted(Abort.parse(body).code, remote=True), now)
        except ParseError as exc:
            self._drop(now, DropReason.MALFORMED, header, str(exc))
        except SecurityError as exc:
            self._drop(now, DropReason.INSECURE, header, str(exc))
            self._connection.abort(exc.code, now)
        self.mark()

    def _on_data(self, header: Header, body: bytes, now: float) -> None:
        if self.state is CallState.FAILED:
            self._abort_due = True
            return
        if header.flags & JUMBO:
            serial, seq = header.serial, header.seq
            for part in jumbo.split(header.flags, header.checksum, body):
                self._on_part(
                    header._replace(
                        seq=seq, serial=serial, flags=part.flags, checksum=part.checksum
                    ),
                    part.payload,
                    now,
                )
                seq, serial = (seq + 1) & MASK, (serial + 1) & MASK
        else:
            self._on_part(header, body, now)
        self._after_data(now)

    def _on_part(self, header: Header, body: bytes, now: float) -> None:
        """One packet of a DATA datagram, which usually is one packet."""
        security = self._connection.security
        if not security.transparent:
            packet = PacketIdentity(header.cid, self.number, header.seq)
            body = security.verify(packet, header.checksum, body)
        drop = self.receiving.accept(header.seq, header.serial, header.flags, body, now)
        if drop is not None:
            self._drop(now, drop, header)
        if drop is not DropReason.BEYOND_END:
            self._heard_from(now)

    def _on_ack(self, header: Header, ack: Ack, now: float) -> None:
        if self.state is CallState.FAILED:
            self._abort_due = True
            return
        if not self.sending.acknowledge(ack, header.serial, now):
            self._drop(now, DropReason.BAD_ACK, header)
            if self.sending.forgotten(ack):
                self.fail(CallTimeout("forgotten"), now)
            return
        self._heard_from(now)
        peer = self._connection.peer
        self._connection.on_ack(ack)
        if ack.reason == AckReason.PING_RESPONSE and ack.serial == self._ping_serial != 0:
            peer.rtt.on_sample(now - self._clocks.pinged, now)
            self._ping_serial = 0
            self._connection.on_reached(now)
        if ack.reason == AckReason.PING or header.flags & REQUEST_ACK:
            self._packets.ack(self.receiving, AckReason.PING_RESPONSE, header.serial, now)
        self._after_ack(now)

    def _heard_from(self, now: float) -> None:
        self.heard = now
        self._connection.peer.heard = now

    def _drop(self, now: float, reason: DropReason, header: Header, detail: str = "") -> None:
        self.context.journal.drop(now, self.address, reason, header, detail)

    @abstractmethod
    def _after_data(self, now: float) -> None:
        """DATA has come."""

    @abstractmethod
    def _after_ack(self, now: float) -> None:
        """The peer has acknowledged something."""

    def _on_busy(self, now: float) -> None:
        """The server has no room for the call. No state of a server's call listens to BUSY."""

    # What the user asks

    @property
    def room(self) -> bool:
        """Whether more should be written now; `CallChanged` tells when that becomes true."""
        packets = self.context.parameters.send_buffer
        if self.connection is None:
            return self.packetizer.waits_for_more(packets)
        return self.sending.queued < packets

    @property
    @abstractmethod
    def confirmed(self) -> bool:
        """Whether the peer has said that all we sent has arrived."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Queue bytes to be sent. What does not fill a packet waits for more, or for `finish`."""
        self.packetizer.write(data)
        self._make_packets()

    def finish(self) -> None:
        """There is nothing more to send."""
        self.packetizer.finish()
        self._make_packets()

    def _begin_sending(self) -> None:
        """Something is about to be sent."""

    def _make_packets(self) -> None:
        self._begin_sending()
        if self.over or self.connection is None or self.sending.finished:
            return
        flags = CLIENT_INITIATED if self.is_client else 0
        try:
            for payload, last in self.packetizer.cut():
                self._append(payload, flags | LAST_PACKET if last else flags, last=last)
        except SecurityError as exc:
            self._refused = exc
            self._abort_due = True
        self.mark()

    def _append(self, payload: bytes, flags: int, *, last: bool) -> None:
        connection, checksum = self._connection, 0
        if not connection.security.transparent:
            cid = connection.cid | self.channel
            packet = PacketIdentity(cid, self.number, self.sending.next_seq)
            payload, checksum = connection.security.protect(packet, payload)
        self.sending.append(payload, checksum, flags, last=last)

    def abort(self, code: int, now: float, reason: str = "") -> None:
        """End the call from this side, and tell the peer if it may know of the call."""
        self.fail(CallAborted(code, remote=False, reason=reason), now)

    def mark(self) -> None:
        """The call may have something to send."""
        if not self.dirty:
            self.dirty = True
            self.context.dirty.append(self)

    # The end

    def fail(self, error: CallError, now: float) -> None:
        """The call is over, without success."""
        if self.over:
            return
        known = self.connection is not None and self._peer_knows()
        self.error = error
        self._become(CallState.FAILED)
        if known and not (isinstance(error, CallAborted) and error.remote):
            self._abort_due = True
            self.mark()
        self._end(now, describe(error))

    def _complete(self, now: float) -> None:
        self._become(CallState.COMPLETE)
        self._end(now, "complete")

    def _end(self, now: float, outcome: str) -> None:
        self._over_at = now
        self.packetizer.clear()
        self.wake()
        if self.connection is None:
            return
        self.sending.abandon()
        if self.error is not None:
            self.receiving.discard()
        peer = self.connection.peer
        peer.remember_threshold(self.sending.threshold, now)
        peer.count(self.sending, self.packetizer.written, self.receiving.bytes)
        self.context.journal.data_resent += self.sending.resends
        self.context.journal.record(
            now,
            CallEnded(self.address, self.connection.cid | self.channel, self.number, outcome),
        )
        self.context.timers.update(self)
        self.connection.on_call_over(self, now)

    def _peer_knows(self) -> bool:
        return self.sending.sent_any

    def settle(self) -> None:
        """Acknowledge what came last, or the peer sends it again to somebody who is gone."""
        if self.error is None:
            self.receiving.acknowledge_now()
            self.mark()

    def retire(self) -> None:
        """Another call takes the channel, or nobody remembers this one: the last good-bye."""
        if self.context.routes.get(self._route) is self:
            del self.context.routes[self._route]
        self.context.timers.retire(self)

    def _become(self, state: CallState) -> None:
        self.state = state
        self.over = state is CallState.COMPLETE or state is CallState.FAILED
        self._accepts = ACCEPT_MASKS[state]

    @property
    def _connection(self) -> Connection:
        assert self.connection is not None
        return self.connection

    # Events

    def wake(self) -> None:
        """Tell the user that something has changed; once until the event is fetched."""
        if not self.announced:
            self.announced = True
            self.context.events.append(CallChanged(self))

    def wake_reader(self) -> None:
        """Tell the user if what it waits to read is there."""
        if self.receiving.wake:
            self.receiving.wake = False
            self.wake()

    # Packets out

    def transmit(self, now: float) -> None:
        """Send what there is to send now: an ACK, packets, a probe."""
        self.dirty = False
        receiving = self.receiving
        if self._abort_due:
            self._send_abort(now)
        if receiving.pending or receiving.urgent is not None:
            peer = self._connection.peer
            peer.heard = self.heard  # the hot path leaves that to us
            receiving.schedule_ack(now)
            if receiving.urgent is not None:
                losses = self._connection.losses
                losses.count(receiving.pending, receiving.missed, now)
                for _ in range(receiving.reminders.copies):
                    self._packets.ack(receiving, receiving.urgent, receiving.urgent_serial, now)
                receiving.on_acknowledged()
                if self.state in _INCOMING and self._connection.hears_us:
                    rtt = peer.rtt.smoothed
                    rtt = rtt if rtt is not None else _USUAL_RTT
                    receiving.expect_more(now, rtt, lossy=losses.seen(now))
            if receiving.ack_at < self.armed:
                self.context.timers.arm(self, receiving.ack_at)
        if self.over:
            return
        sending, write = self.sending, self._packets.data
        if self._probe is not None:
            sending.on_sent(self._probe, write(self._probe, REQUEST_ACK, now), now)
            self._probe = None
        for packet, wants_ack in sending.take(now):
            serial = write(packet, REQUEST_ACK if wants_ack else 0, now)
            sending.on_sent(packet, serial, now)
        due = sending.next_timer()
        if due < self.armed:
            self.context.timers.arm(self, due)
        self._after_transmit(now)

    def _after_transmit(self, now: float) -> None:
        """Packets were sent."""

    def ping(self, now: float) -> bool:
        """Ask the peer for a sign of life. False if nothing may be sent to it now."""
        self._clocks.pinged = now
        serial = self._packets.ack(self.receiving, AckReason.PING, 0, now)
        self._ping_serial = serial or self._ping_serial
        return serial > 0

    def _send_abort(self, now: float) -> None:
        """Tell the peer that the call is over; also in answer to whatever still comes of it."""
        self._abort_due = False
        if self._refused is not None and not self.over:
            self._connection.abort(self._refused.code, now)
        else:
            self._packets.abort(self.error, now)

    # Clocks

    def set_timeouts(self, timeouts: CallTimeouts, now: float) -> None:
        """Other timeouts from now on."""
        self._clocks = Clocks(self.context.parameters, timeouts, now)
        self.context.timers.update(self)

    def doubt(self, now: float) -> None:
        """The peer may have been started anew: it is to prove soon that it knows the call."""
        if not self.over and self.connection is not None:
            self._clocks.doubt(now)
            self.context.timers.update(self)

    def next_timer(self) -> float:
        """When `on_timer` has something to do."""
        if self.over:
            forget = self._over_at + self.context.parameters.linger_time
            return min(self.receiving.ack_at, forget) if self.connection is not None else NEVER
        return min(
            self.receiving.ack_at,
            self.sending.next_timer(),
            self._ping_due(),
            self._clocks.next(self.heard, self._progress_at()),
        )

    def _ping_due(self) -> float:
        return self._clocks.ping_due(self.heard)

    def _progress_at(self) -> float:
        """When the peer last did its part; `NEVER` when it is not the peer's turn."""
        if not self._waits_for_peer():
            return NEVER
        return max(self.receiving.progress_at, self.sending.acked_at)

    def _waits_for_peer(self) -> bool:
        """Whether it is the peer's turn."""
        return self.receiving.starved

    def _done_by_peer(self) -> int | None:
        """Bytes that it has sent and taken; None while it works on the call, or it is our turn."""
        if self.state not in _STREAMING or not self._waits_for_peer():
            return None
        return self.receiving.bytes + self.sending.first * self.packetizer.size

    def on_timer(self, now: float) -> None:
        """Whatever is due."""
        if self.over:
            self.receiving.on_timer(now)
            if now >= self._over_at + self.context.parameters.linger_time:
                self._connection.forget(self)
        elif what := self._clocks.expired(
            now, self.heard, self._progress_at(), self._done_by_peer()
        ):
            self.fail(CallTimeout(what), now)
        else:
            self._on_timer_alive(now)
        self.mark()

    def _on_timer_alive(self, now: float) -> None:
        self.receiving.on_timer(now)
        resends = self.sending.timeouts
        probe = self.sending.on_timer(now)
        if probe is not None:
            self._probe = probe
            self._lost(now, 1, "probe")
        elif self.sending.timeouts > resends:
            self._lost(now, self.sending.queued, "timeout")
        if now >= self._ping_due():
            self.ping(now)

    def _lost(self, now: float, count: int, cause: str) -> None:
        lost = PacketsLost(self._connection.cid | self.channel, self.number, count, cause)
        self.context.journal.record(now, lost)
