"""The outgoing side of a call, packet by packet."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxrpc.core.context import Context
from rxrpc.core.parameters import Parameters
from rxrpc.core.peer import Peer
from rxrpc.core.sending import Outgoing, Sending
from rxrpc.core.timers import NEVER
from rxrpc.wire.ack import Ack, AckReason, AckTrailer
from rxrpc.wire.packet import LAST_PACKET
from rxrpc.wire.serial import MASK, add

PARAMETERS = Parameters(initial_congestion_window=10, initial_send_window=16)


class Sender:
    """A `Sending` with a wire, a clock and serial numbers."""

    def __init__(self, count: int, *, first: int = 1, rtt: float | None = 0.1) -> None:
        context = Context(PARAMETERS)
        self.peer = Peer(("192.0.2.1", 7000), context)
        self.now = 100.0
        if rtt is not None:
            self.peer.rtt.on_sample(rtt, self.now)
        self.sending = Sending(self.peer, PARAMETERS, now=self.now, first=first)
        self.serial = 0
        self.order = 0
        for number in range(count):
            last = number == count - 1
            self.sending.append(b"%d" % number, 0, LAST_PACKET if last else 0, last=last)

    def transmit(self) -> list[tuple[int, bool]]:
        """Send what goes now: sequence numbers, and whether an ACK was asked for."""
        sent = []
        for packet, wants_ack in self.sending.take(self.now):
            self.send(packet)
            sent.append((packet.seq, wants_ack))
        return sent

    def send(self, packet: Outgoing) -> None:
        self.serial += 1
        self.sending.on_sent(packet, self.serial, self.now)

    def ack(
        self,
        first: int,
        acks: str = "",
        *,
        serial: int = 0,
        reason: AckReason = AckReason.IDLE,
        window: int | None = None,
        order: int | None = None,
    ) -> bool:
        """An ACK: ``acks`` is a string of + and -."""
        self.order = self.order + 1 if order is None else order
        trailer = None if window is None else AckTrailer(1444, 1444, window, 1)
        table = bytes(mark == "+" for mark in acks)
        return self.sending.acknowledge(
            Ack(first, 0, serial, reason, table, trailer), self.order, self.now
        )

    def timer(self) -> Outgoing | None:
        """Let the next timer ring."""
        self.now = self.sending.next_timer()
        return self.sending.on_timer(self.now)


def seqs(sent: list[tuple[int, bool]]) -> list[int]:
    return [seq for seq, _ in sent]


def test_the_congestion_window_bounds_the_flight_and_its_end_asks_for_an_ack() -> None:
    sender = Sender(30)
    assert sender.transmit() == [*((seq, False) for seq in range(1, 10)), (10, True)]
    assert not sender.transmit()
    assert sender.ack(11, window=64)
    assert seqs(sender.transmit()) == list(range(11, 31)), "slow start: 10 acked, 20 go"
    assert sender.sending.all_sent


def test_the_window_of_the_peer_bounds_what_is_ahead_of_delivery() -> None:
    sender = Sender(30)
    sender.transmit()
    assert sender.ack(1, "+" * 10, window=12)
    assert seqs(sender.transmit()) == [11, 12]
    assert sender.ack(3, "+" * 10)
    assert seqs(sender.transmit()) == [13, 14]
    assert sender.ack(5, window=0)
    assert sender.sending.window == 1, "0 would be for ever"
    assert sender.ack(15, window=1000)
    assert sender.sending.window == 255


def test_the_last_packet_asks_for_no_ack_except_to_measure_the_round_trip() -> None:
    assert Sender(1).transmit() == [(1, False)]
    assert Sender(1, rtt=None).transmit() == [(1, True)]
    assert Sender(2).transmit() == [(1, False), (2, False)]


def test_a_writer_that_pauses_gets_an_ack_for_what_it_wrote() -> None:
    sender = Sender(3)
    sender.sending.finished = False
    assert sender.transmit()[-1] == (3, True)


def test_round_trips_are_measured_by_the_serial_alone() -> None:
    sender = Sender(3, rtt=None)
    sender.transmit()
    sender.now += 0.2
    assert sender.ack(2, serial=2)
    assert sender.peer.rtt.smoothed is None, "of another packet"
    assert sender.ack(3, serial=2, reason=AckReason.DELAY)
    assert sender.peer.rtt.smoothed is None, "held back on purpose"
    assert sender.ack(4, serial=3)
    assert sender.peer.rtt.smoothed == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("first", "acks"),
    [(0, ""), (12, ""), (MASK, ""), (1, "+" * 11), (11, "+"), (6, "+++++-+")],
)
def test_an_ack_for_what_was_never_sent_has_no_effect(first: int, acks: str) -> None:
    sender = Sender(30)
    sender.transmit()
    assert not sender.ack(first, acks)
    assert sender.sending.first == 1
    assert not sender.transmit()


def test_a_peer_that_was_started_anew_has_forgotten_the_call() -> None:
    sender = Sender(20)

    def forgotten(first: int, serial: int) -> bool:
        return sender.sending.forgotten(Ack(first, 0, serial, AckReason.OUT_OF_SEQUENCE))

    sender.transmit()
    before = sender.serial
    assert not forgotten(1, before)  # nothing was delivered: it may be true
    assert sender.ack(4, serial=3)
    assert not forgotten(1, before)  # that packet was on its way when the others came
    sender.transmit()
    assert sender.serial > before
    assert forgotten(1, sender.serial)
    assert not forgotten(3, sender.serial)  # an old ACK under a new serial is nonsense, and no more
    assert not forgotten(4, sender.serial)


def test_a_table_may_go_on_with_packets_that_have_not_come() -> None:
    sender = Sender(10)
    sender.transmit()
    assert sender.ack(1, "+" * 10 + "-" * 20)
    assert sender.sending.all_arrived


def test_three_later_packets_make_one_lost() -> None:
    sender = Sender(10)
    sender.transmit()
    sender.now += 0.01
    assert sender.ack(1, "-++")
    assert not sender.transmit()
    assert sender.ack(1, "-+++")
    assert sender.transmit() == [(1, True)]
    assert sender.sending.congestion.window == 6
    assert sender.sending.resends == 1


def test_a_loss_while_packets_queue_halves_the_window() -> None:
    sender = Sender(10)
    sender.peer.rtt.on_sample(0.2, sender.now)  # twice the least: half the flight waits somewhere
    sender.transmit()
    sender.now += 0.01
    assert sender.ack(1, "-+++")
    assert sender.sending.congestion.window == 4


def test_time_makes_a_packet_lost_that_one_later_packet_has_overtaken() -> None:
    sender = Sender(4)
    sender.transmit()
    sender.now += 0.1
    assert sender.ack(1, "+-+", serial=3)
    assert not sender.transmit()
    before = sender.now
    assert sender.timer() is None
    assert 0 < sender.now - before < 0.05
    assert seqs(sender.transmit()) == [2]


def test_reordering_once_seen_is_borne_with() -> None:
    sender = Sender(10)
    sender.transmit()
    sender.now += 0.01
    assert sender.ack(1, "-++")
    assert sender.ack(1, "+++"), "the first came late, not never"
    assert sender.ack(1, "+++-++++")
    assert not sender.transmit(), "three later ones are no proof any more"


def test_a_packet_that_the_peer_dropped_after_all_is_sent_again() -> None:
    sender = Sender(5)
    sender.transmit()
    assert sender.ack(1, "+++++")
    assert sender.sending.all_arrived
    assert sender.ack(1, "+-+++")
    assert seqs(sender.transmit()) == [2]


def test_an_old_table_does_not_take_back_what_a_newer_one_said() -> None:
    sender = Sender(5)
    sender.transmit()
    assert sender.ack(1, "+++++", order=7)
    assert sender.ack(1, "++---", order=6)
    assert sender.sending.all_arrived


@pytest.mark.parametrize(
    ("rtt", "pauses"),
    [(0.001, [0.11, 0.02, 0.04]), (0.1, [0.3])],
    ids=["short", "long"],
)
def test_the_end_of_a_flight_is_probed_then_times_out(rtt: float, pauses: list[float]) -> None:
    """A peer may hold the ACK for the end of a request back; where it was asked, it does not."""
    sender = Sender(3, rtt=rtt)
    sender.transmit()
    before = sender.now
    seen = []
    while (probe := sender.timer()) is not None:
        assert probe.seq == 3
        sender.send(probe)
        seen.append(sender.now - before)
        before = sender.now
    assert seen == pytest.approx(pauses)
    assert sender.sending.timeouts == 1
    assert seqs(sender.transmit()) == [1], "one packet, after a timeout"
    assert sender.ack(2)
    assert sender.sending.timeouts == 0
    assert seqs(sender.transmit()) == [2, 3]


def test_between_timeouts_there_are_three_probes_at_most() -> None:
    sender = Sender(3, rtt=0.001)
    sender.transmit()
    for timeouts in range(1, 6):
        began, probes = sender.now, 0
        while (probe := sender.timer()) is not None:
            sender.send(probe)
            probes += 1
        assert probes == 3
        assert sender.sending.timeouts == timeouts
        assert sender.now - began >= sender.peer.rtt.timeout(timeouts - 1)
        assert seqs(sender.transmit()) == [1]


def test_where_packets_are_lost_there_are_more_probes_and_sooner() -> None:
    sender = Sender(30, rtt=0.0001)
    sender.transmit()
    first = sender.timer()
    assert first is not None
    assert first.seq == 10
    sender.send(first)
    assert sender.ack(11, serial=sender.serial)  # nothing but the probe can have brought that
    sender.transmit()
    began, pauses = sender.now, []
    while (probe := sender.timer()) is not None:
        pauses.append(round(sender.now - began, 4))
        began = sender.now
        sender.send(probe)
    assert len(pauses) == 6
    assert all(after == pytest.approx(2 * before) for before, after in pairwise(pauses))
    assert pauses[0] < 0.03


def test_an_ack_that_was_only_late_changes_no_probes() -> None:
    sender = Sender(30, rtt=0.0001)
    sender.transmit()
    serial = sender.serial
    probe = sender.timer()
    assert probe is not None
    sender.send(probe)
    assert sender.ack(11, serial=serial)
    sender.transmit()
    probes = 0
    while (probe := sender.timer()) is not None:
        probes += 1
        sender.send(probe)
    assert probes <= 3


def test_the_round_trip_is_measured_more_often_while_packets_are_lost() -> None:
    for lost, asked in ((0, False), (1, True)):
        sender = Sender(1)
        sender.peer.losses.count(100, lost, sender.now)
        sender.now += 0.5
        assert sender.transmit() == [(1, asked)]


def test_a_probe_looks_past_what_has_arrived() -> None:
    sender = Sender(3)
    sender.transmit()
    assert sender.ack(1, "-++")
    probe = sender.sending.probe()
    assert probe is not None
    assert probe.seq == 1
    assert sender.ack(1, "+++")
    assert sender.sending.probe() is None


def test_without_a_measured_round_trip_there_is_no_probe() -> None:
    sender = Sender(3, rtt=None)
    sender.transmit()
    assert sender.sending.next_timer() == sender.now + 1.0
    assert sender.timer() is None
    assert sender.sending.timeouts == 1


def test_when_all_is_acknowledged_no_timer_runs() -> None:
    sender = Sender(3)
    assert sender.sending.next_timer() == NEVER
    sender.transmit()
    assert sender.sending.next_timer() < NEVER
    assert sender.ack(4)
    assert sender.sending.next_timer() == NEVER
    assert sender.sending.queued == 0


def test_acknowledge_all_and_abandon() -> None:
    sender = Sender(20)
    sender.sending.acknowledge_all(sender.now)
    sender.transmit()
    sender.sending.acknowledge_all(sender.now + 1)
    assert (sender.sending.first, sender.sending.acked_at) == (11, 101.0)
    assert seqs(sender.transmit()) == list(range(11, 21))
    sender.sending.abandon()
    assert sender.sending.queued == 0
    assert sender.sending.next_timer() == NEVER
    assert not sender.transmit()


def test_after_busy_everything_goes_again_but_later() -> None:
    sender = Sender(3)
    sender.transmit()
    assert sender.sending.untouched
    sender.sending.hold(sender.now + 1.0)
    assert not sender.transmit()
    assert sender.sending.next_timer() == sender.now + 1.0
    assert sender.sending.on_timer(sender.now + 0.5) is None
    assert not sender.transmit()
    assert sender.timer() is None
    assert seqs(sender.transmit()) == [1, 2, 3]


def test_an_ack_ends_the_pause_after_busy() -> None:
    sender = Sender(3)
    sender.transmit()
    sender.sending.hold(sender.now + 1.0)
    assert sender.ack(2)
    assert seqs(sender.transmit()) == [2, 3]
    assert sender.now < sender.sending.next_timer() < sender.now + 1.0


def test_resend_all() -> None:
    sender = Sender(3)
    sender.transmit()
    sender.sending.resend_all(sender.now)
    assert seqs(sender.transmit()) == [1, 2, 3]


def test_a_duplicate_ack_makes_more_patient() -> None:
    patience = []
    for reason in (AckReason.IDLE, AckReason.DUPLICATE):
        sender = Sender(4)
        sender.transmit()
        sender.now += 0.05
        for _ in range(100):
            assert sender.ack(1, "-+--", reason=reason)
        patience.append(sender.sending.next_timer())
    assert patience[0] < patience[1] <= 100.3


@given(st.data(), st.integers(0, 40), st.integers(1, 60))
def test_everything_arrives_over_the_wrap_whatever_the_acks(
    data: st.DataObject, before_wrap: int, count: int
) -> None:
    first = add(0, -before_wrap)
    sender = Sender(count, first=first)
    sending = sender.sending
    arrived: set[int] = set()
    for _ in range(20):
        for seq, _wants in sender.transmit():
            if data.draw(st.booleans()):
                arrived.add((seq - first) & MASK)
        delivered = 0
        while delivered in arrived:
            delivered += 1
        delivered = data.draw(st.integers((sending.first - first) & MASK, delivered))
        table = "".join("+" if delivered + n in arrived else "-" for n in range(16))
        sender.now += data.draw(st.floats(0.001, 0.5))
        assert sender.ack(add(first, delivered), table)
        if sending.next_timer() <= sender.now:
            sending.on_timer(sender.now)
            assert sending.next_timer() > sender.now
    for _ in range(200):
        if sending.queued == 0:
            break
        arrived |= {(seq - first) & MASK for seq, _ in sender.transmit()}
        delivered = 0
        while delivered in arrived:
            delivered += 1
        assert sender.ack(add(first, delivered), "")
        if sending.next_timer() < NEVER:
            probe = sender.timer()
            if probe is not None:
                sender.send(probe)
                arrived.add((probe.seq - first) & MASK)
    assert sending.queued == 0
    assert sending.all_arrived
    assert sending.first == add(first, count)


@given(
    st.lists(
        st.tuples(
            st.integers(-3, 40),
            st.text("+-", max_size=40),
            st.sampled_from(AckReason),
            st.integers(0, 400),
        ),
        max_size=20,
    )
)
def test_no_ack_breaks_the_books(
    story: list[tuple[int, str, AckReason, int]],
) -> None:
    sender = Sender(40)
    for step, acks, reason, window in story:
        sender.transmit()
        sender.now += 0.01
        sender.ack(add(1, step), acks, reason=reason, window=window)
        sending = sender.sending
        flight = [p for p in sending._sent if not (p.acked or p.lost)]
        assert sending._in_flight == len(flight)
        assert sending._lost == sum(p.lost for p in sending._sent)
        assert sending.queued <= 40
        assert not any(p.acked and p.lost for p in sending._sent)


def test_a_peer_that_takes_back_what_it_has_acknowledged_gets_less_each_time() -> None:
    """A pair of its ACKs is 600 bytes; each brought a whole window again."""
    sender = Sender(400)
    for _ in range(12):  # it gets a large window
        sender.transmit()
        sender.ack(sender.sending._sent[0].seq, "+" * len(sender.sending._sent), window=255)
    assert len(sender.sending._sent) == 255
    first, sent = sender.sending.first, 0
    for _ in range(100):
        sender.ack(first, "-" * 255)
        sent += len(sender.transmit())
        sender.ack(first, "+" * 255)
        sender.now += 0.001
    assert sent < 100 * 12
    sender.ack(add(first, 255))
    while not sender.sending.all_arrived:
        sent = len(sender.transmit())
        assert sent
        sender.ack(add(sender.sending.first, len(sender.sending._sent)))
