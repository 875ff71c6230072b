"""`afsfuse aklog`: tokens from the Kerberos tickets that the user has."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from afsfuse.auth.acquire import (
    FRESH_SECONDS,
    KDC_SECONDS,
    fresh,
    from_cache,
    quiet,
    within,
)
from afsfuse.auth.complaints import MISSING_SERVICE
from afsfuse.auth.hardening import harden
from afsfuse.errors import AfsError, TicketRefused
from afsfuse.tools import complain
from afsfuse.tools.common import EXIT_FAILED, EXIT_OK, Cells, Parser, hand_over

if TYPE_CHECKING:
    from collections.abc import Sequence

    from afsfuse.auth.acquire import Say, Wanted
    from afsfuse.auth.token import Token


def parser() -> Parser:
    """The command line."""
    known = Parser(
        "aklog",
        "Get a token for each CELL, or for the local one, with your Kerberos tickets (kinit).",
    )
    known.add_cells("cells to get tokens for")
    known.add_argument("-k", dest="realm", metavar="REALM", help="the cells' Kerberos realm")
    known.add_argument("-d", dest="debug", action="store_true", help="tell what is tried")
    known.add_argument(
        "--keep", action="store_true", help="have the daemon renew it; needs a renewable ticket"
    )
    known.add_argument(
        "-noprdb",
        "--noprdb",
        dest="wait",
        action="store_false",
        help="do not wait for the cell to tell your AFS ID",
    )
    known.add_confdir()
    return known


def main(arguments: Sequence[str]) -> int:
    """Run it; returns the exit status."""
    given = parser().parse_args(arguments)
    harden()
    cells = Cells.load(given.confdir)
    say = _say if given.debug else quiet
    status = EXIT_OK
    names = [cells.name(name) for name in (*given.cells, *given.more_cells)] or [cells.local()]
    for name in dict.fromkeys(names):
        wanted = cells.wanted(name, given.realm)
        say(f"Authenticating to cell {name}")
        try:
            token = token_for(wanted, say)
            renewal = renewal_with_ticket(wanted) if given.keep else None
            hand_over(token, renewal, wait=given.wait)
        except AfsError as exc:
            complain(f"{name}: {exc}")
            status = EXIT_FAILED
        else:
            say(f"{name}: token for {token.client}")
    return status


def token_for(wanted: Wanted, say: Say) -> Token:
    """A token of a fresh ticket, or of the one in the credentials cache where none is to be had.

    Whoever asks again may do so since servers refuse what he has: with the cell's new key a ticket
    from the cache would be refused, too. Raises `TicketRefused`.
    """
    try:
        return within(FRESH_SECONDS, partial(fresh, wanted, say))
    except TicketRefused as exc:
        if exc.kerberos in MISSING_SERVICE:
            raise
        say(f"no fresh ticket: {exc}")
    return within(KDC_SECONDS - FRESH_SECONDS, partial(from_cache, wanted, say))


def renewal_with_ticket(wanted: Wanted) -> str:
    """What the daemon renews a token with: the user's own ticket-granting ticket."""
    from afsfuse.auth.kerberos import Kerberos
    from afsfuse.auth.renewal import Renewal

    with Kerberos() as kerberos:  # it is in the cache already: no KDC is asked
        granting = kerberos.granting_ticket()
    if granting.renew_till <= granting.end:
        raise TicketRefused("your ticket is not renewable: get one with kinit -r 7d, or use klog")
    return Renewal(wanted, granting.client, granting=granting).encode()


def _say(text: str) -> None:
    print(text, flush=True)
