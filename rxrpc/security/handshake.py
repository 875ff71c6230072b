"""CHALLENGE and RESPONSE of rxkad, version 2. Source: OpenAFS, src/rxkad/private_data.h."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Self

from rxrpc.errors import ParseError

if TYPE_CHECKING:
    from rxrpc.security.base import ConnectionIdentity
    from rxrpc.security.fcrypt import Session

VERSION: Final = 2
_MASK: Final = 0xFFFFFFFF
_CHALLENGE: Final = struct.Struct("!4I")
_RESPONSE: Final = struct.Struct("!2I4I4I2I2I")
_SEALED: Final = slice(8, 48)  # the part of a response that is encrypted
_SUM_AT: Final = slice(16, 20)


@dataclass(frozen=True, slots=True)
class Challenge:
    """What a server wants to hear its number of, one higher, under the session key."""

    nonce: int
    level: int  # the least that the server is content with

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read it; `ParseError` when it is none of this version."""
        if len(data) < _CHALLENGE.size:
            raise ParseError("a short challenge")
        version, nonce, level, _spare = _CHALLENGE.unpack_from(data)
        if version != VERSION:
            raise ParseError(f"a challenge of version {version}")
        return cls(nonce, level)

    def build(self) -> bytes:
        """The inverse of `parse`."""
        return _CHALLENGE.pack(VERSION, self.nonce, self.level, 0)


@dataclass(frozen=True, slots=True)
class SealedPart:
    """What of a response only the session key opens."""

    epoch: int
    cid: int
    security_index: int
    call_numbers: tuple[int, ...]
    nonce: int  # that of the challenge and one
    level: int


@dataclass(frozen=True, slots=True)
class Response:
    """What a client says of itself: its ticket, and that it knows the session key."""

    kvno: int
    ticket: bytes = field(repr=False)
    head: bytes = field(repr=False)  # the 56 bytes before the ticket

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Take it apart as far as that goes without a key; `ParseError` when it is none."""
        if len(data) < _RESPONSE.size:
            raise ParseError("a short response")
        *_words, kvno, size = _RESPONSE.unpack_from(data)
        ticket = data[_RESPONSE.size :]
        if size > len(ticket):
            raise ParseError("a response that ends within its ticket")
        return cls(kvno, ticket[:size], data[: _RESPONSE.size])

    def unseal(self, session: Session) -> SealedPart:
        """Open the rest; `ParseError` when it was sealed with another key."""
        head = bytearray(self.head)
        head[_SEALED] = session.decrypt(self.head[_SEALED])
        given = int.from_bytes(head[_SUM_AT], "big")
        head[_SUM_AT] = bytes(4)
        if given != _checksum(head):
            raise ParseError("a wrong checksum")
        _version, _spare, epoch, cid, _sum, index, *numbers, nonce, level, _kvno, _size = (
            _RESPONSE.unpack(head)
        )
        return SealedPart(epoch, cid, index, tuple(numbers), nonce, level)


def build_response(
    session: Session,
    identity: ConnectionIdentity,
    call_numbers: tuple[int, ...],
    challenge: Challenge,
    level: int,
    kvno: int,
    ticket: bytes,
) -> bytes:
    """The answer to a challenge."""
    words = (VERSION, 0, identity.epoch, identity.cid, 0, identity.security_index)
    proof = ((challenge.nonce + 1) & _MASK, level)
    head = bytearray(_RESPONSE.pack(*words, *call_numbers, *proof, kvno, len(ticket)))
    head[_SUM_AT] = _checksum(head).to_bytes(4, "big")
    head[_SEALED] = session.encrypt(bytes(head[_SEALED]))
    return bytes(head) + ticket


def _checksum(head: bytes | bytearray) -> int:
    """Of a response in clear whose checksum is 0."""
    total = 1000003
    for byte in head:
        total = (total * 0x10204081 + byte) & _MASK
    return total
