"""rxkad: a Kerberos ticket for the service, and packets under its session key.

A client shows its ticket in the RESPONSE to a server's CHALLENGE; both derive from the session key
in it what goes into every packet:

- at every level a checksum of the header fields (16 bits), so that nobody else makes packets;
- at level AUTH the length, and the first 4 bytes of the payload, are encrypted;
- at level CRYPT the whole payload.

Only the last hides anything, and none of them notices every change: see `rxrpc.security.fcrypt`.
Time is an argument here: a clock that gives seconds since 1970.
"""

from __future__ import annotations

import hashlib
import hmac
import random
from typing import TYPE_CHECKING, Final, NoReturn

from rxrpc.errors import LocalError, ParseError, SecurityError
from rxrpc.security import fcrypt, tickets
from rxrpc.security.base import (
    ConnectionIdentity,
    PacketIdentity,
    SecurityIndex,
    SecurityLevel,
)
from rxrpc.security.deskeys import KEY_SIZE, with_odd_parity
from rxrpc.security.fcrypt import BAD_CHECKSUM, BAD_SEAL, BLOCK, DOES_NOT_FIT, new_session
from rxrpc.security.handshake import Challenge, Response, build_response
from rxrpc.security.rxkadcodes import RxkadCode

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from typing_extensions import Buffer

    from rxrpc.security.servicekeys import ServiceKeys
    from rxrpc.security.tickets import Principal

__all__ = ["RxkadClient", "RxkadCode", "RxkadServer", "RxkadServerConnection"]

_HEADER_SIZE: Final = 28
_CHANNELS: Final = 4
_HALF_NUMBERS: Final = 1 << 31
_WORD: Final = (1 << 32) - 1


def _refuse(result: int) -> NoReturn:
    """Raise what a negative result of `Session.unseal` means."""
    if result == BAD_CHECKSUM:
        raise SecurityError(RxkadCode.SEALED_INCONSISTENT, "a wrong checksum")
    if result == BAD_SEAL:
        raise SecurityError(RxkadCode.SEALED_INCONSISTENT, "a packet that was tampered with")
    raise SecurityError(RxkadCode.DATA_LENGTH, "a packet with a wrong length in it")


class _Packets:
    """What both ends do with packets."""

    __slots__ = ()

    transparent: Final = False
    level: SecurityLevel
    _session: fcrypt.Session

    def capacity(self, size: int) -> int:
        """The longest payload that `protect` makes no longer than this."""
        if self.level is SecurityLevel.CRYPT:
            return size // BLOCK * BLOCK - 8
        return size - 4 * self.level

    def protect(self, packet: PacketIdentity, payload: bytes) -> tuple[bytes, int]:
        """The payload as it goes on the wire, and the header's checksum."""
        return self._session.seal(packet.cid, packet.call_number, packet.seq, payload)

    def verify(self, packet: PacketIdentity, checksum: int, body: bytes) -> bytes:
        """The payload that a body carries; `SecurityError` when it was tampered with."""
        payload = bytearray(len(body))
        size = self._session.unseal(
            packet.cid, packet.call_number, packet.seq, checksum, body, 0, payload, 0
        )
        if size < 0:
            _refuse(size)
        return bytes(payload[:size])

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
        """As `verify`, straight from a datagram to where it is wanted."""
        size = self._session.unseal(
            cid, call_number, seq, checksum, datagram, _HEADER_SIZE, sink, start
        )
        if size < DOES_NOT_FIT:
            _refuse(size)
        return size

    def discard(self) -> None:
        """The connection is no more: forget its key."""
        self._session.wipe()


class RxkadClient:
    """An identity: a ticket for a service, and the session key in it.

    Equal ones make connections that calls may share; ones that differ in anything never do. What
    prints one shows no key.
    """

    __slots__ = ("__weakref__", "_clock", "_key", "_mark", "_ticket", "expires", "kvno", "level")

    index: Final = SecurityIndex.RXKAD

    def __init__(
        self,
        *,
        ticket: bytes,
        session_key: Buffer,
        kvno: int,
        level: SecurityLevel,
        expires: float,
        clock: Callable[[], float],
        owner: str = "",
    ) -> None:
        """``session_key``: 8 bytes; `deskeys.session_key` makes them of a key of Kerberos 5.

        ``kvno``: `tickets.KERBEROS_5` for a ticket of Kerberos 5. ``expires``: seconds since 1970,
        as ``clock`` gives them; no connection is made after it. ``owner`` keeps those apart who
        happen to have the same ticket.
        """
        self._key = bytearray(session_key)
        if len(self._key) != KEY_SIZE or not tickets.MIN_SIZE <= len(ticket) <= tickets.MAX_SIZE:
            raise LocalError("no session key or no ticket of rxkad")
        if not 0 <= kvno <= _WORD:
            raise LocalError("no key version of rxkad")
        self._ticket = bytes(ticket)
        self.kvno = kvno
        self.level = level
        self.expires = expires
        self._clock = clock
        proof = hashlib.sha256(self._key + self._ticket)
        proof.update(repr((kvno, level, expires, owner)).encode())
        self._mark = proof.digest()

    @classmethod
    def of_service(
        cls,
        keys: ServiceKeys,
        who: Principal,
        level: SecurityLevel,
        *,
        clock: Callable[[], float],
        rng: random.Random | None = None,
    ) -> RxkadClient:
        """Anybody, by the service's own keys, without an end: OpenAFS's ``-localauth``.

        Raises `LocalError` when there is no AES key among them.
        """
        rng = rng or random.SystemRandom()
        session_key = with_odd_parity(rng.randbytes(KEY_SIZE))
        kvno, ticket = tickets.make_ticket(keys, who, session_key, rng.randbytes(16))
        return cls(
            ticket=ticket, session_key=session_key, kvno=kvno, level=level,
            expires=tickets.LAST, clock=clock,
        )  # fmt: skip

    def __eq__(self, other: object) -> bool:
        """Whether the two may share connections."""
        return isinstance(other, RxkadClient) and hmac.compare_digest(self._mark, other._mark)

    def __hash__(self) -> int:
        """By everything that counts."""
        return hash(self._mark)

    def __repr__(self) -> str:
        """All but secrets."""
        return f"<RxkadClient {self.level.name} kvno={self.kvno} expires={self.expires:.0f}>"

    def connect(self, identity: ConnectionIdentity) -> RxkadClientConnection:
        """The protection of a new connection; `SecurityError` when the ticket has expired."""
        if self._clock() >= self.expires:
            raise SecurityError(RxkadCode.EXPIRED, "the ticket has expired")
        if not self._key:
            raise SecurityError(RxkadCode.NO_AUTH, "the ticket was discarded")
        session = new_session(
            self._key, identity.epoch, identity.cid, identity.security_index, self.level
        )
        return RxkadClientConnection(
            identity, session, self.level, self.kvno, self._ticket, self.expires
        )

    def wipe(self) -> None:
        """Forget the key: no further connections. Those that exist end by themselves."""
        self._key[:] = bytes(len(self._key))
        self._key.clear()


class RxkadClientConnection(_Packets):
    """The client's end of a connection."""

    __slots__ = ("_identity", "_kvno", "_session", "_ticket", "expires", "level")

    established: Final = True

    def __init__(
        self,
        identity: ConnectionIdentity,
        session: fcrypt.Session,
        level: SecurityLevel,
        kvno: int,
        ticket: bytes,
        expires: float,
    ) -> None:
        self.level = level
        self.expires = expires
        self._identity = identity
        self._session = session
        self._kvno = kvno
        self._ticket = ticket

    def challenge(self) -> bytes:
        """Clients challenge nobody."""
        raise SecurityError(RxkadCode.INCONSISTENCY, "a client does not challenge")

    def accept_response(self, response: bytes) -> Sequence[int]:
        """Nobody was challenged."""
        raise SecurityError(RxkadCode.INCONSISTENCY, "a response without a challenge")

    def respond(self, challenge: bytes, call_numbers: Sequence[int]) -> bytes | None:
        """Show the ticket. What is no challenge of this class is passed over.

        The level is the identity's, whatever a server is content with: it cannot be talked down.
        """
        try:
            asked = Challenge.parse(challenge)
        except ParseError:
            return None
        if asked.level > self.level:
            raise SecurityError(RxkadCode.LEVEL_FAIL, f"the server wants level {asked.level}")
        return build_response(
            self._session, self._identity, tuple(call_numbers), asked, self.level,
            self._kvno, self._ticket,
        )  # fmt: skip


class RxkadServer:
    """How a service lets itself be called by clients with tickets for it."""

    index: Final = SecurityIndex.RXKAD

    def __init__(
        self,
        keys: ServiceKeys,
        *,
        clock: Callable[[], float],
        min_level: SecurityLevel = SecurityLevel.CLEAR,
        rng: random.Random | None = None,
    ) -> None:
        """``min_level``: what the challenge asks for at least. ``rng`` makes the challenges."""
        self.keys = keys
        self.min_level = min_level
        self._clock = clock
        self._rng = rng or random.SystemRandom()

    def accept(self, identity: ConnectionIdentity) -> RxkadServerConnection:
        """The protection of a connection that a client began."""
        return RxkadServerConnection(
            identity, self.keys, self.min_level, self._rng.getrandbits(32), self._clock
        )


class RxkadServerConnection(_Packets):
    """The server's end of a connection; until the client has responded, nothing can be read."""

    __slots__ = (
        "_clock", "_identity", "_keys", "_nonce", "_session", "established", "expires", "level",
        "principal",
    )  # fmt: skip

    def __init__(
        self,
        identity: ConnectionIdentity,
        keys: ServiceKeys,
        min_level: SecurityLevel,
        nonce: int,
        clock: Callable[[], float],
    ) -> None:
        self.established = False
        self.level = min_level
        self.principal: Principal | None = None
        """Who the client is, once it has proven that."""
        self.expires = 0.0
        """When its ticket ends, in seconds since 1970."""
        self._identity = identity
        self._keys = keys
        self._nonce = nonce
        self._clock = clock
        self._session = _NO_SESSION

    def __repr__(self) -> str:
        """All but secrets."""
        return f"<RxkadServerConnection {self.level.name} {self.principal}>"

    def protect(self, packet: PacketIdentity, payload: bytes) -> tuple[bytes, int]:
        """The payload as it goes on the wire, and the header's checksum."""
        self._check_time()
        return super().protect(packet, payload)

    def verify(self, packet: PacketIdentity, checksum: int, body: bytes) -> bytes:
        """The payload that a body carries; `SecurityError` when it was tampered with."""
        self._check_time()
        return super().verify(packet, checksum, body)

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
        """As `verify`, straight from a datagram to where it is wanted."""
        self._check_time()
        return super().verify_into(cid, call_number, seq, checksum, datagram, sink, start)

    def _check_time(self) -> None:
        if self._clock() >= self.expires:
            raise SecurityError(RxkadCode.EXPIRED, "the client's ticket has expired")

    def challenge(self) -> bytes:
        """The same for as long as the client has not answered: its answer may be on its way."""
        return Challenge(self._nonce, self.level).build()

    def respond(self, challenge: bytes, call_numbers: Sequence[int]) -> bytes | None:
        """Servers show nothing."""
        return None

    def accept_response(self, response: bytes) -> Sequence[int]:
        """Check what the client says; the call numbers that it vouches for."""
        try:
            answer = Response.parse(response)
        except ParseError as exc:
            raise SecurityError(RxkadCode.PACKET_SHORT, str(exc)) from None
        ticket = tickets.open_ticket(answer.kvno, answer.ticket, self._keys, self._clock())
        try:
            return self._accept(answer, ticket)
        finally:
            ticket.session_key[:] = bytes(KEY_SIZE)

    def _accept(self, answer: Response, ticket: tickets.TicketContents) -> Sequence[int]:
        sealed = None
        identity = self._identity
        at = (identity.epoch, identity.cid, identity.security_index)
        opener = new_session(ticket.session_key, *at, SecurityLevel.CRYPT)
        try:
            sealed = answer.unseal(opener)
        except ParseError as exc:
            raise SecurityError(RxkadCode.SEALED_INCONSISTENT, str(exc)) from None
        finally:
            opener.wipe()
        numbers = sealed.call_numbers
        if (sealed.epoch, sealed.cid, sealed.security_index) != at or max(numbers) >= _HALF_NUMBERS:
            raise SecurityError(RxkadCode.SEALED_INCONSISTENT, "of another connection")
        if sealed.nonce != (self._nonce + 1) & 0xFFFFFFFF:
            raise SecurityError(RxkadCode.OUT_OF_SEQUENCE, "the answer to another challenge")
        if not self.level <= sealed.level <= SecurityLevel.CRYPT:
            raise SecurityError(RxkadCode.LEVEL_FAIL, f"security level {sealed.level}")
        self.level = SecurityLevel(sealed.level)
        self._session = new_session(ticket.session_key, *at, self.level)
        self.principal, self.expires = ticket.client, ticket.end
        self.established = True
        return numbers


_NO_SESSION: Final = fcrypt.PythonSession(bytes(KEY_SIZE), 0, 0, 0, SecurityLevel.CRYPT)
"""Of connections whose client is not known; they neither send nor take DATA."""
