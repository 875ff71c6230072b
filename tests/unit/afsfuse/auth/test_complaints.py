"""Kerberos's codes: each is the one that its name says, and has a sentence for people."""

from __future__ import annotations

import ctypes
import errno

import pytest

from afsfuse.auth.complaints import Krb5, explain

LIBRARYS_WORDS = {
    Krb5.SERVICE_EXPIRED: "Server's entry in database has expired",
    Krb5.CLIENT_UNKNOWN: "Client not found in Kerberos database",
    Krb5.SERVICE_UNKNOWN: "Server not found in Kerberos database",
    Krb5.POLICY: "KDC policy rejects request",
    Krb5.ENCRYPTION_UNSUPPORTED: "KDC has no support for encryption type",
    Krb5.CLIENT_REVOKED: "credentials have been revoked",
    Krb5.PASSWORD_EXPIRED: "Password has expired",
    Krb5.PREAUTHENTICATION_FAILED: "Preauthentication failed",
    Krb5.WRONG_KEY: "Decrypt integrity check failed",
    Krb5.TICKET_EXPIRED: "Ticket expired",
    Krb5.CLOCK_SKEW: "Clock skew too great",
    Krb5.KDC_SKEW: "Clock skew too great in KDC reply",
    Krb5.NOT_IN_CACHE: "Matching credential not found",
    Krb5.REALM_UNKNOWN: "Cannot find KDC for requested realm",
    Krb5.KDC_UNREACHABLE: "Cannot contact any KDC",
    Krb5.KDC_UNRESOLVED: "Cannot resolve network address for KDC",
    Krb5.NO_KEY: "Key table entry not found",
    Krb5.CACHE_MISSING: "No credentials cache found",
    Krb5.CACHE_MALFORMED: "Bad format in credentials cache",
    Krb5.NO_DEFAULT_REALM: "does not specify default realm",
}


@pytest.mark.parametrize("code", Krb5)
def test_the_library_means_the_same_by_the_code(code: Krb5) -> None:
    try:
        library = ctypes.CDLL("libkrb5.so.3")
    except OSError:
        pytest.skip("libkrb5.so.3 is not installed")
    context = ctypes.c_void_p()
    library.krb5_init_context(ctypes.byref(context))
    library.krb5_get_error_message.restype = ctypes.c_char_p
    said = library.krb5_get_error_message(context, ctypes.c_int32(code)).decode()
    library.krb5_free_context(context)
    assert LIBRARYS_WORDS[code] in said


def test_what_people_read() -> None:
    assert "kinit" in explain(Krb5.CACHE_MISSING, "gibberish")
    assert explain(Krb5.SERVICE_EXPIRED, "the library's words") == "the library's words"
    assert explain(errno.ENOENT, "x") == "No such file or directory"
    assert explain(-5, "") == "Kerberos error -5"


def test_what_a_kdc_says_is_a_line_for_people() -> None:
    """Nobody vouches for it, and it goes to logs and terminals."""
    said = "KDC returned error string: \x1b]0;title\x07\nroot has a token\x9b31m" + "A" * 10_000
    shown = explain(Krb5.SERVICE_EXPIRED, said)
    assert shown.startswith("KDC returned error string:")
    assert shown.isprintable()
    assert len(shown) <= 200
