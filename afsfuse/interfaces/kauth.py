"""KAA and KAT, what AFS's own authentication server answers: tickets of Kerberos 4, over Rx.

Nobody who asks is known yet, so all comes over connections without security: what must not be seen
or changed is sealed inside, with the user's key or that of a ticket. Each sealed text has a label
in it that tells whether the key was the right one; nothing tells whether the rest was changed.

Source: kauth.rg, kautils.p.h, authclient.c and kaerrors.et in src/kauth of OpenAFS.
"""

import enum
import struct
from dataclasses import dataclass, field
from typing import Annotated, Self

from rxrpc.errors import ParseError
from rxrpc.rpc import Interface, Rpc
from rxrpc.xdr import Opaque, String, i32, u32, xdr_struct

PORT = 7004
AUTHENTICATION_SERVICE = 731
GRANTING_SERVICE = 732
NAME_MAX = 63  # MAXKANAMELEN, without the NUL
BYTES_MAX = 2048  # MAXBS
ANSWER_ROOM = 12_356  # size of the largest answer in OpenAFS's memory, which servers count with
GRANTING_NAME = b"krbtgt"

REQUEST_LABEL = b"gTGS"
GRANTED_LABEL = b"tgsT"
TICKET_LABEL = b"gtkt"

_BLOCK = 8
_LABEL_SIZE = 4
_TICKET_MIN = 32

Name = Annotated[bytes, String(NAME_MAX)]
Bytes = Annotated[bytes, Opaque(BYTES_MAX)]


class KaCode(enum.IntEnum):
    """Abort codes of the authentication server that clients of passwords meet."""

    NO_ENTRY = 180484
    BAD_NAME = 180486
    NO_AUTH = 180488
    ANSWER_TOO_LONG = 180489
    BAD_REQUEST = 180490  # sealed with another key: the password was wrong
    BAD_ARGUMENT = 180492
    UNKNOWN_KEY = 180505
    BAD_USER = 180508
    CLOCK_SKEW = 180514
    PASSWORD_EXPIRED = 180519
    LOCKED = 180522


@xdr_struct
class Answer:
    """ka_BBS: in a request the room that there is, in a reply bytes that fit into it."""

    room: i32
    data: Bytes


NO_ANSWER = Answer(ANSWER_ROOM, b"")


@xdr_struct
class AuthenticateArgs:
    """Who wants a ticket, for how long; sealed with his key, that it is he who asks."""

    name: Name
    instance: Name
    start: u32
    end: u32
    request: Bytes
    answer: Answer


@xdr_struct
class GetTicketArgs:
    """Whose ticket to get tickets with this is, and for what service another one is wanted."""

    kvno: i32
    realm: Name
    ticket: Bytes
    name: Name
    instance: Name
    times: Bytes
    answer: Answer


@xdr_struct
class AnswerReply:
    """A sealed `TicketAnswer`."""

    answer: Answer


AUTHENTICATE = Rpc("Authenticate", 21, AuthenticateArgs, AnswerReply, idempotent=True)
AUTHENTICATE_V2 = Rpc("AuthenticateV2", 22, AuthenticateArgs, AnswerReply, idempotent=True)
GET_TICKET = Rpc("GetTicket", 23, GetTicketArgs, AnswerReply, idempotent=True)

KAA = Interface("KAA", AUTHENTICATION_SERVICE, (AUTHENTICATE, AUTHENTICATE_V2))
KAT = Interface("KAT", GRANTING_SERVICE, (GET_TICKET,))


# What is sealed

_REQUEST = struct.Struct("!I4s")
_TIMES = struct.Struct("!2I")
_HEAD = struct.Struct("!iI8s2I2i")


@dataclass(frozen=True, slots=True)
class Request:
    """ka_gettgtRequest, sealed with the user's key."""

    time: int
    label: bytes = REQUEST_LABEL

    def build(self) -> bytes:
        """In the clear."""
        return _REQUEST.pack(self.time, self.label)

    @classmethod
    def parse(cls, clear: bytes) -> Self:
        """The inverse; `ParseError` for anything else. Whether the label is right is not asked."""
        if len(clear) != _REQUEST.size:
            raise ParseError("a request of another size")
        return cls(*_REQUEST.unpack(clear))


@dataclass(frozen=True, slots=True)
class Times:
    """ka_getTicketTimes: one block, sealed for itself with the session key of a ticket."""

    start: int
    end: int

    def build(self) -> bytes:
        """In the clear."""
        return _TIMES.pack(self.start, self.end)

    @classmethod
    def parse(cls, clear: bytes) -> Self:
        """The inverse; `ParseError` for anything of another size."""
        if len(clear) != _TIMES.size:
            raise ParseError("times of another size")
        return cls(*_TIMES.unpack(clear))


@dataclass(frozen=True, slots=True)
class TicketAnswer:
    """ka_ticketAnswer: a ticket with what its owner has to know of it."""

    label: bytes
    challenge: int  # one more than the time of the request, or 0
    session_key: bytes = field(repr=False)
    start: int
    end: int
    kvno: int
    names: tuple[bytes, bytes, bytes, bytes, bytes]
    """Name, instance and cell of the client, name and instance of the service."""
    ticket: bytes = field(repr=False)
    password_days: int | None = None
    """Until the password expires; `AuthenticateV2` alone tells."""

    def build(self) -> bytes:
        """In the clear, whole blocks of it."""
        head = _HEAD.pack(
            0, self.challenge, self.session_key, self.start, self.end, self.kvno, len(self.ticket)
        )
        names = b"".join(name + b"\0" for name in self.names)
        clear = _padded(head + names + self.ticket + self.label)
        if self.password_days is None:
            return clear
        return _padded(clear + bytes([self.password_days, 0, 0, 0]))

    @classmethod
    def parse(cls, clear: bytes, label: bytes) -> Self:
        """The inverse; `ParseError` when it was not built with this label."""
        if len(clear) < _HEAD.size or len(clear) % _BLOCK:
            raise ParseError("an answer of another size")
        _sum, challenge, session_key, start, end, kvno, size = _HEAD.unpack_from(clear)
        at = _HEAD.size
        names = []
        for _ in range(5):
            behind = clear.find(b"\0", at)
            if not at <= behind <= at + NAME_MAX:
                raise ParseError("a name without an end")
            names.append(clear[at:behind])
            at = behind + 1
        if not _TICKET_MIN <= size <= len(clear) - at - _LABEL_SIZE:
            raise ParseError(f"a ticket of {size} bytes")
        ticket = clear[at : at + size]
        at += size + _LABEL_SIZE
        if clear[at - _LABEL_SIZE : at] != label:
            raise ParseError("another label than was expected")
        rest = clear[at + -at % _BLOCK :]
        if len(rest) > _BLOCK:
            raise ParseError("more than an answer")
        days = rest[0] if rest else None
        first, instance, cell, service, of_service = names
        return cls(
            label, challenge, session_key, start, end, kvno,
            (first, instance, cell, service, of_service), ticket, days,
        )  # fmt: skip


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % _BLOCK)
