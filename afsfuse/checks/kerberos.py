"""Kerberos: the library, the realm, whether its KDCs answer, and what time they have."""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING

import trio

from afsfuse.auth import kdcclock
from afsfuse.auth.kerberos import Kerberos
from afsfuse.checks.findings import note, well, wrong
from afsfuse.errors import AfsError, TicketRefused
from rxrpc.errors import ParseError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from afsfuse.checks.findings import Finding

ANSWER_SECONDS = 2.0
TRIES = 2
NOTABLE_SECONDS = 30
"""A difference that is worth a word."""
KDCS_MAX = 8
_REPLY_MAX = 1 << 16


async def look(
    realm: str | None, ask_dns: Callable[[str], Awaitable[list[tuple[str, int]]]]
) -> list[Finding]:
    """The library and the KDCs of a realm, by default the one of krb5.conf.

    `ask_dns`: addresses of the KDCs of a realm that krb5.conf says nothing of.
    """
    try:
        with Kerberos() as kerberos:
            realm = realm or kerberos.default_realm()
            kdcs = [_address(text) for text in kerberos.kdcs(realm)]
    except TicketRefused as exc:
        if exc.kerberos is None:
            return [note("Kerberos", str(exc), "without it there are no tokens")]
        return [note("Kerberos", f"no realm: {exc}", "write default_realm into /etc/krb5.conf")]
    library = well("Kerberos", f"the library is there; realm {realm}")
    if not kdcs:
        try:
            kdcs = await ask_dns(realm)
        except AfsError as exc:
            return [library, _no_kdc(realm, str(exc))]
    if not kdcs:
        return [library, _no_kdc(realm, "neither krb5.conf nor the DNS knows any")]
    return [library, *await _clocks(realm, kdcs[:KDCS_MAX])]


def _no_kdc(realm: str, why: str) -> Finding:
    return wrong("KDC", f"no KDC of {realm}: {why}", "name one in krb5.conf, or repair the DNS")


def _address(text: str) -> tuple[str, int]:
    """`host`, `host:port`; IPv6 addresses stand in brackets. Source: krb5.conf(5)"""
    host, colon, port = text.rpartition(":")
    if colon and port.isdecimal() and not (host.count(":") and not host.endswith("]")):
        return host.strip("[]"), int(port)
    return text.strip("[]"), kdcclock.PORT


async def _clocks(realm: str, kdcs: list[tuple[str, int]]) -> list[Finding]:
    found: list[Finding | None] = [None] * len(kdcs)

    async def ask(place: int, kdc: tuple[str, int]) -> None:
        found[place] = await _clock(realm, *kdc)

    async with trio.open_nursery() as nursery:
        for place, kdc in enumerate(kdcs):
            nursery.start_soon(ask, place, kdc)
    return [one for one in found if one is not None]


async def _clock(realm: str, host: str, port: int) -> Finding:
    """Whether a KDC answers, and how its clock differs from ours."""
    question = kdcclock.question(realm, secrets.randbits(31))
    for _ in range(TRIES):
        began = time.time()
        try:
            with trio.fail_after(ANSWER_SECONDS):
                told = kdcclock.time_of(await _exchange(host, port, question))
        except trio.TooSlowError:
            continue
        except ParseError as exc:
            return wrong("KDC", f"{host}:{port} answers nonsense: {exc}", "see that it is a KDC")
        except OSError as exc:
            return _silent(realm, host, port, exc.strerror or str(exc))
        return _compared(f"{host}:{port} of {realm}", told + 0.5 - (began + time.time()) / 2)
    return _silent(realm, host, port, "no answer")


async def _exchange(host: str, port: int, question: bytes) -> bytes:
    found = await trio.socket.getaddrinfo(host, port, type=trio.socket.SOCK_DGRAM)
    family, kind, protocol, _, address = found[0]
    with trio.socket.socket(family, kind, protocol) as socket:
        await socket.connect(address)
        await socket.send(question)
        return await socket.recv(_REPLY_MAX)


def _silent(realm: str, host: str, port: int, why: str) -> Finding:
    return wrong(
        "KDC", f"{host}:{port} of {realm} does not answer: {why}",
        "see that UDP to it passes, and that it runs; if it is another realm: --realm REALM",
    )  # fmt: skip


def _compared(where: str, ahead: float) -> Finding:
    """`ahead`: seconds by which the KDC's clock is ahead of ours; it tells whole ones."""
    direction = "behind" if ahead > 0 else "ahead of"
    text = f"{where} answers; this machine's clock is {abs(ahead):.0f} s {direction} the KDC's"
    if abs(ahead) >= kdcclock.SKEW_SECONDS:
        return wrong("clock", text, "set the clock: tokens are refused beyond 5 minutes")
    if abs(ahead) >= NOTABLE_SECONDS:
        return note("clock", text, "set the clock before it is 5 minutes")
    return well("clock", f"{where} answers, and has the same time as this machine")
