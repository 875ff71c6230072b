"""What the parts of one endpoint share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rxrpc.core.journal import Journal
from rxrpc.core.timers import Timers
from rxrpc.wire.ack import AckTrailer

if TYPE_CHECKING:
    from rxrpc.core.call import Call
    from rxrpc.core.events import Event
    from rxrpc.core.parameters import Parameters
    from rxrpc.trace import Tracer
    from rxrpc.wire.packet import Address, Header


class Context:
    """Parameters, timers, journal, and the lists that the four verbs empty."""

    __slots__ = ("ack_trailer", "buffered", "dirty", "events", "journal", "narrow_trailer",
                 "outbox", "parameters", "routes", "timers")  # fmt: skip

    def __init__(self, parameters: Parameters, tracer: Tracer | None = None) -> None:
        self.journal = Journal(tracer)
        self.timers = Timers(parameters.timer_granularity)
        self.outbox: list[tuple[bytes, Address]] = []
        self.dirty: list[Call] = []  # calls that may have something to send
        self.events: list[Event] = []
        self.routes: dict[bytes, Call] = {}  # by the first bytes of a packet: the fast path
        self.buffered = 0  # packets that wait to be read, or for one before them
        self.configure(parameters)

    def configure(self, parameters: Parameters) -> None:
        """Use these from now on."""
        self.parameters = parameters
        self.timers.granularity = parameters.timer_granularity
        self.ack_trailer = self._trailer(parameters.receive_mtu)
        self.narrow_trailer = self._trailer(min(parameters.receive_mtu, parameters.safe_mtu))

    def _trailer(self, mtu: int) -> bytes:
        parameters = self.parameters
        return AckTrailer(mtu, mtu, parameters.receive_window, parameters.jumbo_max).build()

    def post(self, header: Header, body: bytes | memoryview, address: Address, now: float) -> None:
        """Hand out a packet that belongs to no connection."""
        self.outbox.append((header.build() + body, address))
        self.journal.sent[header.type] += 1
        if self.journal.every_packet:
            self.journal.packet_sent(now, address, header, body)
