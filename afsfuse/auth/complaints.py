"""What Kerberos's error codes mean, for people: what is wrong, and what to do about it."""

from __future__ import annotations

import enum
import os
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_KRB5 = -1765328384  # of the com_err table krb5; the first 128 are the protocol's own numbers


class Krb5(enum.IntEnum):
    """Codes that people meet. Source: krb5_err.et."""

    SERVICE_EXPIRED = _KRB5 + 2
    CLIENT_UNKNOWN = _KRB5 + 6
    SERVICE_UNKNOWN = _KRB5 + 7
    POLICY = _KRB5 + 12
    ENCRYPTION_UNSUPPORTED = _KRB5 + 14
    CLIENT_REVOKED = _KRB5 + 18
    PASSWORD_EXPIRED = _KRB5 + 23
    PREAUTHENTICATION_FAILED = _KRB5 + 24
    WRONG_KEY = _KRB5 + 31
    TICKET_EXPIRED = _KRB5 + 32
    CLOCK_SKEW = _KRB5 + 37
    KDC_SKEW = _KRB5 + 148
    NOT_IN_CACHE = _KRB5 + 141
    REALM_UNKNOWN = _KRB5 + 154
    KDC_UNREACHABLE = _KRB5 + 156
    NO_KEY = _KRB5 + 181
    CACHE_MISSING = _KRB5 + 195
    CACHE_MALFORMED = _KRB5 + 199
    KDC_UNRESOLVED = _KRB5 + 220
    NO_DEFAULT_REALM = _KRB5 + 224


MISSING_SERVICE = frozenset({Krb5.SERVICE_UNKNOWN, Krb5.REALM_UNKNOWN})
"""The realm does not have the service, or is none: another principal may do."""

_SENTENCES: Mapping[int, str] = MappingProxyType(
    {
        Krb5.CLIENT_UNKNOWN: "the KDC does not know this user",
        Krb5.SERVICE_UNKNOWN: "the KDC does not know this service",
        Krb5.POLICY: "the KDC's policy does not allow it",
        Krb5.ENCRYPTION_UNSUPPORTED: "the KDC does not take this encryption type",
        Krb5.CLIENT_REVOKED: "the user is locked in the KDC: ask its administrators",
        Krb5.PASSWORD_EXPIRED: "the password has expired: change it with kpasswd",
        Krb5.PREAUTHENTICATION_FAILED: "the password or the key is wrong",
        Krb5.WRONG_KEY: "the password or the key is wrong",
        Krb5.TICKET_EXPIRED: "the Kerberos ticket has expired: get a new one with kinit",
        Krb5.CLOCK_SKEW: "this machine's clock and the KDC's differ too much: set the clock",
        Krb5.KDC_SKEW: "this machine's clock and the KDC's differ too much: set the clock",
        Krb5.NOT_IN_CACHE: "there is no Kerberos ticket: get one with kinit",
        Krb5.REALM_UNKNOWN: "no KDC of this realm is known: see krb5.conf",
        Krb5.KDC_UNREACHABLE: "no KDC of the realm answers: is it down, or the network?",
        Krb5.KDC_UNRESOLVED: "the realm's KDC has no address: see krb5.conf and the DNS",
        Krb5.NO_KEY: "the keytab has no key of this user",
        Krb5.CACHE_MISSING: "there are no Kerberos credentials: get some with kinit",
        Krb5.CACHE_MALFORMED: "the Kerberos credentials cache is damaged: get a new one with kinit",
        Krb5.NO_DEFAULT_REALM: "there is no default realm: see krb5.conf",
    }
)


_TEXT_MAX = 200


def presentable(text: str) -> str:
    """What somebody else says, for a log or a terminal: one line of bounded length.

    In what the library says stands what a KDC says, and anybody may answer in its place.
    """
    return "".join(c if c.isprintable() else " " for c in text[:_TEXT_MAX])


def explain(code: int, text: str) -> str:
    """A sentence for a code; what the library says of it, where we know no better."""
    if code in _SENTENCES:
        return _SENTENCES[code]
    if 0 < code < 4096:  # an errno
        return os.strerror(code)
    return presentable(text) or f"Kerberos error {code}"
