"""What time a KDC has: told in its refusal of a request that proves nothing.

Whoever asks for a ticket without a password gets a KRB-ERROR, and in that stands the KDC's time.
The principal that is asked for does not exist, so nobody's failed logins are counted.
Source: RFC 4120, sections 5.4.1, 5.4.2 and 5.9.1. Knows bytes only; who sends them is `checks`.
"""

from __future__ import annotations

from rxrpc.errors import ParseError
from rxrpc.security.der import (
    BIT_STRING,
    SEQUENCE,
    STRING,
    Der,
    application,
    build,
    build_integer,
    build_time,
    field,
)

PORT = 88
NOBODY = "afsfuse-check-of-the-clock"
SKEW_SECONDS = 300
"""What KDCs and AFS servers bear. Source: clockskew in krb5.conf(5), KTC_TIME_UNCERTAINTY."""

_VERSION = 5
_AS_REQ, _AS_REP, _ERROR = 10, 11, 30
_PRINCIPAL, _SERVICE = 1, 2  # name types
_ENCTYPES = (20, 19, 18, 17, 23)  # whatever the KDC likes: nothing is decrypted
_NO_OPTIONS = b"\0" * 5  # no unused bits, then 32 that are not set


def question(realm: str, nonce: int) -> bytes:
    """An AS-REQ, as it goes in one datagram to a KDC of the realm."""
    body = build(
        SEQUENCE,
        build(field(0), build(BIT_STRING, _NO_OPTIONS)),
        build(field(1), _name(_PRINCIPAL, NOBODY)),
        build(field(2), build(STRING, realm.encode())),
        build(field(3), _name(_SERVICE, "krbtgt", realm)),
        build(field(5), build_time(0)),
        build(field(7), build_integer(nonce)),
        build(field(8), build(SEQUENCE, *map(build_integer, _ENCTYPES))),
    )
    return build(
        application(_AS_REQ),
        build(
            SEQUENCE,
            build(field(1), build_integer(_VERSION)),
            build(field(2), build_integer(_AS_REQ)),
            build(field(4), body),
        ),
    )


def time_of(reply: bytes) -> int:
    """The KDC's time in seconds since 1970. Raises `ParseError` for what is no KRB-ERROR."""
    fields = Der(reply).inside(application(_ERROR), SEQUENCE)
    if fields.integer(0) != _VERSION or fields.integer(1) != _ERROR:
        raise ParseError("not the error of a KDC")
    fields.skip(2)  # our own time, which it does not know
    fields.skip(3)
    return fields.time(4)


def _name(kind: int, *parts: str) -> bytes:
    return build(
        SEQUENCE,
        build(field(0), build_integer(kind)),
        build(field(1), build(SEQUENCE, *(build(STRING, part.encode()) for part in parts))),
    )
