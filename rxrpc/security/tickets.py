"""Tickets: what a service reads out of what a client brings, and how it makes one for itself.

Three forms, told apart by what stands in the place of the key version: a Kerberos 5 ticket, only
the encrypted part of one, or else, with a real key version, a ticket of Kerberos 4.
Source: OpenAFS, src/rxkad (ticket5.c, ticket.c, lifetimes.h); RFC 4120, 5.3.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from rxrpc.errors import LocalError, ParseError, SecurityError
from rxrpc.security import der, des, deskeys, krbcrypto
from rxrpc.security.rxkadcodes import RxkadCode

if TYPE_CHECKING:
    from rxrpc.security.servicekeys import ServiceKeys

KERBEROS_5: Final = 256
KERBEROS_5_PART: Final = 213

MIN_SIZE, MAX_SIZE = 32, 12000  # bytes of a ticket. Source: rxkad.p.h
NEVER: Final = 0xFFFFFFFF  # a time of Kerberos 4
LAST: Final = 0x7FFFFFFF  # the latest time that OpenAFS writes into a ticket of Kerberos 5
_SKEW: Final = 15 * 60  # seconds that clocks of two machines may differ. Source: rxkad.p.h
_LONGEST: Final = 30 * 24 * 3600
_LIVES: Final = 0xC0  # lifetimes of Kerberos 4 that differ, and that are bounded

_TICKET_TYPES: Final = (krbcrypto.AES256_SHA1, krbcrypto.AES128_SHA1)  # as afsconf_ClientAuth
_INVALID_FLAG: Final = 0x01  # in the first byte of the ticket's flags: bit 7
_MAX_NAME: Final = 64  # with the zero behind it. Source: auth.h (MAXKTCNAMELEN)


@dataclass(frozen=True, slots=True)
class Principal:
    """Whose ticket it is."""

    name: str
    instance: str
    realm: str

    def __str__(self) -> str:
        """As AFS writes it."""
        instance = f".{self.instance}" if self.instance else ""
        return f"{self.name}{instance}@{self.realm}"


@dataclass(frozen=True, slots=True)
class TicketContents:
    """What a ticket says. Its session key is already one of rxkad; who takes it wipes it."""

    client: Principal
    start: int  # seconds since 1970; 0: always
    end: int
    session_key: bytearray = field(repr=False)


def open_ticket(kvno: int, ticket: bytes, keys: ServiceKeys, now: float) -> TicketContents:
    """Decrypt a ticket and check that it is valid now. Raises `SecurityError` only."""
    if not MIN_SIZE <= len(ticket) <= MAX_SIZE:
        raise SecurityError(RxkadCode.TICKET_LENGTH, f"a ticket of {len(ticket)} bytes")
    try:
        if kvno in (KERBEROS_5, KERBEROS_5_PART):
            contents = _open_kerberos_5(ticket, keys, whole=kvno == KERBEROS_5)
            if now > contents.end:
                raise SecurityError(RxkadCode.EXPIRED, "the ticket has expired")
        else:
            contents = _open_kerberos_4(kvno, ticket, keys)
    except ParseError as exc:
        raise SecurityError(RxkadCode.BAD_TICKET, f"a bad ticket: {exc}") from None
    check_times(contents.start, contents.end, now)
    return contents


def check_times(start: int, end: int, now: float) -> None:
    """Raise `SecurityError` when a ticket for these times is not valid now.

    Clocks may differ by a quarter of an hour. OpenAFS calls a ticket bad that has long expired,
    or is for longer than a month, or not yet for long.
    """
    started = start == 0 or start - _SKEW <= now
    too_long = start != 0 and end != NEVER and end - start > _LONGEST
    if start >= end or too_long or start > now + _SKEW + _LONGEST:
        raise SecurityError(RxkadCode.BAD_TICKET, "a ticket for impossible times")
    if end != NEVER and end + _SKEW < now:
        raise SecurityError(RxkadCode.EXPIRED, "the ticket has expired")
    if not started:
        raise SecurityError(RxkadCode.NO_AUTH, "the ticket is not valid yet")


# Kerberos 5


def _open_kerberos_5(ticket: bytes, keys: ServiceKeys, *, whole: bool) -> TicketContents:
    reader = der.Der(ticket)
    if whole:
        body = reader.inside(der.application(1), der.SEQUENCE)
        reader.check_end()
        if body.integer(0) != 5:
            raise ParseError("a ticket of another version")
        body.value(1, der.STRING)  # the realm and the service: the key tells as much
        body.value(2, der.SEQUENCE)
        sealed = body.inside(der.field(3), der.SEQUENCE)
        body.check_end()
    else:
        sealed = reader.inside(der.SEQUENCE)
        reader.check_end()
    enctype = sealed.integer(0)
    kvno = sealed.integer(1) if sealed.follows(der.field(1)) else 0
    cipher = sealed.value(2, der.OCTETS)
    sealed.check_end()
    key = keys.find(kvno, enctype) if enctype in krbcrypto.TYPES else None
    if key is None:
        raise SecurityError(RxkadCode.UNKNOWN_KEY, f"no key {kvno} of type {enctype}")
    return _read_encrypted_part(krbcrypto.decrypt(enctype, key, krbcrypto.TICKET, cipher))


def _read_encrypted_part(clear: bytes) -> TicketContents:
    body = der.Der(clear).inside(der.application(3), der.SEQUENCE)
    flags = body.value(0, der.BIT_STRING)
    key = body.inside(der.field(1), der.SEQUENCE)
    keytype, value = key.integer(0), key.value(1, der.OCTETS)
    realm = body.value(2, der.STRING)
    client = _read_client(body.inside(der.field(3), der.SEQUENCE), realm)
    body.skip(4)  # the realms it has come through
    authenticated = body.time(5)
    start = body.time(6) if body.follows(der.field(6)) else authenticated
    end = body.time(7)
    for rest in (8, 9, 10):  # renewal, addresses, authorization data
        body.skip(rest)
    body.check_end()
    if len(flags) < 2 or flags[1] & _INVALID_FLAG:
        raise SecurityError(RxkadCode.NO_AUTH, "the ticket is not valid yet")
    return TicketContents(client, start, end, deskeys.session_key(keytype, value))


def _read_client(name: der.Der, realm: bytes) -> Principal:
    name.integer(0)  # its type
    parts: list[str] = []
    strings = name.inside(der.field(1), der.SEQUENCE)
    while not strings.at_end and len(parts) <= 2:
        parts.append(_read_name(strings.take(der.STRING)))
    if not 1 <= len(parts) <= 2 or not parts[0] or "." in parts[0]:
        # With a dot, x.y and x/y would be one for AFS, which writes the second like the first.
        raise ParseError("a client that AFS has no name for")
    return Principal(parts[0], parts[1] if len(parts) == 2 else "", _read_name(realm))


def _read_name(content: bytes) -> str:
    if len(content) >= _MAX_NAME or 0 in content:
        raise ParseError("a name that is too long")
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise ParseError("a name that is no text") from None


def make_ticket(
    keys: ServiceKeys,
    client: Principal,
    session_key: bytes,
    confounder: bytes,
    *,
    start: int = 0,
    end: int = LAST,
) -> tuple[int, bytes]:
    """A ticket of one's own service for anybody: what stands for its key version, and itself.

    Who has the service's key can be whoever he likes: OpenAFS's ``-localauth``.
    ``confounder``: 16 random bytes. Raises `LocalError` when there is no AES key.
    """
    latest = keys.latest(_TICKET_TYPES)
    if latest is None:
        raise LocalError("there is no key to make a ticket with")
    kvno, enctype, key = latest
    clear = _build_encrypted_part(client, session_key, start, end)
    cipher = krbcrypto.encrypt(enctype, key, krbcrypto.TICKET, clear, confounder)
    part = der.build(
        der.SEQUENCE,
        der.build(der.field(0), der.build_integer(enctype)),
        der.build(der.field(1), der.build_integer(kvno)),
        der.build(der.field(2), der.build(der.OCTETS, cipher)),
    )
    return KERBEROS_5_PART, part


def _build_encrypted_part(client: Principal, session_key: bytes, start: int, end: int) -> bytes:
    names = [part for part in (client.name, client.instance) if part]
    strings = b"".join(der.build(der.STRING, name.encode()) for name in names)
    fields = (
        der.build(der.BIT_STRING, bytes(5)),
        der.build(
            der.SEQUENCE,
            der.build(der.field(0), der.build_integer(min(deskeys.DES))),
            der.build(der.field(1), der.build(der.OCTETS, session_key)),
        ),
        der.build(der.STRING, client.realm.encode()),
        der.build(
            der.SEQUENCE,
            der.build(der.field(0), der.build_integer(1)),
            der.build(der.field(1), der.build(der.SEQUENCE, strings)),
        ),
        der.build(
            der.SEQUENCE,
            der.build(der.field(0), der.build_integer(0)),
            der.build(der.field(1), der.build(der.OCTETS, b"")),
        ),
        der.build_time(start),
        b"",  # of no use besides the one before
        der.build_time(end),
    )
    body = [der.build(der.field(at), each) for at, each in enumerate(fields) if each]
    return der.build(der.application(3), der.build(der.SEQUENCE, *body))


# Kerberos 4


def _open_kerberos_4(kvno: int, ticket: bytes, keys: ServiceKeys) -> TicketContents:
    key = keys.find_des(kvno)
    if key is None:
        raise SecurityError(RxkadCode.UNKNOWN_KEY, f"no key {kvno} for a ticket of Kerberos 4")
    return _read_ticket_4(des.pcbc_decrypt(key, ticket))


def _read_ticket_4(clear: bytes) -> TicketContents:
    little = bool(clear[0] & 1)  # in the byte order of who made it
    at = 1
    names = []
    for _ in range(3):
        name, at = _read_string(clear, at)
        names.append(name)
    body = clear[at + 4 :]  # behind the address of the client, which nobody can rely on
    if not names[0] or len(body) < des.BLOCK + 1 + 4:
        raise ParseError("not a ticket, or another key's")
    start = int.from_bytes(body[9:13], "little" if little else "big")
    _service, end_of_it = _read_string(clear, at + 4 + 13)
    _instance, end_of_it = _read_string(clear, end_of_it)
    padding = len(clear) - end_of_it
    if padding >= des.BLOCK and len(clear) != 56:  # a size that old servers padded to
        raise ParseError("bytes behind the ticket")
    client = Principal(*names)
    return TicketContents(client, start, lifetime_end(start, body[8]), bytearray(body[:8]))


def make_ticket_4(
    key: bytes,
    client: Principal,
    session_key: bytes,
    start: int,
    life: int,
    service: tuple[str, str] = ("afs", ""),
) -> bytes:
    """A ticket of Kerberos 4 form. ``life``: see `lifetime_end`; ``service``: name and instance."""
    clear = bytes(1)
    for name in (client.name, client.instance, client.realm):
        clear += name.encode() + b"\0"
    clear += bytes(4) + session_key + bytes([life]) + start.to_bytes(4, "big")
    clear += b"".join(name.encode() + b"\0" for name in service)
    return des.pcbc_encrypt(key, clear)


def lifetime_end(start: int, life: int) -> int:
    """When a ticket of Kerberos 4 ends whose lifetime is this byte.

    Up to 127 it counts five minutes; then come 64 steps from 10 hours to 30 days, each longer by
    the same factor; 255 is for ever.
    """
    if life == 0xFF:
        return NEVER
    if life < 0x80:
        return start + life * 300
    step = min(life, _LIVES - 1) - 0x80
    factor: float = (_LONGEST / 38400) ** (step / 63)
    return start + round(38400 * factor)


def lifetime_byte(seconds: int) -> int:
    """The byte of the shortest lifetime that is not shorter than this; 0 when there is none."""
    if not 0 < seconds <= _LONGEST:
        return 0
    return next(life for life in range(1, _LIVES) if lifetime_end(0, life) >= seconds)


def _read_string(data: bytes, at: int) -> tuple[str, int]:
    end = data.find(b"\0", at)
    if end < 0:
        raise ParseError("a name without an end")
    return _read_name(data[at:end]), end + 1
