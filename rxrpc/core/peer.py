"""What is known of an address: round trip, packet size, whether it is there, NATs on the way."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rxrpc.core.introductions import Introductions
from rxrpc.core.losses import Losses
from rxrpc.core.lulls import Lulls
from rxrpc.core.rtt import RttEstimator
from rxrpc.core.timers import NEVER
from rxrpc.wire.control import keepalive_datagram, version_question
from rxrpc.wire.packet import HEADER_SIZE, MAX_DATAGRAM, Address, Header

if TYPE_CHECKING:
    from rxrpc.core.context import Context
    from rxrpc.core.parameters import Parameters
    from rxrpc.core.sending import Sending
    from rxrpc.wire.ack import AckTrailer

_LONG_AGO = -NEVER
_THRESHOLD_TIME = 60.0  # seconds for which what one call learnt of congestion helps the next


class Peer:
    """An address with which packets are exchanged."""

    __slots__ = ("_asked_mtu", "_context", "_narrow_until", "_path_mtu", "_questioned",
                 "_threshold", "_threshold_at", "address", "armed", "bundles", "bytes_received",
                 "bytes_sent", "connections", "heard", "introductions", "losses", "lulls", "mtu",
                 "packets_resent", "packets_sent", "proven", "reached", "rtt", "sent",
                 "server_calls", "used")  # fmt: skip

    def __init__(self, address: Address, context: Context) -> None:
        self.address = address
        self._context = context
        self.rtt = RttEstimator(context.parameters)
        self.losses = Losses()  # of what the peer sends in calls of ours
        self.lulls = Lulls()  # in the same
        self._asked_mtu = MAX_DATAGRAM  # what the peer takes
        self._path_mtu = MAX_DATAGRAM  # what the way takes
        self._narrow_until = 0.0  # 0: datagrams of every size are tried
        self.mtu = context.parameters.send_mtu  # bytes of the largest datagram
        self.proven = _LONG_AGO  # when one over the safe size last arrived there
        self._questioned = False  # it was asked for a sign of life
        self.connections = 0  # that point here
        self.bundles = 0  # in use, that point here
        self.introductions = Introductions(context)  # of connections of ours
        self.server_calls = 0  # calls of the peer that run or wait
        # Of calls that are over: DATA packets and payload
        self.packets_sent = self.packets_resent = 0
        self.bytes_sent = self.bytes_received = 0
        self.heard = _LONG_AGO  # when a packet that makes sense last came
        self.sent = _LONG_AGO
        self.used = _LONG_AGO  # when a client call last began or ended
        self.reached = _LONG_AGO  # when it last answered something that only we could have sent
        self._threshold: int | None = None
        self._threshold_at = _LONG_AGO
        self.armed = NEVER

    def configure(self, parameters: Parameters) -> None:
        """The context has other parameters now."""
        self.rtt.parameters = parameters
        self._set_mtu()

    @property
    def payload_size(self) -> int:
        """Bytes behind the header of the largest packet."""
        return self.mtu - HEADER_SIZE

    def is_reached(self, now: float) -> bool:
        """Whether the address was proven to be the peer's recently."""
        return now - self.reached < self._context.parameters.reach_time

    def is_forgettable(self, now: float) -> bool:
        """Whether nothing was heard of it for long, and no NAT is to be kept open for it."""
        parameters = self._context.parameters
        return (
            now - self.heard > parameters.peer_idle_time and now - self.used > parameters.nat_time
        )

    def learn_sizes(self, trailer: AckTrailer) -> None:
        """Take the MTU words of an ACK: the smaller one holds, within our own bounds.

        A forged or foolish value (0, 27, 65535) can neither make packets useless nor too large.
        """
        asked = min(trailer.max_mtu, trailer.interface_mtu)
        if asked != self._asked_mtu:
            self._asked_mtu = asked
            self._set_mtu()

    def reduce_mtu(self, size: int) -> bool:
        """The network takes no datagrams over ``size``; whether that changes anything."""
        before = self.mtu
        self._path_mtu = min(self._path_mtu, size)
        self._set_mtu()
        return self.mtu < before

    @property
    def ack_trailer(self) -> bytes:
        """What the peer is told that we take."""
        context = self._context
        return context.narrow_trailer if self._narrow_until else context.ack_trailer

    def is_wide(self, now: float) -> bool:
        """Whether datagrams of every size are tried at a call that begins now."""
        if self._narrow_until and now >= self._narrow_until:
            self._narrow_until = 0.0
            self._set_mtu()
        return not self._narrow_until

    def narrow(self, now: float) -> None:
        """Large datagrams vanish on the way: for a time neither send them nor ask for them."""
        self._narrow_until = now + self._context.parameters.narrow_time
        self._set_mtu()

    def question(self, now: float) -> None:
        """Ask for a sign of life that is small both ways, and hangs on no call."""
        self._questioned = True
        self._context.post(*version_question(), self.address, now)
        self.sent = now

    def on_version(self, now: float) -> None:
        """A VERSION answer has come, which counts if it was asked for."""
        if self._questioned:
            self._questioned = False
            self.heard = now

    def _set_mtu(self) -> None:
        parameters = self._context.parameters
        least = min(self._asked_mtu, self._path_mtu)
        if self._narrow_until:
            least = min(least, parameters.safe_mtu)
        self.mtu = min(max(least, parameters.min_mtu), parameters.send_mtu)

    def remember_threshold(self, threshold: int, now: float) -> None:
        """A call ended, having learnt this slow-start threshold."""
        self._threshold, self._threshold_at = threshold, now

    def count(self, sending: Sending, written: int, received: int) -> None:
        """A call ended, in which the program had written, and the peer sent, so many bytes."""
        self.packets_sent += sending.transmissions
        self.packets_resent += sending.resends
        self.bytes_sent += written
        self.bytes_received += received

    def threshold(self, now: float) -> int | None:
        """The slow-start threshold for a new call, if one is known."""
        return self._threshold if now - self._threshold_at < _THRESHOLD_TIME else None

    def next_timer(self) -> float:
        """When NATs want a packet."""
        parameters = self._context.parameters
        due = max(self.sent, self.used) + parameters.nat_interval
        if self.used == _LONG_AGO:
            return NEVER
        if due > self.used + parameters.nat_time:
            return NEVER
        return due

    def on_timer(self, now: float) -> None:
        """Send that packet."""
        self._context.post(*Header.parse(keepalive_datagram()), self.address, now)
        self.sent = now
