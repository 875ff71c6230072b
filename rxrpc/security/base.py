"""The seam between the protocol and a security class.

A client brings a `ClientSecurity` (one identity with its key), a service a `ServerSecurity`; each
makes a `ConnectionSecurity` for every connection. That object sees each DATA payload on its way
out (`protect`) and in (`verify`) and has one 16-bit field of the header for itself, the checksum.

A server whose security class is not `established` sends a CHALLENGE at the first packet of a
connection and holds the connection's calls until a RESPONSE satisfies it. `SecurityError` from any
of these methods ends the connection with the error's code.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence


class SecurityIndex(enum.IntEnum):
    """Numbers of the security classes in the header. Source: rx.h."""

    NULL = 0
    RXKAD = 2
    RXGK = 4
    YFS_RXGK = 6


class SecurityLevel(enum.IntEnum):
    """How much of a packet is protected. Source: rxkad.h."""

    CLEAR = 0  # nothing but the checksum in the header
    AUTH = 1  # changes to the payload are noticed
    CRYPT = 2  # the payload is encrypted


@dataclass(frozen=True, slots=True)
class ConnectionIdentity:
    """What of a connection goes into keys and checksums."""

    epoch: int
    cid: int  # the low two bits are 0
    service_id: int
    security_index: int


@dataclass(frozen=True, slots=True)
class PacketIdentity:
    """What of a packet goes into its checksum."""

    cid: int  # with the channel in the low bits
    call_number: int
    seq: int


class ConnectionSecurity(Protocol):
    """The protection of one connection."""

    @property
    def transparent(self) -> bool:
        """Whether `protect` and `verify` never change or refuse anything.

        The hot path does not call them then.
        """
        ...

    @property
    def level(self) -> SecurityLevel:
        """How much of a packet is protected."""
        ...

    @property
    def expires(self) -> float:
        """When the client's identity ends, in seconds since 1970; 0: never, or not known."""
        ...

    def capacity(self, size: int) -> int:
        """The longest payload that `protect` makes no longer than this."""
        ...

    @property
    def established(self) -> bool:
        """Server: whether the client has proven who it is (or need not)."""
        ...

    def protect(self, packet: PacketIdentity, payload: bytes) -> tuple[bytes, int]:
        """The payload as it goes on the wire, padded where need be, and the header's checksum."""
        ...

    def verify(self, packet: PacketIdentity, checksum: int, body: bytes) -> bytes:
        """The payload that a body carries; `SecurityError` when it was tampered with."""
        ...

    def verify_into(
        self,
        cid: int,
        call_number: int,
        seq: int,
        checksum: int,
        datagram: bytes,
        sink: memoryview,
        start: int,
        /,
    ) -> int:
        """As `verify`, for the hot path: a whole datagram, its payload into ``sink`` from there.

        How many bytes that were; negative, and nothing has changed, when they do not fit.
        """
        ...

    def challenge(self) -> bytes:
        """Server: the body of a CHALLENGE."""
        ...

    def accept_response(self, response: bytes) -> Sequence[int]:
        """Server: check a RESPONSE body; the call numbers of the four channels that it vouches for.

        An empty sequence when the class does not say.
        """
        ...

    def respond(self, challenge: bytes, call_numbers: Sequence[int]) -> bytes | None:
        """Client: the RESPONSE to a challenge; None when a challenge makes no sense to the class.

        ``call_numbers`` are those of the four channels.
        """
        ...

    def discard(self) -> None:
        """The connection is no more: forget its key."""
        ...


class ClientSecurity(Protocol):
    """An identity with which connections are made.

    It is part of the key under which connections are shared, so equal ones must be
    interchangeable.
    """

    @property
    def index(self) -> int:
        """The number of the security class."""
        ...

    @property
    def level(self) -> SecurityLevel:
        """How much of each packet its connections protect, at least."""
        ...

    def connect(self, identity: ConnectionIdentity) -> ConnectionSecurity:
        """The protection of a new connection; `SecurityError` when the identity has expired."""
        ...

    def __hash__(self) -> int: ...


class ServerSecurity(Protocol):
    """How a service lets itself be called."""

    @property
    def index(self) -> int:
        """The number of the security class."""
        ...

    def accept(self, identity: ConnectionIdentity) -> ConnectionSecurity:
        """The protection of a connection that a client began."""
        ...
