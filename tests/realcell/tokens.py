"""Identities for the real cell: by the servers' own key, or by Kerberos from its KDC."""

from __future__ import annotations

import os
import struct
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from afsfuse.auth.token import Secret, Token
from rxrpc.security import deskeys, tickets
from rxrpc.security.rxkad import RxkadClient
from rxrpc.security.servicekeys import ServiceKeys
from rxrpc.security.tickets import Principal
from tests.realcell.configuration import CELL, REALM

if TYPE_CHECKING:
    from pathlib import Path

    from rxrpc.security.base import SecurityLevel
    from tests.realcell.cell import RealCell
    from tests.realcell.hosts import Host

KEYTAB = "etc/openafs/server/rxkad.keytab"
SERVICE = f"afs/{CELL}"
ADMIN = Principal("admin", "", REALM)
_DES = 1  # the type of a session key that rxkad uses as it is


def service_keys(cell: RealCell) -> ServiceKeys:
    """The key that all servers of the cell share."""
    return ServiceKeys.from_keytab((cell.fs1.root / KEYTAB).read_bytes(), f"{SERVICE}@{REALM}")


def local_token(
    keys: ServiceKeys,
    level: SecurityLevel,
    who: Principal = ADMIN,
    *,
    end: int = tickets.LAST,
    wrong_key: bool = False,
) -> RxkadClient:
    """What ``-localauth`` makes: a ticket for anybody, sealed with the servers' key.

    ``wrong_key``: the client believes in another session key than its ticket has.
    """
    if end == tickets.LAST and not wrong_key:
        return RxkadClient.of_service(keys, who, level, clock=time.time)
    key = deskeys.with_odd_parity(os.urandom(8))
    start = 0 if end == tickets.LAST else end - 3600
    kvno, ticket = tickets.make_ticket(keys, who, key, os.urandom(16), start=start, end=end)
    if wrong_key:
        key = bytes(byte ^ 0x02 for byte in key)
    return RxkadClient(
        ticket=ticket, session_key=key, kvno=kvno, level=level, expires=2**31, clock=time.time
    )


def made_token(keys: ServiceKeys, name: str) -> Token:
    """A token of the daemon's kind for anybody, sealed with a service's key."""
    key = deskeys.with_odd_parity(os.urandom(8))
    start, end = int(time.time()) - 60, int(time.time()) + 3600
    who = Principal(name, "", REALM)
    kvno, ticket = tickets.make_ticket(keys, who, key, os.urandom(16), start=start, end=end)
    return Token(
        cell=CELL, client=f"{name}@{REALM}", enctype=_DES, key=Secret(key), ticket=ticket,
        start=start, end=end, kvno=kvno,
    )  # fmt: skip


def kerberos_token(
    host: Host, user: str, password: str, level: SecurityLevel, folder: Path
) -> RxkadClient:
    """What `aklog` makes of a ticket that the KDC has given for a password."""
    found = kerberos_ticket(host, user, password, folder)
    return RxkadClient(
        ticket=found.ticket,
        session_key=deskeys.session_key(found.enctype, found.key),
        kvno=tickets.KERBEROS_5,
        level=level,
        expires=found.end,
        clock=time.time,
    )


def kerberos_ticket(host: Host, user: str, password: str, folder: Path) -> Credential:
    """A ticket for the cell's service that the KDC has given for a password."""
    cache = folder / f"cache-{user}"
    env = {"KRB5CCNAME": f"FILE:{cache}"}
    host.run(["kinit", user], input=password.encode() + b"\n", env=env)
    host.run(["kvno", SERVICE], env=env)
    (found,) = [each for each in read_cache(cache.read_bytes()) if each.server == SERVICE]
    return found


@dataclass(frozen=True)
class Credential:
    """One entry of a credential cache."""

    server: str
    enctype: int
    key: bytes
    end: int
    ticket: bytes

    def token(self, user: str) -> Token:
        """The token of a user that `aklog` makes of it."""
        return Token(
            cell=CELL, client=f"{user}@{REALM}", enctype=self.enctype, key=Secret(self.key),
            ticket=self.ticket, start=int(time.time()), end=self.end, kvno=tickets.KERBEROS_5,
        )  # fmt: skip


def read_cache(data: bytes) -> list[Credential]:
    """A credential cache, version 4. Source: MIT Kerberos, doc/formats/ccache_file_format."""
    assert data[:2] == b"\x05\x04"
    reader = _Reader(data, 4 + int.from_bytes(data[2:4], "big"))
    reader.principal()
    found = []
    while reader.at < len(data):
        reader.principal()
        server = reader.principal()
        (enctype,) = reader.words("!H")
        key = reader.counted()
        _issued, _start, end, _renew = reader.words("!4I")
        reader.words("!BI")  # flags
        for _ in range(2):  # addresses, authorization data
            for _ in range(*reader.words("!I")):
                reader.words("!H")
                reader.counted()
        found.append(Credential(server, enctype, key, end, reader.counted()))
        reader.counted()
    return found


class _Reader:
    def __init__(self, data: bytes, at: int) -> None:
        self._data = data
        self.at = at

    def words(self, form: str) -> tuple[int, ...]:
        found = struct.unpack_from(form, self._data, self.at)
        self.at += struct.calcsize(form)
        return found

    def counted(self) -> bytes:
        (size,) = self.words("!I")
        self.at += size
        return self._data[self.at - size : self.at]

    def principal(self) -> str:
        _kind, count = self.words("!2I")
        self.counted()  # the realm
        return "/".join(self.counted().decode() for _ in range(count))
