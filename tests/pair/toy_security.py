"""A security class that uses every part of the seam, and protects nobody."""

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

from rxrpc.errors import SecurityError
from rxrpc.security.base import ConnectionIdentity, PacketIdentity, SecurityLevel

TOY_INDEX = 3
BAD_PACKET = 7001
BAD_RESPONSE = 7002
_LENGTH = struct.Struct("!I")
_PACKET = struct.Struct("!3I")
_NUMBERS = struct.Struct("!4I")


@dataclass
class ToyConnection:
    """Length in front, padding behind, everything exclusive-ored with a stream of the key."""

    key: bytes
    identity: ConnectionIdentity
    established: bool
    nonce: bytes = b""
    seen_numbers: Sequence[int] = ()
    transparent: bool = False
    level: SecurityLevel = SecurityLevel.CRYPT
    discarded: bool = False
    expires: float = 0

    def capacity(self, size: int) -> int:
        return size - 4 - 7

    def _pad(self, packet: PacketIdentity, size: int) -> bytes:
        seed = self.key + _PACKET.pack(packet.cid, packet.call_number, packet.seq)
        return hashlib.shake_128(seed).digest(size)

    def _checksum(self, packet: PacketIdentity, body: bytes) -> int:
        digest = hashlib.sha256(self._pad(packet, 16) + body).digest()
        return int.from_bytes(digest[:2], "big") or 1

    def protect(self, packet: PacketIdentity, payload: bytes) -> tuple[bytes, int]:
        plain = _LENGTH.pack(len(payload)) + payload
        plain += bytes(-len(plain) % 8)
        body = bytes(a ^ b for a, b in zip(plain, self._pad(packet, len(plain)), strict=True))
        return body, self._checksum(packet, body)

    def verify(self, packet: PacketIdentity, checksum: int, body: bytes) -> bytes:
        if checksum != self._checksum(packet, body) or len(body) < 8:
            raise SecurityError(BAD_PACKET, "a packet was tampered with")
        plain = bytes(a ^ b for a, b in zip(body, self._pad(packet, len(body)), strict=True))
        (size,) = _LENGTH.unpack_from(plain)
        return plain[4 : 4 + size]

    def verify_into(
        self, cid: int, call_number: int, seq: int, checksum: int, datagram: bytes,
        sink: memoryview, start: int, /,
    ) -> int:  # fmt: skip
        payload = self.verify(PacketIdentity(cid, call_number, seq), checksum, datagram[28:])
        if start + len(payload) > len(sink):
            return -1
        sink[start : start + len(payload)] = payload
        return len(payload)

    def discard(self) -> None:
        self.discarded = True

    def challenge(self) -> bytes:
        self.nonce = b"nonce-%d" % self.identity.cid
        return self.nonce

    def accept_response(self, response: bytes) -> Sequence[int]:
        proof, numbers = response[:-16], response[-16:]
        if proof != hashlib.sha256(self.key + self.nonce).digest():
            raise SecurityError(BAD_RESPONSE, "not the one he says he is")
        self.established = True
        self.seen_numbers = _NUMBERS.unpack(numbers)
        return self.seen_numbers

    def respond(self, challenge: bytes, call_numbers: Sequence[int]) -> bytes | None:
        if challenge == b"insult":
            raise SecurityError(BAD_RESPONSE, "no answer to that")
        return hashlib.sha256(self.key + challenge).digest() + _NUMBERS.pack(*call_numbers)


@dataclass(frozen=True)
class ToyClient:
    key: bytes = b"secret"
    index: int = TOY_INDEX
    level: SecurityLevel = SecurityLevel.CRYPT

    def connect(self, identity: ConnectionIdentity) -> ToyConnection:
        return ToyConnection(self.key, identity, established=True)


@dataclass
class ToyServer:
    key: bytes = b"secret"
    index: int = TOY_INDEX
    connections: list[ToyConnection] = field(default_factory=list)

    def accept(self, identity: ConnectionIdentity) -> ToyConnection:
        self.connections.append(ToyConnection(self.key, identity, established=False))
        return self.connections[-1]
