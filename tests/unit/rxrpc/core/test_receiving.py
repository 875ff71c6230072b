"""The incoming side of a call, packet by packet."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxrpc.core.context import Context
from rxrpc.core.parameters import Parameters
from rxrpc.core.receiving import Receiving
from rxrpc.core.timers import NEVER
from rxrpc.trace import DropReason
from rxrpc.wire.ack import AckReason
from rxrpc.wire.packet import LAST_PACKET, MORE_PACKETS, REQUEST_ACK
from rxrpc.wire.serial import MASK, add


class Receiver:
    """A `Receiving` with a clock and serial numbers."""

    def __init__(
        self,
        parameters: Parameters | None = None,
        *,
        first: int = 1,
        is_client: bool = True,
        transparent: bool = True,
    ) -> None:
        self.context = Context(parameters or Parameters())
        self.now = 100.0
        self.receiving = Receiving(
            self.context, is_client=is_client, transparent=transparent, now=self.now, first=first
        )
        self.serial = 0

    def put(self, seq: int, payload: bytes = b"x", flags: int = 0) -> DropReason | None:
        self.serial += 1
        return self.receiving.accept(seq, self.serial, flags, payload, self.now)

    def read(self) -> bytes:
        return b"".join(self.receiving.take_unread())

    def ack(self) -> tuple[int, int, int, str] | None:
        """The ACK that goes now, if one does: reason, serial, first, table."""
        receiving = self.receiving
        receiving.schedule_ack(self.now)
        if receiving.urgent is None:
            return None
        first, table = receiving.table()
        reason, serial = receiving.urgent, receiving.urgent_serial
        receiving.on_acknowledged()
        return reason, serial, first, "".join("-+"[flag] for flag in table)


def test_in_order() -> None:
    receiver = Receiver()
    for seq, payload in ((1, b"one "), (2, b"two "), (3, b"three")):
        assert receiver.put(seq, payload) is None
    assert receiver.receiving.bytes == 13
    assert receiver.read() == b"one two three"
    assert not receiver.receiving.complete
    assert receiver.put(4, b"", LAST_PACKET) is None
    assert receiver.receiving.complete
    assert receiver.context.buffered == 0


def test_out_of_order_and_duplicates() -> None:
    receiver = Receiver()
    assert receiver.put(3, b"c") is None
    assert receiver.ack() == (AckReason.OUT_OF_SEQUENCE, 1, 1, "--+")
    assert receiver.put(3, b"c") is DropReason.DUPLICATE
    assert receiver.ack() == (AckReason.DUPLICATE, 2, 1, "--+")
    assert receiver.put(1, b"a") is None
    assert receiver.put(1, b"a") is DropReason.DUPLICATE
    assert receiver.ack() == (AckReason.DUPLICATE, 4, 2, "-+")
    assert not receiver.receiving.fast
    assert receiver.put(2, b"b") is None
    assert receiver.receiving.fast
    assert receiver.read() == b"abc"
    assert receiver.context.buffered == 0


def test_the_window_is_counted_from_what_was_delivered() -> None:
    receiver = Receiver(Parameters(receive_window=10, read_ahead=4))
    assert receiver.put(11) is DropReason.BEYOND_WINDOW
    assert receiver.ack() == (AckReason.EXCEEDS_WINDOW, 1, 1, "")
    assert receiver.put(10) is None
    for seq in range(1, 10):
        assert receiver.put(seq) is None
    assert receiver.ack() == (AckReason.OUT_OF_SEQUENCE, 2, 5, "++++++")
    assert receiver.put(15) is DropReason.BEYOND_WINDOW
    assert receiver.put(14) is None


def test_when_the_window_opens_again_the_peer_is_told() -> None:
    receiver = Receiver(Parameters(receive_window=40, read_ahead=4, ack_every=16))
    for seq in range(1, 40):
        receiver.put(seq)
    receiver.ack()
    assert receiver.read() == b"x" * 39
    assert receiver.ack() == (AckReason.IDLE, 0, 40, "")


def test_no_space() -> None:
    receiver = Receiver(Parameters(max_buffered_packets=2))
    assert receiver.put(1) is None
    assert receiver.put(2) is None
    assert receiver.put(3) is DropReason.NO_SPACE
    reason, serial, first, _table = receiver.ack() or (0, 0, 0, "")
    assert (reason, serial, first) == (AckReason.NOSPACE, 3, 3)
    sink = memoryview(bytearray(3))
    assert not receiver.receiving.read_into([sink])
    assert receiver.put(3, b"y") is None, "straight to the reader, no space needed"
    assert bytes(sink) == b"xxy"


def test_nothing_comes_behind_the_end() -> None:
    receiver = Receiver()
    assert receiver.put(3, b"c", LAST_PACKET) is None
    assert receiver.put(4) is DropReason.BEYOND_END
    assert receiver.put(2, b"b", LAST_PACKET) is DropReason.BEYOND_END
    assert receiver.put(2, b"b") is None
    assert receiver.put(1, b"a") is None
    assert receiver.read() == b"abc"
    assert receiver.receiving.complete
    assert receiver.put(5) is DropReason.BEYOND_END
    assert receiver.put(2) is DropReason.DUPLICATE


def test_the_end_cannot_stand_before_what_has_come() -> None:
    receiver = Receiver()
    assert receiver.put(5) is None
    assert receiver.put(3, b"c", LAST_PACKET) is DropReason.BEYOND_END
    assert receiver.put(6, b"f", LAST_PACKET) is None


def test_acks_become_rarer_as_the_flow_goes_on() -> None:
    receiver = Receiver(Parameters(ack_every=16))
    gaps, since = [], 0
    for seq in range(1, 80):
        receiver.put(seq, flags=MORE_PACKETS)
        since += 1
        if receiver.ack():
            gaps.append(since)
            since = 0
    assert gaps == [2, 4, 8, 16, 16, 16, 16]


def test_a_requested_ack_goes_at_once() -> None:
    receiver = Receiver()
    receiver.put(1, flags=REQUEST_ACK)
    receiver.put(2)
    assert receiver.ack() == (AckReason.REQUESTED, 1, 3, "")
    assert receiver.ack() is None
    receiver.put(4)
    receiver.put(3, flags=REQUEST_ACK)
    assert receiver.ack() == (AckReason.OUT_OF_SEQUENCE, 3, 5, "")


def test_a_single_packet_is_acknowledged_late() -> None:
    receiver = Receiver()
    receiver.put(1)
    assert receiver.ack() is None
    assert receiver.receiving.ack_at == pytest.approx(100.1)
    receiver.receiving.on_timer(100.05)
    assert receiver.ack() is None
    receiver.now = 100.1
    receiver.receiving.on_timer(100.1)
    assert receiver.ack() == (AckReason.DELAY, 1, 2, "")
    assert receiver.receiving.ack_at == NEVER
    receiver.receiving.on_timer(100.2)
    assert receiver.ack() is None


def test_a_pause_in_the_flow_is_acknowledged_soon() -> None:
    receiver = Receiver()
    for seq in range(1, 7):
        receiver.put(seq, flags=MORE_PACKETS)
        receiver.ack()
    for seq in range(7, 10):
        receiver.put(seq, flags=MORE_PACKETS)
    assert receiver.ack() is None
    assert receiver.receiving.ack_at == pytest.approx(100.002)
    receiver.receiving.on_timer(100.002)
    assert receiver.ack() == (AckReason.DELAY, 9, 10, "")
    for seq in range(10, 13):
        receiver.put(seq, flags=MORE_PACKETS)
    assert receiver.ack() == (AckReason.IDLE, 12, 13, ""), "as many as the peer dares to send"


def test_the_end_of_a_small_flight_is_acknowledged_at_once() -> None:
    receiver = Receiver()
    for seq in range(1, 7):
        receiver.put(seq, flags=MORE_PACKETS)
        receiver.ack()
    for seq in range(7, 9):
        receiver.put(seq, flags=MORE_PACKETS)
    receiver.put(9)
    assert receiver.ack() == (AckReason.IDLE, 9, 10, "")


def test_an_ack_with_nothing_after_it_is_repeated_a_few_times() -> None:
    receiver = Receiver(Parameters(ack_repeats=3, min_repeat_delay=0.005))
    receiving = receiver.receiving
    times = []
    for seq in (1, 2, 3):
        receiver.put(seq)
    assert receiver.ack()
    for _ in range(5):
        receiving.expect_more(receiver.now, 0.01)
        if receiving.ack_at == NEVER:
            break
        times.append(round(receiving.ack_at - receiver.now, 3))
        receiver.now = receiving.ack_at
        receiving.on_timer(receiver.now)
        assert receiver.ack() == (AckReason.DELAY, 3, 4, "")
    assert times == [0.02, 0.04, 0.08]
    receiving.on_timer(receiver.now + 10)
    assert receiver.ack() is None
    receiver.put(4, flags=REQUEST_ACK)
    assert receiver.ack()
    receiving.expect_more(receiver.now, 0.001)
    assert receiving.ack_at == pytest.approx(receiver.now + 0.005), "a packet: all over again"
    receiver.put(5, b"", LAST_PACKET)
    receiving.on_timer(receiver.now + 1)
    assert receiver.ack()
    receiving.expect_more(receiver.now, 0.001)
    assert receiving.ack_at == NEVER


def test_a_hole_is_told_of_again() -> None:
    receiver = Receiver()
    receiving = receiver.receiving
    receiver.put(2)
    assert receiver.ack() == (AckReason.OUT_OF_SEQUENCE, 1, 1, "-+")
    receiving.expect_more(receiver.now, 0.02, lossy=True)
    assert receiving.ack_at == pytest.approx(receiver.now + 0.005)
    receiver.now = receiving.ack_at
    receiving.on_timer(receiver.now)
    assert receiving.reminders.copies == 2
    assert receiver.ack() == (AckReason.DELAY, 1, 1, "-+")
    assert receiving.reminders.copies == 1
    receiver.put(1)
    receiver.ack()
    assert receiving.reminders.rounds == 0, "a packet: all over again"


def test_after_a_loss_each_pause_of_the_peer_is_acknowledged_at_once() -> None:
    receiver = Receiver()
    for seq in range(1, 100):
        receiver.put(seq, flags=MORE_PACKETS)
        receiver.ack()
    receiver.put(100)
    assert receiver.ack() is None
    receiver.put(102)
    assert receiver.ack()
    receiver.put(101)
    assert receiver.ack(), "it has a small window now"
    seen = []
    for seq in range(103, 143):
        receiver.put(seq)
        seen.append(receiver.ack() is not None)
    assert all(seen[:30])
    assert not all(seen)
    receiver.put(150)
    receiver.ack()
    receiver.put(143, flags=MORE_PACKETS)
    assert receiver.ack() is None, "more is on its way"


def test_an_ack_never_names_an_earlier_packet_than_the_one_before() -> None:
    """OpenAFS takes such an ACK for one that was overtaken, and drops it (ack_is_valid in rx.c)."""
    receiver = Receiver()
    highest = 0
    for seq in (1, 3, 5, 4, 5, 1, 2, 300, 6):
        receiver.put(seq)
        assert receiver.receiving.previous >= highest
        highest = receiver.receiving.previous
    assert highest == 6


def test_what_is_missing_is_counted_and_what_was_only_late_is_not() -> None:
    receiver = Receiver()
    receiving = receiver.receiving
    receiver.put(1)
    receiver.put(4)
    assert receiving.missed == 2
    receiver.put(6)
    assert receiving.missed == 3
    receiving.accept(2, 100, 0, b"x", receiver.now)
    assert receiving.missed == 3, "that was sent again"
    receiving.accept(3, 1, 0, b"x", receiver.now)
    assert receiving.missed == 2, "that was overtaken"
    receiver.ack()
    assert receiving.missed == 0, "a new account with each ACK"
    receiving.accept(5, 101, 0, b"x", receiver.now)
    receiving.accept(8, 102, 0, b"x", receiver.now)
    assert receiving.missed == 1


@pytest.mark.parametrize(("is_client", "delay"), [(True, 0.3), (False, 0.1)])
def test_the_end_is_acknowledged_late(is_client: bool, delay: float) -> None:
    receiver = Receiver(Parameters(idle_ack_delay=0.3), is_client=is_client)
    receiver.put(1)
    receiver.put(2)
    receiver.put(3, b"", LAST_PACKET)
    assert receiver.ack() is None
    assert receiver.receiving.ack_at == pytest.approx(100.0 + delay)
    receiver.receiving.on_timer(101.0)
    assert receiver.ack() == (AckReason.DELAY, 3, 4, "")


def test_the_end_of_a_long_reply_is_acknowledged_late_even_when_asked_for() -> None:
    receiver = Receiver()
    receiver.put(1, flags=REQUEST_ACK)
    assert receiver.ack() == (AckReason.REQUESTED, 1, 2, "")
    receiver.put(3, b"", LAST_PACKET | REQUEST_ACK)
    assert receiver.ack() == (AckReason.OUT_OF_SEQUENCE, 2, 2, "-+")
    receiver.put(2)
    assert receiver.ack() is None
    receiver.put(3, b"", LAST_PACKET | REQUEST_ACK)
    assert receiver.ack() == (AckReason.DUPLICATE, 4, 4, ""), "our silence was taken for a loss"


@pytest.mark.parametrize(("is_client", "seq"), [(True, 1), (False, 1), (False, 2)])
def test_the_end_is_acknowledged_at_once_when_asked_for(is_client: bool, seq: int) -> None:
    receiver = Receiver(is_client=is_client)
    for number in range(1, seq):
        receiver.put(number)
    receiver.put(seq, b"", LAST_PACKET | REQUEST_ACK)
    assert receiver.ack() == (AckReason.REQUESTED, seq, seq + 1, "")


def test_reading_into_buffers_across_packets() -> None:
    receiver = Receiver()
    receiving = receiver.receiving
    receiver.put(1, b"abcdef")
    one, two, three = bytearray(4), bytearray(5), bytearray(3)
    assert not receiving.read_into(memoryview(sink) for sink in (one, two, three))
    assert one + two[:2] == b"abcdef"
    receiver.put(2, b"ghijk")
    assert two + three[:2] == b"efghijk"
    assert not receiving.wake
    receiver.put(3, b"lmn")
    assert three == b"jkl"
    assert receiving.wake
    receiving.stop_reading()
    assert receiver.read() == b"mn"


def test_reading_what_is_there_already() -> None:
    receiver = Receiver()
    receiver.put(1, b"abcdef")
    receiver.put(2, b"ghi")
    sink = bytearray(7)
    assert receiver.receiving.read_into([memoryview(sink)])
    assert sink == b"abcdefg"
    receiver.receiving.stop_reading()
    assert receiver.receiving.unread_bytes == 2
    assert receiver.receiving.read_into([])
    assert receiver.read() == b"hi"


def test_the_program_is_woken_when_its_demand_is_met() -> None:
    receiver = Receiver()
    receiving = receiver.receiving
    receiver.put(1, b"abc")
    assert not receiving.wake
    receiving.demand(5)
    receiver.put(2, b"d")
    assert not receiving.wake
    receiver.put(3, b"e")
    assert receiving.wake
    receiving.wake = False
    receiving.demand(None)
    receiver.put(4, b"fgh")
    assert not receiving.wake
    receiver.put(5, b"", LAST_PACKET)
    assert receiving.wake, "the end always wakes"


def test_put_back_is_read_next() -> None:
    receiver = Receiver()
    receiver.put(1, b"abc")
    receiver.receiving.put_back(b"")
    receiver.receiving.put_back(b"X")
    assert receiver.read() == b"Xabc"
    assert receiver.context.buffered == 0


def test_what_is_discarded_leaves_nothing_behind() -> None:
    receiver = Receiver()
    receiver.put(1, b"abc")
    receiver.put(3, b"c")
    receiver.receiving.discard()
    assert receiver.context.buffered == 0
    assert receiver.ack() is None
    assert not receiver.receiving.fast


def test_packets_of_a_security_class_are_not_plain() -> None:
    receiver = Receiver(transparent=False)
    receiver.put(1)
    assert receiver.receiving.fast
    assert not receiver.receiving.plain


@given(st.data(), st.integers(0, 300), st.integers(1, 60))
def test_any_order_over_the_wrap_gives_the_stream(
    data: st.DataObject, before_wrap: int, count: int
) -> None:
    first = add(0, -before_wrap)
    receiver = Receiver(first=first)
    order = data.draw(st.permutations(range(count)))
    doubles = data.draw(st.lists(st.sampled_from(order), max_size=20))
    got = b""
    for number in [*order, *doubles]:
        flags = LAST_PACKET if number == count - 1 else 0
        drop = receiver.put(add(first, number), b"%03d" % number, flags)
        assert drop in (None, DropReason.DUPLICATE)
        if data.draw(st.booleans()):
            got += receiver.read()
        delivered, table = receiver.receiving.table()
        assert (delivered - first) & MASK <= count
        assert len(table) <= 255
    got += receiver.read()
    assert got == b"".join(b"%03d" % number for number in range(count))
    assert receiver.receiving.complete
    assert receiver.receiving.next == add(first, count)
    assert receiver.context.buffered == 0


@given(
    st.lists(
        st.tuples(st.integers(-20, 300), st.sampled_from([0, LAST_PACKET, REQUEST_ACK, 6])),
        max_size=60,
    )
)
def test_no_packet_breaks_the_books(story: list[tuple[int, int]]) -> None:
    receiver = Receiver(Parameters(receive_window=100, read_ahead=8))
    receiving = receiver.receiving
    for seq, flags in story:
        receiver.put(seq & MASK, b"x", flags)
        first, table = receiving.table()
        assert len(table) <= 100
        assert receiver.context.buffered == len(receiving.unread) + len(receiving._held)
        assert all(not table[(seq - first) & MASK] or seq in receiving._held
                   or (seq - receiving.next) & MASK >= 1 << 31
                   for seq in range(first, first + len(table)))  # fmt: skip
        receiver.ack()


def test_a_program_that_waits_for_more_is_no_slow_reader() -> None:
    """Whose turn it is decides whether the idle clock of the call runs."""
    receiver = Receiver()
    receiving = receiver.receiving
    assert receiving.starved
    receiver.put(1, b"abcd")
    assert not receiving.starved, "nobody has said that this is not enough"
    receiving.demand(5)
    assert receiving.starved
    receiver.put(2, b"e")
    assert not receiving.starved
    receiving.take_unread()
    assert receiving.starved
