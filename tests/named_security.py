"""A security class that says a name and proves nothing: for cells of tests, where users differ."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from rxrpc.security.base import ConnectionIdentity, PacketIdentity, SecurityLevel

NAMED_INDEX = 3
_NUMBERS = struct.Struct("!4I")


@dataclass
class NamedConnection:
    """Payloads travel as they are; the client's name is its response to the challenge."""

    user: bytes | None
    established: bool
    transparent: bool = True
    level: SecurityLevel = SecurityLevel.CLEAR
    overhead: int = 0

    def protect(self, packet: PacketIdentity, payload: bytes) -> tuple[bytes, int]:
        return payload, 0

    def verify(self, packet: PacketIdentity, checksum: int, body: bytes) -> bytes:
        return body

    def challenge(self) -> bytes:
        return b"who?"

    def accept_response(self, response: bytes) -> Sequence[int]:
        self.user = response[_NUMBERS.size :]
        self.established = True
        return _NUMBERS.unpack_from(response)

    def respond(self, challenge: bytes, call_numbers: Sequence[int]) -> bytes | None:
        return _NUMBERS.pack(*call_numbers) + (self.user or b"")


@dataclass(frozen=True)
class NamedClient:
    user: bytes
    index: int = NAMED_INDEX
    level: SecurityLevel = SecurityLevel.CLEAR

    def connect(self, identity: ConnectionIdentity) -> NamedConnection:
        return NamedConnection(self.user, established=True)


@dataclass(frozen=True)
class NamedServer:
    index: int = NAMED_INDEX

    def accept(self, identity: ConnectionIdentity) -> NamedConnection:
        return NamedConnection(None, established=False)
