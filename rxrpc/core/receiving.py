"""The incoming side of a call: order, duplicates, what to acknowledge and when.

Payload goes straight into the buffer that the program gave, when there is one; otherwise it waits.
A packet counts as delivered (acknowledged for good) when it came in order, as long as no more than
`Parameters.read_ahead` packets wait to be read; what is beyond is acknowledged in the table only.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from rxrpc.core.reminders import Reminders
from rxrpc.core.timers import NEVER
from rxrpc.trace import DropReason
from rxrpc.wire.ack import AckReason
from rxrpc.wire.packet import LAST_PACKET, MORE_PACKETS, REQUEST_ACK
from rxrpc.wire.serial import HALF, MASK, before

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rxrpc.core.context import Context

_FIRST_ACK_AFTER = 2  # packets: senders in slow start count on that (rx_globals.h: SoftAckRate)
_QUICK = 32  # packets after a loss, in which the peer's window is likely to be small
_NO_SINK = memoryview(bytearray(0))
_NOBODY = 1 << 62  # a demand that is never met


class Receiving:
    """What comes in within one call."""

    __slots__ = (
        "_ack_after",
        "_context",
        "_demand",
        "_held",
        "_highest",
        "_is_client",
        "_latest",
        "_quick",
        "_sinks",
        "_told",
        "ack_at",
        "bytes",
        "complete",
        "delivered",
        "fast",
        "filled",
        "last",
        "missed",
        "next",
        "paused",
        "pending",
        "plain",
        "previous",
        "progress_at",
        "reminders",
        "room",
        "serial",
        "sink",
        "unread",
        "unread_bytes",
        "urgent",
        "urgent_serial",
        "wake",
    )  # fmt: skip

    def __init__(
        self, context: Context, *, is_client: bool, transparent: bool, now: float, first: int = 1
    ) -> None:
        """``first``: the sequence number of the first packet; calls begin with 1."""
        self._context = context
        self._is_client = is_client
        self.plain = transparent  # payload is what is in the packets
        self.fast = False  # nothing but the expected packet matters: see `Call.take`
        self.next = first  # the packet that is expected
        self.previous = (first - 1) & MASK  # the last packet of those that came
        self.serial = 0  # of the one that came last
        self.last: int | None = None  # the packet that ends the stream, once known
        self.complete = False  # everything has come
        self.bytes = 0
        self.progress_at = now  # when payload last came
        self._held: dict[int, tuple[bytes, int]] = {}  # beyond a gap: payload and flags
        self._highest = first  # of those held
        self._latest = 0  # serial of that one
        self.delivered = first  # all before this one are acknowledged for good
        self._told = first  # `delivered` in the latest ACK
        # What waits to be read, and where to put what comes
        self.unread: deque[memoryview] = deque()
        self.unread_bytes = 0
        self.sink = _NO_SINK
        self._sinks: deque[memoryview] = deque()  # to follow it
        self.filled = 0
        self.room = 0  # bytes from `filled` to the end of the sink
        self._demand = _NOBODY  # unread bytes for which the program waits
        self.wake = False  # the program has what it waits for
        # What to acknowledge
        self.pending = 0  # packets received since the last ACK
        self.paused = False  # the last packet said that no other follows it now
        self.urgent: int | None = None  # reason of an ACK that has to go now
        self.urgent_serial = 0
        self.ack_at = NEVER
        self._ack_after = _FIRST_ACK_AFTER
        self.missed = 0  # packets that were missing when a later one came, since the last ACK
        self._quick = 0  # packets for which each pause of the peer is acknowledged at once
        self.reminders = Reminders(context)

    # Packets

    def accept(
        self, seq: int, serial: int, flags: int, payload: bytes, now: float
    ) -> DropReason | None:
        """Take in a packet, already verified. What was wrong with it, if anything was."""
        drop = self._place(seq, serial, flags, payload, now)
        if flags & REQUEST_ACK and self.urgent is None and not self._may_wait(seq):
            self.urgent, self.urgent_serial = AckReason.REQUESTED, serial
        self.fast = not self._held and self.last is None
        return drop

    def _may_wait(self, seq: int) -> bool:
        """Whether an ACK that was asked for says nothing that the channel's next call will not.

        That is so for the end of a reply of several packets: OpenAFS servers ask there, too,
        although the ACKs before it have told them the round trip. It is sent when no call follows
        within `idle_ack_delay`.
        """
        return self.complete and self._is_client and seq == self.last != 1

    def _place(
        self, seq: int, serial: int, flags: int, payload: bytes, now: float
    ) -> DropReason | None:
        ahead = (seq - self.next) & MASK
        if ahead >= HALF or seq in self._held:
            self._acknowledge(AckReason.DUPLICATE, serial)
            return DropReason.DUPLICATE
        if self._is_behind_end(seq, flags):
            return DropReason.BEYOND_END
        if (seq - self.delivered) & MASK >= self._context.parameters.receive_window:
            self._acknowledge(AckReason.EXCEEDS_WINDOW, serial)
            return DropReason.BEYOND_WINDOW
        waits = ahead > 0 or len(payload) > self.room
        if waits and self._context.buffered >= self._context.parameters.max_buffered_packets:
            self._acknowledge(AckReason.NOSPACE, serial)
            return DropReason.NO_SPACE
        self.pending += 1
        if (seq - self.previous) & MASK < HALF:
            # Never backwards: a peer takes such an ACK for an old one (ack_is_valid in rx.c).
            self.previous = seq
        self.serial = serial
        self.paused = not flags & MORE_PACKETS
        if flags & LAST_PACKET:
            self.last = seq
        if self._held and before(serial, self._latest):
            # Each transmission has a serial of its own: this one was overtaken, not sent again.
            self.missed -= 1
            self.reminders.overtaken()
        if ahead:
            self._hold(seq, serial, flags, payload)
        else:
            self._append(flags, payload, now)
            self._release(now)
        return None

    def _is_behind_end(self, seq: int, flags: int) -> bool:
        """Whether the packet contradicts the end of the stream as it is known."""
        if self.last is not None:
            return seq != self.last if flags & LAST_PACKET else (self.last - seq) & MASK >= HALF
        beyond = (self._highest - seq) & MASK
        return bool(flags & LAST_PACKET and self._held and 0 < beyond < HALF)

    def _hold(self, seq: int, serial: int, flags: int, payload: bytes) -> None:
        """Keep a packet that came too early."""
        highest = self._highest if self._held else (self.next - 1) & MASK
        beyond = (seq - highest) & MASK
        if beyond < HALF:
            self._highest = seq
            self._latest = serial
            self.missed += beyond - 1
        self._held[seq] = (payload, flags)
        self._context.buffered += 1
        self._quick = _QUICK
        self._ack_after = _FIRST_ACK_AFTER
        self._acknowledge(AckReason.OUT_OF_SEQUENCE, serial)

    def _release(self, now: float) -> None:
        """Move what was held only because of the packet that has come now."""
        while self._held and self.next in self._held:
            payload, flags = self._held.pop(self.next)
            self._context.buffered -= 1
            self._append(flags, payload, now)

    def _append(self, flags: int, payload: bytes, now: float) -> None:
        """Take in the expected packet."""
        self.next = (self.next + 1) & MASK
        if payload:
            self.progress_at = now
            self.put(memoryview(payload))
        if flags & LAST_PACKET:
            self.complete = True
            self.wake = True
        self.update_delivered()

    def put(self, view: memoryview) -> None:
        """Payload that came in order: into the sink as far as it goes, the rest waits."""
        self.bytes += len(view)
        while self.room and view:
            view = view[self._fill(view) :]
            if not self.room:
                self.sink_full()
        if view:
            self.unread.append(view)
            self.unread_bytes += len(view)
            self._context.buffered += 1
            if self.unread_bytes >= self._demand:
                self.wake = True

    def _fill(self, view: memoryview) -> int:
        """Copy what fits into the sink; how much that was."""
        taken = min(len(view), self.room)
        self.sink[self.filled : self.filled + taken] = view[:taken]
        self.filled += taken
        self.room -= taken
        return taken

    def sink_full(self) -> None:
        """The hot path has filled the sink."""
        if not self._next_sink():
            self.wake = True

    def _next_sink(self) -> bool:
        """Go on with the next buffer, if there is one."""
        while self._sinks and not self.room:
            self.sink = self._sinks.popleft()
            self.filled, self.room = 0, len(self.sink)
        return self.room > 0

    # Reading

    def read_into(self, sinks: Iterable[memoryview]) -> bool:
        """Give the buffers for what comes next; whether they could be filled at once.

        Otherwise packets go straight into them, one after the other, until `stop_reading`.
        """
        self._sinks.extend(sinks)
        while self._next_sink() and self.unread:
            chunk = self.unread.popleft()
            taken = self._fill(chunk)
            self.unread_bytes -= taken
            if taken < len(chunk):
                self.unread.appendleft(chunk[taken:])
            else:
                self._context.buffered -= 1
        self.update_delivered()
        return not self.room

    def stop_reading(self) -> None:
        """The buffers are the program's again."""
        self._sinks.clear()
        self.sink, self.filled, self.room = _NO_SINK, 0, 0

    def demand(self, size: int | None) -> None:
        """Say from how many unread bytes on the program wants to be woken; None: never."""
        self._demand = _NOBODY if size is None else size

    @property
    def starved(self) -> bool:
        """Whether nothing is here, or less than the program said it waits for."""
        return not self.unread or self.unread_bytes < self._demand < _NOBODY

    def take_unread(self) -> list[memoryview]:
        """All that waits to be read."""
        chunks = list(self.unread)
        self.unread.clear()
        self.unread_bytes = 0
        self._context.buffered -= len(chunks)
        self.update_delivered()
        return chunks

    def put_back(self, data: bytes) -> None:
        """Return what was taken in vain; it is read next."""
        if data:
            self.unread.appendleft(memoryview(data))
            self.unread_bytes += len(data)
            self._context.buffered += 1

    def discard(self) -> None:
        """Nobody will read this any more."""
        self._context.buffered -= len(self.unread) + len(self._held)
        self.unread.clear()
        self._held.clear()
        self.unread_bytes = 0
        self.fast = False
        self.stop_reading()
        self.on_acknowledged()

    # Acknowledging

    def update_delivered(self) -> None:
        """Reading moved on: more packets count as delivered, and the peer may have to know."""
        waiting = len(self.unread) - self._context.parameters.read_ahead
        delivered = (self.next - waiting) & MASK if waiting > 0 else self.next
        moved = (delivered - self.delivered) & MASK
        if 0 < moved < HALF:
            self.delivered = delivered
            opened = (delivered - self._told) & MASK
            every = self._context.parameters.ack_every
            if not self.pending and opened >= every and self.urgent is None and not self.complete:
                self.reminders.rounds = 0  # this is news, too, and the peer may wait for it
                self._acknowledge(AckReason.IDLE, 0)  # the window was shut and is open again

    def _acknowledge(self, reason: int, serial: int) -> None:
        self.urgent, self.urgent_serial = reason, serial

    def schedule_ack(self, now: float) -> None:
        """After a batch of packets: decide when they are acknowledged."""
        pending = self.pending
        if pending:
            self.reminders.rounds = 0
        if self.urgent is not None or not pending:
            return
        parameters = self._context.parameters
        if self.complete:
            delay = parameters.idle_ack_delay if self._is_client else parameters.soft_ack_delay
            self.ack_at = min(self.ack_at, now + delay)
        elif self._quick and (self.paused or pending >= _FIRST_ACK_AFTER):
            self._quick = max(0, self._quick - pending)
            self._acknowledge(AckReason.IDLE, self.serial)
        elif pending >= self._ack_after:
            self._acknowledge(AckReason.IDLE, self.serial)
            self._ack_after = min(self._ack_after * 2, parameters.ack_every)
        elif pending > 1 and self.paused and self._ack_after < parameters.ack_every:
            self._acknowledge(AckReason.IDLE, self.serial)  # a small window, and it is used up
        elif pending > 1:
            self.ack_at = now + parameters.quiet_ack_delay
        elif self.ack_at == NEVER:
            self.ack_at = now + parameters.soft_ack_delay

    def acknowledge_now(self) -> None:
        """There is no later at which more could be acknowledged with it."""
        if self.pending and self.urgent is None:
            self._acknowledge(AckReason.IDLE, self.serial)

    def on_timer(self, now: float) -> None:
        """The delayed ACK is due, or the repetition of one that may have been lost."""
        if self.ack_at > now:
            return
        self.ack_at = NEVER
        if self.urgent is not None:
            return
        if self.pending:
            if not self.complete:
                self._ack_after = max(_FIRST_ACK_AFTER, self.pending)
        else:
            self.reminders.due(len(self._held))
        # The reason keeps the peer from taking the delay for a part of the round trip.
        self._acknowledge(AckReason.DELAY, self.serial)

    def table(self) -> tuple[int, bytes]:
        """The first packet that is not delivered, and for it and those behind it what has come."""
        first = self.delivered
        acks = b"\x01" * ((self.next - first) & MASK)
        if self._held:
            count = (self._highest - self.next + 1) & MASK
            acks += bytes(((self.next + step) & MASK) in self._held for step in range(count))
        return first, acks

    def on_acknowledged(self) -> None:
        """An ACK goes out now."""
        self.pending = self.missed = 0
        self._told = self.delivered
        self.urgent = None
        self.reminders.copies = 1
        self.ack_at = NEVER

    def expect_more(self, now: float, rtt: float, *, lossy: bool = False) -> None:
        """After an ACK: should nothing new come, it is repeated."""
        if not self.complete and (self.bytes or self._held):
            delay = self.reminders.delay(rtt, len(self._held), lossy=lossy)
            if delay is not None:
                self.ack_at = now + delay
