"""Counting what happens, and telling the tracer."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from rxrpc.trace import (
    DropReason,
    Event,
    NullTracer,
    PacketDropped,
    PacketReceived,
    PacketSent,
    Tracer,
)
from rxrpc.wire.packet import PacketType

if TYPE_CHECKING:
    from rxrpc.wire.packet import Address, Header


class Journal:
    """The one place to which the parts of the core report."""

    __slots__ = ("_tracer", "data_resent", "drops", "every_packet", "received", "sent")

    def __init__(self, tracer: Tracer | None = None) -> None:
        self.use(tracer or NullTracer())
        self.drops: Counter[DropReason] = Counter()
        # By packet type; lists, because enum members are slow as keys of a dictionary.
        self.received = [0] * (max(PacketType) + 1)  # without DATA on the fast path
        self.sent = [0] * (max(PacketType) + 1)
        self.data_resent = 0  # DATA packets, in calls that are over

    def use(self, tracer: Tracer) -> None:
        """Tell another tracer from now on."""
        self._tracer = tracer
        self.every_packet = tracer.every_packet

    def drop(
        self,
        now: float,
        address: Address,
        reason: DropReason,
        header: Header | None = None,
        detail: str = "",
    ) -> None:
        """A packet had no effect."""
        self.drops[reason] += 1
        self._tracer.record(now, PacketDropped(address, reason, header, detail))

    def packet_received(
        self, now: float, address: Address, header: Header, body: bytes | memoryview
    ) -> None:
        """A packet came; only when the tracer wants to hear of each."""
        event = PacketReceived(address, header, len(body), _control(header, body))
        self._tracer.record(now, event)

    def packet_sent(
        self, now: float, address: Address, header: Header, body: bytes | memoryview
    ) -> None:
        """A packet was handed out; only when the tracer wants to hear of each."""
        self._tracer.record(now, PacketSent(address, header, len(body), _control(header, body)))

    def record(self, now: float, event: Event) -> None:
        """Anything else that happened."""
        self._tracer.record(now, event)


def _control(header: Header, body: bytes | memoryview) -> bytes:
    """What a tracer may see of a body: nothing that a program or a security class wrote."""
    return bytes(body) if header.type in (PacketType.ACK, PacketType.ABORT) else b""
