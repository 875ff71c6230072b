"""What the stack tells about itself: typed events to one `Tracer`.

There is always a tracer; `NullTracer` ignores everything. Every packet that is dropped carries a
reason, and the endpoint counts these whatever the tracer does.
"""

from __future__ import annotations

import enum
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from rxrpc.wire.packet import Address, Header


class DropReason(enum.Enum):
    """Why a datagram, or a packet of it, had no effect."""

    MALFORMED = "malformed"  # no Rx packet, or a body that is not what its type says
    UNKNOWN_CONNECTION = "unknown connection"
    UNKNOWN_CALL = "unknown call"
    OLD_CALL = "old call"  # of a call that another has followed on its channel
    UNKNOWN_SERVICE = "unknown service"
    WRONG_SERVICE = "wrong service"  # the connection is for another service
    WRONG_SECURITY = "wrong security"  # the connection has another security class
    WRONG_STATE = "wrong state"  # this packet type means nothing to the call now
    NO_CALL_YET = "no call yet"  # only DATA starts a call
    BEYOND_WINDOW = "beyond window"
    DUPLICATE = "duplicate"
    NO_SPACE = "no space"  # too many packets wait to be read
    BEYOND_END = "beyond end"  # behind the packet that was marked as the last
    BAD_ACK = "bad ack"  # acknowledges what was never sent, or takes back what was acknowledged
    UNEXPECTED = "unexpected"  # a challenge, a response: nothing that we wait for
    INSECURE = "insecure"  # failed the check of the security class
    UNSUPPORTED = "unsupported"  # a packet type that this side does not serve
    TOO_MANY = "too many"  # calls or connections of strangers
    RATE_LIMITED = "rate limited"  # answers to strangers


class PacketReceived(NamedTuple):
    """A packet came, before anything was done with it."""

    address: Address
    header: Header
    size: int  # bytes behind the header
    control: bytes = b""  # these bytes, of an ACK or an ABORT only; unchecked, as they came


class PacketSent(NamedTuple):
    """A packet was handed out to be sent."""

    address: Address
    header: Header
    size: int  # bytes behind the header
    control: bytes = b""  # these bytes, of an ACK or an ABORT only


class PacketDropped(NamedTuple):
    """A packet had no effect."""

    address: Address
    reason: DropReason
    header: Header | None = None
    detail: str = ""


class ConnectionOpened(NamedTuple):
    """A connection began, as client or as server."""

    address: Address
    epoch: int
    cid: int
    service_id: int
    is_client: bool


class ConnectionClosed(NamedTuple):
    """A connection was forgotten: idle for long, or ended by an abort."""

    address: Address
    epoch: int
    cid: int
    reason: str


class CallStarted(NamedTuple):
    """A call got its channel."""

    address: Address
    cid: int
    call_number: int


class CallEnded(NamedTuple):
    """A call is over; ``outcome`` is ``"complete"`` or the error."""

    address: Address
    cid: int
    call_number: int
    outcome: str


class PacketsLost(NamedTuple):
    """Packets were taken for lost and are sent again."""

    cid: int
    call_number: int
    packets: int
    cause: str  # "later acks", "probe" or "timeout"


class PeerUnreachable(NamedTuple):
    """The network reported an error for a peer."""

    address: Address
    errno: int


Event = (
    PacketReceived
    | PacketSent
    | PacketDropped
    | ConnectionOpened
    | ConnectionClosed
    | CallStarted
    | CallEnded
    | PacketsLost
    | PeerUnreachable
)


class Tracer(Protocol):
    """Something that wants to know."""

    every_packet: bool
    """Whether `PacketReceived` and `PacketSent` are wanted; they close the fast path."""

    def record(self, now: float, event: Event) -> None:
        """Take note. ``now`` is on the clock of the endpoint; must not raise."""
        ...


class NullTracer:
    """Wants nothing."""

    every_packet = False

    def record(self, now: float, event: Event) -> None:
        """Forget it."""


class CountingTracer:
    """Counts events by their class, and dropped packets by their reason."""

    def __init__(self, *, every_packet: bool = False) -> None:
        self.every_packet = every_packet
        self.events: Counter[type[Event]] = Counter()
        self.drops: Counter[DropReason] = Counter()

    def record(self, now: float, event: Event) -> None:
        """Count it."""
        self.events[type(event)] += 1
        if isinstance(event, PacketDropped):
            self.drops[event.reason] += 1
