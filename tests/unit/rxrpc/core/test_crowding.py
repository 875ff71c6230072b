"""Calls that share one narrow line, or that have one to themselves which loses packets."""

import heapq
import random
from itertools import count

import pytest

from rxrpc.core.context import Context
from rxrpc.core.parameters import Parameters
from rxrpc.core.peer import Peer
from rxrpc.core.sending import Sending
from rxrpc.wire.ack import Ack, AckReason, AckTrailer

ROUND_TRIP = 0.04  # seconds, when nothing queues
PACKET = 0.001  # seconds for which one packet occupies the line
QUEUE = 40  # packets, as many as are under way
SECONDS = 30.0


class Flow:
    """One sender, and its receiver, that acknowledges each packet."""

    def __init__(self) -> None:
        parameters = Parameters()
        self.sending = Sending(Peer(("192.0.2.1", 7000), Context(parameters)), parameters)
        self.order = count(1)
        self.serial = count(1)
        self.expected = 1
        self.held: set[int] = set()

    def fill(self) -> None:
        while self.sending.queued < 300:
            self.sending.append(b"x", 0, 0, last=False)

    def take(self, now: float) -> list[tuple[int, int]]:
        """What is sent now: sequence and serial numbers."""
        self.fill()
        sent = []
        if self.sending.next_timer() <= now and (probe := self.sending.on_timer(now)) is not None:
            sent.append((probe.seq, next(self.serial)))
            self.sending.on_sent(probe, sent[-1][1], now)
        for packet, _ in self.sending.take(now):
            sent.append((packet.seq, next(self.serial)))
            self.sending.on_sent(packet, sent[-1][1], now)
        return sent

    def arrive(self, seq: int, serial: int) -> Ack:
        """A packet has come: what the receiver says of it."""
        if seq >= self.expected:
            self.held.add(seq)
        while self.expected in self.held:
            self.held.remove(self.expected)
            self.expected += 1
        table = bytes(at in self.held for at in range(self.expected, max(self.held, default=0) + 1))
        return Ack(
            self.expected, 0, serial, AckReason.REQUESTED, table, AckTrailer(1444, 1444, 255, 1)
        )


def run(flows: list[Flow], *, loss: float = 0.0, packet: float = PACKET) -> tuple[int, int]:
    """Let them send through one queue; packets that went into it, and that were lost."""
    chance = random.Random(4)
    happenings: list[tuple[float, int, int, Ack | tuple[int, int]]] = []
    number = count()
    free_at, sent, lost, now = 0.0, 0, 0, 0.0
    while now < SECONDS:
        for place, flow in enumerate(flows):
            for what in flow.take(now):
                sent += 1
                if free_at - now > QUEUE * packet or chance.random() < loss:
                    lost += 1
                    continue
                free_at = max(free_at, now) + packet
                there = free_at + ROUND_TRIP / 2
                heapq.heappush(happenings, (there, next(number), place, what))
        timers = [max(flow.sending.next_timer(), now + 0.0001) for flow in flows]
        if happenings and happenings[0][0] <= min(timers):
            now, _, place, happening = heapq.heappop(happenings)
            if isinstance(happening, Ack):
                flows[place].sending.acknowledge(happening, next(flows[place].order), now)
            else:
                ack = flows[place].arrive(*happening)
                heapq.heappush(happenings, (now + ROUND_TRIP / 2, next(number), place, ack))
        else:
            now = min(timers)
    return sent, lost


def test_calls_share_a_full_line_and_lose_little() -> None:
    flows = [Flow(), Flow(), Flow()]
    sent, lost = run(flows)
    shares = sorted(flow.expected for flow in flows)
    assert sum(shares) > 0.9 * SECONDS / PACKET, "the line is used"
    assert shares[-1] < 2 * shares[0]
    assert 0 < lost < 0.015 * sent, "what is lost in a full queue halves the window"


@pytest.mark.parametrize(("loss", "least"), [(0.01, 450), (0.05, 200), (0.2, 65)])
def test_losses_by_chance_do_not_stop_a_call(loss: float, least: int) -> None:
    """Where each loss halved the window it were 330, 160 and 60 packets a second."""
    flow = Flow()
    run([flow], loss=loss, packet=0.0001)
    assert flow.expected > least * SECONDS
