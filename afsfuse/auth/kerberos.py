"""Tickets from Kerberos, by the system's MIT library.

The library is called through ctypes: no Python package offers `krb5_get_credentials`, with which a
ticket for a service is had from the ticket that the user has already. Only what is used of it is
declared here. Its calls may wait for a KDC; see `acquire` for how nobody else has to.
Source of structures and functions: krb5/krb5.h.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
from ctypes import POINTER, byref, c_char_p, c_int, c_int32, c_uint, c_void_p
from dataclasses import dataclass, field
from typing import Any

from afsfuse.auth.complaints import explain
from afsfuse.auth.token import Secret
from afsfuse.errors import TicketRefused

_LIBRARY = "libkrb5.so.3"
_CACHED_ONLY = 2  # Source: KRB5_GC_CACHED in krb5.h
_RENEWABLE_SECONDS = 7 * 86400  # asked for; the KDC gives what its policy allows


class _Keyblock(ctypes.Structure):
    _fields_ = (
        ("magic", c_int32),
        ("enctype", c_int32),
        ("length", c_uint),
        ("contents", c_void_p),
    )


class _Times(ctypes.Structure):
    """Seconds since 1970 as unsigned numbers, which the library declares signed."""

    _fields_ = tuple((name, ctypes.c_uint32) for name in ("auth", "start", "end", "renew_till"))


class _Data(ctypes.Structure):
    _fields_ = (("magic", c_int32), ("length", c_uint), ("data", c_void_p))


class _Creds(ctypes.Structure):
    _fields_ = (
        ("magic", c_int32),
        ("client", c_void_p),
        ("server", c_void_p),
        ("keyblock", _Keyblock),
        ("times", _Times),
        ("is_skey", c_uint),
        ("ticket_flags", c_int32),
        ("addresses", c_void_p),
        ("ticket", _Data),
        ("second_ticket", _Data),
        ("authdata", c_void_p),
    )


_POINTER_TO = POINTER(c_void_p)
_C, _P, _S = c_void_p, _POINTER_TO, c_char_p  # handle, where to put one, text
# What is called, with its arguments behind the context. All of these return an error code.
_FUNCTIONS: dict[str, tuple[Any, ...]] = {
    "krb5_cc_default": (_P,),
    "krb5_cc_resolve": (_S, _P),
    "krb5_cc_get_principal": (_C, _P),
    "krb5_cc_initialize": (_C, _C),
    "krb5_cc_store_cred": (_C, POINTER(_Creds)),
    "krb5_cc_destroy": (_C,),
    "krb5_cc_close": (_C,),
    "krb5_parse_name": (_S, _P),
    "krb5_unparse_name": (_C, POINTER(c_void_p)),
    "krb5_get_default_realm": (_P,),
    "krb5_get_profile": (_P,),
    "krb5_get_host_realm": (_S, POINTER(POINTER(c_char_p))),
    "krb5_get_credentials": (c_uint, _C, POINTER(_Creds), POINTER(POINTER(_Creds))),
    "krb5_get_renewed_creds": (POINTER(_Creds), _C, _C, _S),
    "krb5_get_init_creds_opt_alloc": (_P,),
    "krb5_get_init_creds_password": (
        POINTER(_Creds), _C, _S, c_void_p, c_void_p, c_int32, _S, _C,
    ),
    "krb5_get_init_creds_keytab": (POINTER(_Creds), _C, _C, c_int32, _S, _C),
    "krb5_kt_resolve": (_S, _P),
    "krb5_kt_close": (_C,),
}  # fmt: skip
_NO_RESULT: dict[str, tuple[Any, ...]] = {
    "krb5_free_context": (),
    "krb5_free_principal": (_C,),
    "krb5_free_unparsed_name": (_C,),
    "krb5_free_default_realm": (_C,),
    "krb5_free_host_realm": (POINTER(c_char_p),),
    "krb5_free_creds": (POINTER(_Creds),),
    "krb5_free_cred_contents": (POINTER(_Creds),),
    "krb5_free_error_message": (_C,),
    "krb5_get_init_creds_opt_free": (_C,),
}


@dataclass(frozen=True, slots=True)
class Ticket:
    """What a KDC gave: a ticket, the key that belongs to it, and how long they are good for."""

    client: str
    server: str
    enctype: int
    key: Secret
    data: bytes = field(repr=False)
    start: int
    end: int
    renew_till: int
    """Until when it may be renewed; 0 if it may not."""


@functools.cache
def _library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError:
        raise TicketRefused(
            f"{_LIBRARY} is not installed, and without it there is no Kerberos "
            "(Debian: apt-get install libkrb5-3)"
        ) from None
    for name, arguments in {**_FUNCTIONS, **_NO_RESULT}.items():
        function = getattr(library, name)
        function.argtypes = (c_void_p, *arguments)
        function.restype = c_int32 if name in _FUNCTIONS else None
    library.profile_get_values.argtypes = (_C, POINTER(c_char_p), POINTER(POINTER(c_char_p)))
    library.profile_free_list.argtypes = (POINTER(c_char_p),)
    library.profile_release.argtypes = (_C,)
    library.krb5_init_context.argtypes = (POINTER(c_void_p),)
    library.krb5_get_error_message.argtypes = (c_void_p, c_int32)
    library.krb5_get_error_message.restype = c_void_p
    library.krb5_get_init_creds_opt_set_renew_life.argtypes = (c_void_p, c_int)
    library.krb5_get_init_creds_opt_set_renew_life.restype = None
    return library


class Kerberos:
    """One context of the library. Use it in a `with` statement, and in one thread."""

    def __init__(self) -> None:
        self._library = _library()
        self._context = c_void_p()
        code = self._library.krb5_init_context(byref(self._context))
        if code:
            raise TicketRefused(f"Kerberos cannot be used: {explain(code, 'see krb5.conf')}")
        self._ends = contextlib.ExitStack()
        self._ends.callback(self._library.krb5_free_context, self._context)

    def __enter__(self) -> Kerberos:
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.close()

    # Names

    def default_realm(self) -> str:
        """The realm of those who say none."""
        realm = c_void_p()
        self._call("krb5_get_default_realm", byref(realm))
        try:
            return _text(realm)
        finally:
            self._library.krb5_free_default_realm(self._context, realm)

    def realm_of_host(self, host: str) -> str | None:
        """The realm that a host is in, as krb5.conf has it; None if that does not say."""
        realms = POINTER(c_char_p)()
        self._call("krb5_get_host_realm", host.encode(), byref(realms))
        try:
            return (realms[0] or b"").decode(errors="replace") or None
        finally:
            self._library.krb5_free_host_realm(self._context, realms)

    def kdcs(self, realm: str) -> list[str]:
        """The KDCs of a realm, as krb5.conf has them: `host` or `host:port`; none if it says none.

        Source: profile_get_values in profile.h
        """
        profile = c_void_p()
        self._call("krb5_get_profile", byref(profile))
        names = (c_char_p * 4)(b"realms", realm.encode(), b"kdc", None)
        values = POINTER(c_char_p)()
        try:
            if self._library.profile_get_values(profile, names, byref(values)):
                return []
            found: list[str] = []
            while (value := values[len(found)]) is not None:
                found.append(value.decode(errors="replace"))
            self._library.profile_free_list(values)
            return found
        finally:
            self._library.profile_release(profile)

    def full_name(self, name: str) -> str:
        """A principal with its realm, which is the default one if the name has none."""
        return self._unparsed(self._principal(name))

    # Tickets

    def user(self) -> str:
        """The principal whose credentials cache this is."""
        principal = c_void_p()
        self._call("krb5_cc_get_principal", self._cache, byref(principal))
        self._ends.callback(self._library.krb5_free_principal, self._context, principal)
        return self._unparsed(principal)

    def service_ticket(self, service: str) -> Ticket:
        """A ticket for a service, from the credentials cache or with its help from a KDC."""
        return self._service_ticket(self._cache, self.user(), service)

    def fresh_ticket(self, service: str) -> Ticket:
        """A ticket for a service as a KDC makes it now, whatever the credentials cache has.

        If that has none, it has it from now on.
        """
        try:
            self._service_ticket(self._cache, self.user(), service, _CACHED_ONLY)
        except TicketRefused:
            return self.service_ticket(service)
        granting = self.granting_ticket()
        cache = c_void_p()
        self._call("krb5_cc_resolve", b"MEMORY:fresh", byref(cache))
        try:
            self._call("krb5_cc_initialize", cache, self._principal(granting.client))
            self._store(cache, granting)
            return self._service_ticket(cache, granting.client, service)
        finally:
            self._library.krb5_cc_destroy(self._context, cache)

    def granting_ticket(self) -> Ticket:
        """The ticket in the cache with which others are had."""
        realm = self.user().rpartition("@")[2]
        return self.service_ticket(f"krbtgt/{realm}@{realm}")

    def by_password(self, client: str, password: Secret, service: str) -> Ticket:
        """A ticket for a service straight from a KDC, for a user with a password."""
        text = ctypes.create_string_buffer(password.reveal())
        try:
            return self._initial(
                "krb5_get_init_creds_password",
                self._principal(client), text, None, None, service=service,
            )  # fmt: skip
        finally:
            ctypes.memset(text, 0, len(text))

    def by_keytab(self, client: str, keytab: str, service: str) -> Ticket:
        """The same with a key out of a file."""
        table = c_void_p()
        self._call("krb5_kt_resolve", keytab.encode(), byref(table))
        try:
            return self._initial(
                "krb5_get_init_creds_keytab", self._principal(client), table, service=service
            )
        finally:
            self._library.krb5_kt_close(self._context, table)

    def renewed(self, ticket: Ticket, service: str) -> tuple[Ticket, Ticket]:
        """A ticket-granting ticket that goes on for longer, and with it one for a service."""
        cache = c_void_p()
        self._call("krb5_cc_resolve", b"MEMORY:renewal", byref(cache))
        try:
            client = self._principal(ticket.client)
            self._call("krb5_cc_initialize", cache, client)
            self._store(cache, ticket)
            fresh = _Creds()
            self._call("krb5_get_renewed_creds", byref(fresh), client, cache, None)
            try:
                granting = self._ticket(fresh)
            finally:
                self._library.krb5_free_cred_contents(self._context, byref(fresh))
            self._call("krb5_cc_initialize", cache, client)
            self._store(cache, granting)
            return granting, self._service_ticket(cache, ticket.client, service)
        finally:
            self._library.krb5_cc_destroy(self._context, cache)

    def _service_ticket(
        self, cache: c_void_p, client: str, service: str, options: int = 0
    ) -> Ticket:
        wanted = _Creds(client=self._principal(client), server=self._principal(service))
        found = POINTER(_Creds)()
        self._call("krb5_get_credentials", options, cache, byref(wanted), byref(found))
        try:
            return self._ticket(found[0])
        finally:
            self._library.krb5_free_creds(self._context, found)

    def _initial(self, function: str, *arguments: object, service: str) -> Ticket:
        options = c_void_p()
        self._call("krb5_get_init_creds_opt_alloc", byref(options))
        creds = _Creds()
        try:
            if service.startswith("krbtgt/"):
                self._library.krb5_get_init_creds_opt_set_renew_life(options, _RENEWABLE_SECONDS)
            self._call(function, byref(creds), *arguments, 0, service.encode(), options)
            return self._ticket(creds)
        finally:
            self._library.krb5_free_cred_contents(self._context, byref(creds))
            self._library.krb5_get_init_creds_opt_free(self._context, options)

    def _store(self, cache: c_void_p, ticket: Ticket) -> None:
        key = ctypes.create_string_buffer(ticket.key.reveal(), len(ticket.key))
        data = ctypes.create_string_buffer(ticket.data, len(ticket.data))
        creds = _Creds(
            client=self._principal(ticket.client),
            server=self._principal(ticket.server),
            keyblock=_Keyblock(0, ticket.enctype, len(key), ctypes.addressof(key)),
            times=_Times(ticket.start, ticket.start, ticket.end, ticket.renew_till),
            ticket=_Data(0, len(data), ctypes.addressof(data)),
        )
        try:
            self._call("krb5_cc_store_cred", cache, byref(creds))
        finally:
            ctypes.memset(key, 0, len(key))

    def _ticket(self, creds: _Creds) -> Ticket:
        key, times, data = creds.keyblock, creds.times, creds.ticket
        return Ticket(
            client=self._unparsed(c_void_p(creds.client)),
            server=self._unparsed(c_void_p(creds.server)),
            enctype=key.enctype,
            key=Secret(ctypes.string_at(key.contents, key.length)),
            data=ctypes.string_at(data.data, data.length),
            start=times.start or times.auth,
            end=times.end,
            renew_till=times.renew_till,
        )

    @functools.cached_property
    def _cache(self) -> c_void_p:
        """The user's credentials cache."""
        cache = c_void_p()
        self._call("krb5_cc_default", byref(cache))
        self._ends.callback(self._library.krb5_cc_close, self._context, cache)
        return cache

    def _principal(self, name: str) -> c_void_p:
        """A principal that lives as long as the context."""
        principal = c_void_p()
        self._call("krb5_parse_name", name.encode(), byref(principal))
        self._ends.callback(self._library.krb5_free_principal, self._context, principal)
        return principal

    def _unparsed(self, principal: c_void_p) -> str:
        name = c_void_p()
        self._call("krb5_unparse_name", principal, byref(name))
        try:
            return _text(name)
        finally:
            self._library.krb5_free_unparsed_name(self._context, name)

    def _call(self, function: str, *arguments: object) -> None:
        """Call the library. Raises `TicketRefused` with a line for people."""
        code = getattr(self._library, function)(self._context, *arguments)
        if code:
            message = c_void_p(self._library.krb5_get_error_message(self._context, code))
            try:
                text = _text(message)
            finally:
                self._library.krb5_free_error_message(self._context, message)
            raise TicketRefused(explain(code, text), kerberos=code)


def _text(pointer: c_void_p) -> str:
    return ctypes.string_at(pointer).decode(errors="replace") if pointer.value else ""
