"""No security: everybody is anonymous, packets are taken as they come."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from rxrpc.errors import SecurityError
from rxrpc.security.base import (
    ConnectionIdentity,
    PacketIdentity,
    SecurityIndex,
    SecurityLevel,
)

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class NullConnection:
    """Protects nothing."""

    @property
    def transparent(self) -> bool:
        """Nothing is changed or refused."""
        return True

    @property
    def level(self) -> SecurityLevel:
        """Nothing is protected."""
        return SecurityLevel.CLEAR

    @property
    def expires(self) -> float:
        """Nobody is nobody for ever."""
        return 0

    def capacity(self, size: int) -> int:
        """Nothing is added."""
        return size

    @property
    def established(self) -> bool:
        """There is nothing to prove."""
        return True

    def protect(self, packet: PacketIdentity, payload: bytes) -> tuple[bytes, int]:
        """The payload itself, and a checksum of 0, which means "none"."""
        return payload, 0

    def verify(self, packet: PacketIdentity, checksum: int, body: bytes) -> bytes:
        """The body itself."""
        return body

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
        """Never asked for, since the class is transparent."""
        return -1

    def challenge(self) -> bytes:
        """Never asked for, since the connection is established from the start."""
        return b""

    def accept_response(self, response: bytes) -> Sequence[int]:
        """Nobody was challenged."""
        raise SecurityError(0, "a response without a challenge")

    def respond(self, challenge: bytes, call_numbers: Sequence[int]) -> bytes | None:
        """Somebody without an identity has no answer."""
        return None

    def discard(self) -> None:
        """There is no key."""


_CONNECTION: Final = NullConnection()


@dataclass(frozen=True, slots=True)
class NullSecurity:
    """Both ends of the null class."""

    @property
    def index(self) -> int:
        """The number of the security class."""
        return SecurityIndex.NULL

    @property
    def level(self) -> SecurityLevel:
        """Nothing is protected."""
        return SecurityLevel.CLEAR

    def connect(self, identity: ConnectionIdentity) -> NullConnection:
        """The protection of a new connection."""
        return _CONNECTION

    def accept(self, identity: ConnectionIdentity) -> NullConnection:
        """The protection of a connection that a client began."""
        return _CONNECTION


NULL: Final = NullSecurity()
