"""How a token is renewed without its user: from a keytab, or a renewable ticket.

`perform` is to be run in a process of its own, under the user's uid: what a user handed over is
parsed by a library in C.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import sys
from dataclasses import dataclass, replace
from typing import Any

from afsfuse.auth.acquire import Wanted, by_keytab, realm_of, services
from afsfuse.auth.complaints import MISSING_SERVICE
from afsfuse.auth.hardening import harden
from afsfuse.auth.kerberos import Kerberos, Ticket
from afsfuse.auth.token import Secret, Token
from afsfuse.errors import TicketRefused, TokenMalformed

KEYTAB_MAX = 32_000
"""Bytes of a keytab; one for one user has some hundred."""
_TICKET_MAX = 20_000
_NAME_MAX = 1024
_NOBODY = 65534


@dataclass(frozen=True, slots=True)
class Renewal:
    """What a token for a cell can be renewed with: one of the two last ones."""

    wanted: Wanted
    client: str
    keytab: Secret | None = None
    """The bytes of a keytab with the client's key."""
    granting: Ticket | None = None
    """A ticket-granting ticket that is renewable."""

    def encode(self) -> str:
        """One line of text, with the keys in it."""
        values: dict[str, Any] = {
            "cell": self.wanted.cell,
            "realm": self.wanted.realm,
            "host": self.wanted.host,
            "client": self.client,
        }
        if self.keytab is not None:
            values["keytab"] = _text(self.keytab.reveal())
        if (ticket := self.granting) is not None:
            values["granting"] = {
                "server": ticket.server,
                "enctype": ticket.enctype,
                "key": _text(ticket.key.reveal()),
                "data": _text(ticket.data),
                "times": [ticket.start, ticket.end, ticket.renew_till],
            }
        return json.dumps(values)

    @classmethod
    def decode(cls, text: str | bytes) -> Renewal:
        """The inverse of `encode`. Raises `TokenMalformed`, which quotes nothing."""
        try:
            return cls._checked(json.loads(text))
        except (ValueError, KeyError, TypeError, RecursionError, binascii.Error):
            raise TokenMalformed("what a token is to be renewed with cannot be read") from None

    @classmethod
    def _checked(cls, values: dict[str, Any]) -> Renewal:
        client = _name(values["client"])
        realm, host = (None if values[n] is None else _name(values[n]) for n in ("realm", "host"))
        keytab: Secret | None = None
        granting: Ticket | None = None
        if "keytab" in values:
            keytab = Secret(_bytes(values["keytab"], KEYTAB_MAX))
        else:
            inner = values["granting"]
            start, end, renew_till = (_number(time) for time in inner["times"])
            granting = Ticket(
                client=client,
                server=_name(inner["server"]),
                enctype=_number(inner["enctype"]),
                key=Secret(_bytes(inner["key"], 64)),
                data=_bytes(inner["data"], _TICKET_MAX),
                start=start,
                end=end,
                renew_till=renew_till,
            )
        return cls(Wanted(_name(values["cell"]), realm, host), client, keytab, granting)


def perform(renewal: Renewal) -> tuple[Token, Renewal]:
    """A fresh token, and what to renew it with the next time. Raises `TicketRefused`."""
    if renewal.keytab is not None:
        descriptor = os.memfd_create("keytab", os.MFD_CLOEXEC)
        with open(descriptor, "wb") as memory:
            memory.write(renewal.keytab.reveal())
            memory.flush()
            path = f"FILE:/proc/self/fd/{descriptor}"
            return by_keytab(renewal.wanted, renewal.client, path), renewal
    assert renewal.granting is not None
    return _from_granting(renewal, renewal.granting)


def _from_granting(renewal: Renewal, granting: Ticket) -> tuple[Token, Renewal]:
    with Kerberos() as kerberos:
        user_realm = renewal.client.rpartition("@")[2]
        cell_realm = realm_of(renewal.wanted, kerberos)
        refused: TicketRefused | None = None
        for service in services(renewal.wanted, user_realm, cell_realm):
            try:
                fresh, ticket = kerberos.renewed(granting, service)
            except TicketRefused as exc:
                if exc.kerberos not in MISSING_SERVICE:
                    raise
                refused = exc
                continue
            token = Token(
                cell=renewal.wanted.cell,
                client=ticket.client,
                enctype=ticket.enctype,
                key=ticket.key,
                ticket=ticket.data,
                start=ticket.start,
                end=ticket.end,
                service=ticket.server,
            )
            return token, replace(renewal, granting=fresh)
    raise refused or TicketRefused("the cell has no service")


def main() -> None:
    """Renew as standard input says, under the uid that it names; tell on standard output."""
    harden()
    order = json.load(sys.stdin)
    renewal = Renewal.decode(order["renewal"])
    with Kerberos():  # its library may be out of the user's reach, as the interpreter's files
        pass
    if os.geteuid() == 0 and order["uid"]:
        os.setgroups([])
        os.setgid(_NOBODY)
        os.setuid(order["uid"])
        harden()  # to change the uid sets it to what fs.suid_dumpable says
    try:
        token, again = perform(renewal)
        told = {"token": token.encode(), "renewal": again.encode()}
    except TicketRefused as exc:
        told = {"error": exc.message}
    print(json.dumps(told))


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _bytes(text: str, most: int) -> bytes:
    data = base64.b64decode(text, validate=True)
    if not 0 < len(data) <= most:
        raise ValueError
    return data


def _name(value: object) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= _NAME_MAX or not value.isprintable():
        raise ValueError
    return value


def _number(value: object) -> int:
    if type(value) is not int or not 0 <= value < 2**32:
        raise ValueError
    return value
