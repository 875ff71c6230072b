"""From Kerberos to a token: which service to ask for, and how nobody is held up by a KDC.

The library waits for a KDC as long as it pleases and cannot be interrupted, so it works in a child
process that has a bound: `within`.
"""

from __future__ import annotations

import json
import os
import select
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from afsfuse.auth.complaints import MISSING_SERVICE, Krb5
from afsfuse.auth.kerberos import Kerberos, Ticket
from afsfuse.auth.token import ENCODED_MAX, Token
from afsfuse.errors import TicketRefused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from afsfuse.auth.token import Secret

    Say = Callable[[str], object]

KDC_SECONDS = 14.0
"""How long a ticket may take, over all services and KDCs that are tried."""
FRESH_SECONDS = 5.0
"""... of which this much is for one that is not taken from the credentials cache."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """The cell that a token is for."""

    cell: str
    realm: str | None = None
    """Its realm, where the user said it."""
    host: str | None = None
    """The name of one of its database servers, of which the realm can be told."""


def quiet(_: str) -> None:
    """Say nothing of what is tried."""


def services(wanted: Wanted, user_realm: str, cell_realm: str) -> Iterator[str]:
    """The principals that may be the cell's, in the order in which to try them.

    Source: aklog(1) of OpenAFS: the user's own realm first, then that of the cell; a realm with
    the cell's name may have the principal without the cell's name in it.
    """
    cell = wanted.cell
    realms = [wanted.realm] if wanted.realm else dict.fromkeys((user_realm, cell_realm))
    for realm in realms:
        yield f"afs/{cell}@{realm}"
        if realm == cell.upper() and (wanted.realm or realm == cell_realm):
            yield f"afs@{realm}"


def realm_of(wanted: Wanted, kerberos: Kerberos) -> str:
    """The cell's realm: as krb5.conf has it for a database server, else the cell's name."""
    for host in (wanted.host, wanted.cell):
        if host and (realm := kerberos.realm_of_host(host)):
            return realm
    return wanted.cell.upper()


def from_cache(wanted: Wanted, say: Say = quiet) -> Token:
    """A token from the caller's credentials cache. Raises `TicketRefused`."""
    with Kerberos() as kerberos:
        return _for_user(wanted, kerberos, kerberos.service_ticket, say)


def fresh(wanted: Wanted, say: Say = quiet) -> Token:
    """A token of a ticket that a KDC makes now, with the caller's ticket-granting ticket. Raises
    `TicketRefused`.

    The one in the cache may be of a key that the service has no more.
    """
    with Kerberos() as kerberos:
        return _for_user(wanted, kerberos, kerberos.fresh_ticket, say)


def _for_user(wanted: Wanted, kerberos: Kerberos, ask: Callable[[str], Ticket], say: Say) -> Token:
    """A token for whose credentials cache it is."""
    user = kerberos.user()
    say(f"Kerberos principal {user}")
    names = services(wanted, user.rpartition("@")[2], realm_of(wanted, kerberos))
    return _first(wanted, names, ask, say)


def by_password(wanted: Wanted, user: str, password: Secret, say: Say = quiet) -> Token:
    """A token for a user (perhaps with a realm) and a password. Raises `TicketRefused`."""
    with Kerberos() as kerberos:
        client = _client(wanted, user, kerberos)
        realm = client.rpartition("@")[2]

        def ask(service: str) -> Ticket:
            return kerberos.by_password(client, password, service.rpartition("@")[0])

        return _first(wanted, services(wanted, realm, realm), ask, say)


def by_keytab(wanted: Wanted, user: str, keytab: str, say: Say = quiet) -> Token:
    """A token for a user whose key is in a file. Raises `TicketRefused`."""
    with Kerberos() as kerberos:
        client = _client(wanted, user, kerberos)
        realm = client.rpartition("@")[2]

        def ask(service: str) -> Ticket:
            return kerberos.by_keytab(client, keytab, service.rpartition("@")[0])

        return _first(wanted, services(wanted, realm, realm), ask, say)


def _client(wanted: Wanted, user: str, kerberos: Kerberos) -> str:
    if "@" in user:
        return kerberos.full_name(user)
    return kerberos.full_name(f"{user}@{wanted.realm or realm_of(wanted, kerberos)}")


def _first(wanted: Wanted, names: Iterator[str], ask: Callable[[str], Ticket], say: Say) -> Token:
    """A token with the first service that there is."""
    tried = []
    reason: TicketRefused | None = None
    for service in names:
        say(f"asking for {service}")
        try:
            ticket = ask(service)
        except TicketRefused as exc:
            say(f"{service}: {exc}")
            if exc.kerberos not in MISSING_SERVICE:
                raise
            tried.append(service)
            reason = exc
        else:
            return Token(
                cell=wanted.cell,
                client=ticket.client,
                enctype=ticket.enctype,
                key=ticket.key,
                ticket=ticket.data,
                start=ticket.start,
                end=ticket.end,
                service=ticket.server,
            )
    if reason is not None and reason.kerberos != Krb5.SERVICE_UNKNOWN:
        raise reason
    raise TicketRefused(
        f"Kerberos knows no service {' and no '.join(tried)}: is the cell's realm another one? "
        "(-k REALM)",
        kerberos=Krb5.SERVICE_UNKNOWN,
    )


def within(seconds: float, work: Callable[[], Token]) -> Token:
    """Do it in a child process, which is ended when it takes longer. For commands only.

    A command has one thread and no event loop, so it may fork.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _tell(work, writer)
    os.close(writer)
    try:
        answer = _read(reader, time.monotonic() + seconds)
    finally:
        os.close(reader)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    if answer is None:
        raise TicketRefused(f"no KDC has answered within {seconds:.0f} s: is the network up?")
    return read_outcome(answer)


def outcome(work: Callable[[], Token]) -> str:
    """What work results in, as a line of text: the token, or why there is none."""
    try:
        return json.dumps({"token": work().encode()})
    except TicketRefused as exc:
        return json.dumps({"error": exc.message, "kerberos": exc.kerberos})


def read_outcome(text: bytes | str) -> Token:
    """The inverse of `outcome`: returns the token, or raises `TicketRefused`."""
    try:
        values = json.loads(text)
    except ValueError:
        raise TicketRefused("the Kerberos library failed") from None
    if "token" in values:
        return Token.decode(values["token"])
    raise TicketRefused(values["error"], kerberos=values["kerberos"])


def _tell(work: Callable[[], Token], writer: int) -> None:
    """In the child: work, tell, end. Never returns."""
    try:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        text = outcome(work).encode()
        while text:
            text = text[os.write(writer, text) :]
    finally:
        os._exit(0)


def _read(reader: int, deadline: float) -> bytes | None:
    """All that comes through a pipe; None if that takes too long."""
    data = bytearray()
    while True:
        rest = deadline - time.monotonic()
        if rest <= 0 or not select.select([reader], [], [], rest)[0]:
            return None
        chunk = os.read(reader, ENCODED_MAX)
        if not chunk:
            return bytes(data)
        data += chunk
