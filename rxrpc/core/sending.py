"""The outgoing side of a call: packets until they are acknowledged, and when to send them again.

Loss is found by later ACKs, after RFC 8985 (RACK): a packet is lost when one that was sent later
has arrived and either a round trip and a bit have passed, or three later ones have arrived. The
second rule is dropped for good in a call in which the network has once changed the order. The end
of a flight, which nothing later can show to be lost, is probed; a timeout is the last resort.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from typing import TYPE_CHECKING

from rxrpc.core.congestion import Congestion
from rxrpc.core.timers import NEVER
from rxrpc.wire.ack import Ack, AckReason
from rxrpc.wire.packet import HEADER_SIZE, LAST_PACKET
from rxrpc.wire.serial import MASK, before

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rxrpc.core.parameters import Parameters
    from rxrpc.core.peer import Peer

_PROBES = 3  # of the end of a flight, before a timeout
_LOSSY_PROBES = 6  # ... where packets are lost
_LOSSY_REFRESH = 0.25  # seconds for which a round trip holds, while packets are lost
_REORDER_FRACTION = 0.25  # of the least round trip: how late a packet may be (RFC 8985)


class Outgoing:
    """A DATA packet, kept until the peer has delivered it."""

    __slots__ = ("acked", "body", "checksum", "flags", "lost", "resends", "sent_at", "seq",
                 "serial", "transmission")  # fmt: skip

    def __init__(self, seq: int, body: bytes, checksum: int, flags: int) -> None:
        self.seq = seq
        self.body = body
        self.checksum = checksum
        self.flags = flags  # those that stay the same in each transmission
        self.serial = 0  # of the latest transmission; 0: never sent
        self.transmission = 0  # counts the transmissions of the whole call
        self.resends = 0
        self.sent_at = 0.0
        self.acked = False  # has arrived, but the peer may still drop it
        self.lost = False  # waits to be sent again


class Sending:
    """What a call has to send."""

    def __init__(
        self, peer: Peer, parameters: Parameters, *, now: float = 0.0, first: int = 1
    ) -> None:
        """``first``: the sequence number of the first packet; calls begin with 1."""
        self._peer = peer
        self._parameters = parameters
        self.congestion = Congestion(parameters, peer.threshold(now))
        self._origin = first
        self._latest_serial = 0  # of all that was sent
        self._witness = 0  # what had been sent when the peer first said that it has delivered
        self.first = first  # all before this one were delivered
        self.window = parameters.initial_send_window  # what the peer takes from `first` on
        self.finished = False  # the last packet is in here
        self.resends = 0
        self.acked_at = now  # when the peer last acknowledged something new
        self._ready: deque[Outgoing] = deque()  # never sent
        self._sent: deque[Outgoing] = deque()  # in order, from `first` on
        self._next = first  # the number of the next packet to be made
        self._in_flight = 0  # sent, not acknowledged, not lost
        self._lost = 0
        self._transmissions = 0
        self._timeouts = 0  # since something new was acknowledged
        self._timeout_at = NEVER
        self._probe_at = NEVER
        self._reorder_at = NEVER
        self._hold_until = 0.0  # after a BUSY
        self._probes = 0  # since something new was acknowledged, or the last timeout
        self._limited = False  # the congestion window held packets back
        self._at_once = False  # a loss was found: the first repetition does not wait (RFC 5681)
        self._ack_order: int | None = None  # serial of the latest ACK packet
        self._latest_acked = 0  # latest transmission that has arrived
        self._reordering = False
        self._reorder_steps = 1
        self._lossy = False  # something was lost, and not only late

    # What the program asks

    def append(self, body: bytes, checksum: int, flags: int, *, last: bool) -> int:
        """Queue a packet; its sequence number."""
        seq = self._next
        self._ready.append(Outgoing(seq, body, checksum, flags))
        self._next = (seq + 1) & MASK
        self.finished = last
        return seq

    @property
    def next_seq(self) -> int:
        """The number that the next packet will get."""
        return self._next

    @property
    def queued(self) -> int:
        """Packets that were not delivered yet."""
        return len(self._ready) + len(self._sent)

    @property
    def in_flight(self) -> int:
        """Packets that were sent and are neither acknowledged nor taken for lost."""
        return self._in_flight

    @property
    def transmissions(self) -> int:
        """Packets sent, repetitions with them."""
        return self._transmissions

    @property
    def sent_any(self) -> bool:
        """Whether the peer may know of this call."""
        return self._transmissions > 0

    @property
    def untouched(self) -> bool:
        """Whether the peer has acknowledged nothing yet."""
        return not self._latest_acked

    @property
    def all_sent(self) -> bool:
        """Whether every packet, the last one with them, was sent at least once."""
        return self.finished and not self._ready

    @property
    def all_arrived(self) -> bool:
        """Whether every packet, the last one with them, has arrived at the peer."""
        return self.all_sent and all(packet.acked for packet in self._sent)

    # What is to be sent now

    def take(self, now: float) -> Iterator[tuple[Outgoing, bool]]:
        """Packets to send now, lost ones first, each with whether an ACK is to be asked for.

        The caller sends each at once and then calls `on_sent`.
        """
        if now < self._hold_until:
            return
        if self._lost:
            for packet in tuple(self._sent):
                if packet.lost:
                    if self._in_flight >= self.congestion.window and not self._at_once:
                        self._limited = True
                        break
                    self._at_once = False
                    yield packet, True
        unsent = bool(self._ready)
        while self._ready:
            if self._in_flight >= self.congestion.window:
                self._limited = True
                break
            if len(self._sent) >= self.window:
                break
            packet = self._ready.popleft()
            self._sent.append(packet)
            yield packet, self._wants_ack(now)
        if unsent and self.all_sent and len(self._sent) > 1:
            self._restart_timers(now)  # the end may be acknowledged later than what went before

    def _wants_ack(self, now: float) -> bool:
        """Ask for an ACK where the flight ends, so that the next one can begin.

        Not for the last packet of all: the reply, or the next call, is an ACK for it. Yet when the
        round trip has not been measured for long the first packet asks.
        """
        if self._transmissions == 0 and self._wants_rtt(now):
            return True
        if not self._ready:
            return not self.finished
        full = self._in_flight + 1 >= self.congestion.window
        return full or len(self._sent) >= self.window

    def _wants_rtt(self, now: float) -> bool:
        """Whether to measure the round trip. What is lost by chance, and what in a full queue, is
        told apart by it.
        """
        rtt = self._peer.rtt
        lossy = self._peer.losses.seen(now)
        return rtt.stale(now) or (lossy and now - rtt.measured_at > _LOSSY_REFRESH)

    def probe(self) -> Outgoing | None:
        """The packet with which to probe the end of the flight."""
        for packet in reversed(self._sent):
            if not packet.acked:
                return packet
        return None

    def on_sent(self, packet: Outgoing, serial: int, now: float) -> None:
        """The packet goes out, under this serial number."""
        self._transmissions += 1
        packet.transmission = self._transmissions
        if packet.serial:
            packet.resends += 1
            self.resends += 1
        if packet.lost:
            packet.lost = False
            self._lost -= 1
            self._in_flight += 1
        elif not packet.serial:
            self._in_flight += 1
        packet.serial = self._latest_serial = serial
        packet.sent_at = now
        if self._timeout_at == NEVER:
            self._restart_timers(now)

    # What the peer says

    def acknowledge(self, ack: Ack, order: int, now: float) -> bool:
        """Take in an ACK that came in a packet with the serial ``order``.

        False when it acknowledges packets that were never sent, or takes back delivered ones:
        such an ACK has no effect at all and is no sign of life.
        """
        delivered = (ack.first - self.first) & MASK
        if delivered > len(self._sent):
            return False
        if any(flag & 1 for flag in ack.acks[len(self._sent) - delivered :]):
            return False
        if delivered and not self._witness:
            self._witness = self._latest_serial
        new = self._deliver(delivered)
        if self._ack_order is None or not before(order, self._ack_order):
            self._ack_order = order
            new += self._read_table(ack.acks)
            if ack.trailer is not None and ack.trailer.window is not None:
                self.window = min(max(ack.trailer.window, 1), self._parameters.max_send_window)
        if ack.reason == AckReason.DUPLICATE and self._reorder_steps < 64:
            self._reorder_steps += 1  # something was sent again in vain: be more patient
        if new:
            self._on_progress(new, ack, now)
        self._find_losses(now)
        return True

    def forgotten(self, ack: Ack) -> bool:
        """Whether an ACK without effect shows that the peer has begun anew and knows nothing of
        the call: it waits for the first packet, although it had delivered that before the packet
        which it answers was sent. However late or out of order packets come, no other peer does.
        Source: rxrpc_input_ack of Linux, which takes such ACKs for a change of address.
        """
        return (
            self._witness != 0
            and ack.first == self._origin != self.first
            and before(self._witness, ack.serial)
        )

    def acknowledge_all(self, now: float) -> None:
        """Everything has arrived: the reply has begun, or the peer said so (ACKALL)."""
        if self._deliver(len(self._sent)):
            self.acked_at = now
        self._stop_timers()
        self._timeouts = 0

    def abandon(self) -> None:
        """Nothing of this is wanted any more, and nothing that is written later."""
        self.finished = True
        self._ready.clear()
        self._deliver(len(self._sent))
        self._hold_until = 0.0
        self._stop_timers()

    def _deliver(self, count: int) -> list[Outgoing]:
        """Forget the first packets; those of them that had not been acknowledged before."""
        newly: list[Outgoing] = []
        for _ in range(count):
            packet = self._sent.popleft()
            if packet.lost:
                packet.lost = False
                self._lost -= 1
                newly.append(packet)
            elif not packet.acked:
                self._in_flight -= 1
                newly.append(packet)
        self.first = (self.first + count) & MASK
        return newly

    def _read_table(self, acks: bytes) -> list[Outgoing]:
        """Mark packets that have arrived; those that had not been acknowledged before.

        A peer may drop a packet that it has acknowledged here, and says so in a later table. It has
        no room then, or is none of good will, so that counts for a loss.
        """
        newly: list[Outgoing] = []
        for packet, flag in zip(self._sent, acks, strict=False):
            if flag & 1:
                if not packet.acked:
                    packet.acked = True
                    if packet.lost:
                        packet.lost = False
                        self._lost -= 1
                    else:
                        self._in_flight -= 1
                    newly.append(packet)
            elif packet.acked:
                packet.acked = False
                packet.lost = True
                self._lost += 1
                self.congestion.on_lost(
                    packet.transmission, self._transmissions + 1, self._in_flight
                )
        return newly

    def _on_progress(self, new: list[Outgoing], ack: Ack, now: float) -> None:
        """Packets were acknowledged for the first time."""
        for packet in new:
            if self._is_large(packet):
                self._peer.proven = now
            self._lossy = self._lossy or (packet.resends > 0 and ack.serial == packet.serial)
            if ack.serial == packet.serial and ack.reason != AckReason.DELAY:
                self._peer.rtt.on_sample(now - packet.sent_at, now)
            if packet.transmission > self._latest_acked:
                self._latest_acked = packet.transmission
            elif not packet.resends:
                self._reordering = True
        self.congestion.on_acked(len(new), limited=self._limited)
        self._limited = False
        self._timeouts = self._probes = 0
        self._hold_until = 0.0
        self.acked_at = now
        if self._in_flight or self._lost:
            self._restart_timers(now)
        else:
            self._stop_timers()

    # What is lost

    def _find_losses(self, now: float) -> None:
        """Mark as lost what later packets have overtaken for too long."""
        self._reorder_at = NEVER
        arrived = sorted(packet.transmission for packet in self._sent if packet.acked)
        if not self._latest_acked or not (arrived or self.resends):
            return  # without a gap and without a repetition nothing can have been overtaken
        rtt = self._peer.rtt
        patience = rtt.latest + min(
            rtt.minimum * _REORDER_FRACTION * self._reorder_steps, rtt.smoothed or 0.0
        )
        threshold = self._parameters.nack_threshold
        for packet in self._sent:
            if packet.acked or packet.lost or packet.transmission > self._latest_acked:
                continue
            overtaken = len(arrived) - bisect_right(arrived, packet.transmission)
            late = packet.sent_at + patience
            if late <= now or (overtaken >= threshold and not self._reordering):
                self._lose(packet)
            else:
                self._reorder_at = min(self._reorder_at, late)

    def _lose(self, packet: Outgoing) -> None:
        """The packet has to be sent again."""
        self._lossy = True
        backlog = self._peer.rtt.backlog(self._in_flight)
        if self.congestion.on_lost(
            packet.transmission, self._transmissions + 1, self._in_flight, backlog
        ):
            self._at_once = True
        packet.lost = True
        self._lost += 1
        self._in_flight -= 1

    # Timers

    def next_timer(self) -> float:
        """When `on_timer` has something to do."""
        if self._hold_until:
            return self._hold_until
        return min(self._timeout_at, self._probe_at, self._reorder_at)

    def on_timer(self, now: float) -> Outgoing | None:
        """Find losses; the packet with which to probe, when it is time for that."""
        if self._hold_until:
            if now >= self._hold_until:
                self._hold_until = 0.0  # everything is lost, and goes with the next `take`
            return None
        if self._reorder_at <= now:
            self._find_losses(now)
        if self._timeout_at <= now:
            self._on_timeout(now)
        elif self._probe_at <= now:
            self._probes += 1
            self._probe_at = self._next_probe(now)
            return self.probe()
        return None

    def _on_timeout(self, now: float) -> None:
        self._timeouts += 1
        self._probes = 0
        self.congestion.on_timeout(self._transmissions + 1, self._in_flight)
        self._mark_all_lost()
        self._restart_timers(now)

    def _mark_all_lost(self) -> None:
        for packet in self._sent:
            if not (packet.acked or packet.lost):
                packet.lost = True
                self._lost += 1
        self._in_flight = 0

    def hold(self, until: float) -> None:
        """The peer was busy: send everything again, but not before ``until``."""
        self._hold_until = until
        self._mark_all_lost()
        self._stop_timers()

    @property
    def held(self) -> bool:
        """Whether it waits for that."""
        return self._hold_until > 0.0

    def resend_all(self, now: float) -> None:
        """Packets were too large for the way, which is wider or in pieces now: again at once."""
        self._mark_all_lost()
        self._restart_timers(now)

    @property
    def stuck_large(self) -> bool:
        """Whether what the peer waits for first is over the size that passes everywhere."""
        return bool(self._sent) and self._is_large(self._sent[0])

    def _is_large(self, packet: Outgoing) -> bool:
        return len(packet.body) > self._parameters.safe_mtu - HEADER_SIZE

    @property
    def timeouts(self) -> int:
        """Timeouts in a row."""
        return self._timeouts

    def _restart_timers(self, now: float) -> None:
        timeout = self._peer.rtt.timeout(self._timeouts)
        self._timeout_at = now + timeout
        self._probe_at = self._next_probe(now)

    def _next_probe(self, now: float) -> float:
        """When to probe, after the probes so far; `NEVER` when a timeout comes before.

        Three before each timeout, each after twice the time of the one before, where RFC 8985 has
        one before the first: at 20 % of loss each way one probe in three is in vain, and a timeout
        is an age where round trips are short. Where they are long, there is no room for so many.
        Where losses were seen it is more of them, sooner.
        """
        lossy = self._lossy or self._peer.losses.seen(now)
        delay = self._peer.rtt.probe_delay(lossy=lossy)
        if delay is None or self._probes >= (_LOSSY_PROBES if lossy else _PROBES):
            return NEVER
        delay *= 1 << self._probes
        if self._sent and self._sent[-1].flags & LAST_PACKET and not self._probes and not lossy:
            delay += self._parameters.soft_ack_delay
        return now + delay if now + delay < self._timeout_at else NEVER

    def _stop_timers(self) -> None:
        self._timeout_at = self._probe_at = self._reorder_at = NEVER

    @property
    def threshold(self) -> int:
        """The slow-start threshold, for the peer to remember."""
        return self.congestion.threshold
