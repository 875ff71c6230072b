"""The secrets of a cell: the key of its services, passwords as keys, and tickets made with them.

A cell has a realm of its own, called as the cell in capitals. Its services have two keys of one
version: an AES key for the tickets that the cell itself gives (`Realm.ticket_for`), and a DES key
for those that its authentication service makes, since Kerberos 4 has no other.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rxrpc.security.base import SecurityLevel
from rxrpc.security.deskeys import KEY_SIZE, is_weak, with_odd_parity
from rxrpc.security.krbcrypto import AES256_SHA1
from rxrpc.security.passwords import afs_key
from rxrpc.security.rxkad import RxkadClient, RxkadServer
from rxrpc.security.servicekeys import ServiceKeys
from rxrpc.security.tickets import Principal, make_ticket

if TYPE_CHECKING:
    from collections.abc import Callable

DES = 1  # des-cbc-crc
KEY_VERSION = 1
_AES_KEY_SIZE = 32
_CONFOUNDER_SIZE = 16


@dataclass(frozen=True)
class Ticket:
    """What a user shows to the services of a cell, and the session key in it."""

    cell: str
    client: str
    """Whose it is, with his realm."""
    kvno: int
    data: bytes = field(repr=False)
    session_key: bytes = field(repr=False)
    start: int
    end: int
    enctype: int = DES
    """Of the session key."""

    def security(
        self, clock: Callable[[], float], level: SecurityLevel = SecurityLevel.CRYPT
    ) -> RxkadClient:
        """For the connections of who has the ticket. `clock`: seconds since 1970."""
        return RxkadClient(
            ticket=self.data, session_key=self.session_key, kvno=self.kvno, level=level,
            expires=self.end, clock=clock,
        )  # fmt: skip


class Realm:
    """The keys of a cell."""

    def __init__(
        self,
        cell: str,
        clock: Callable[[], float],
        rng: random.Random | None,
        min_level: SecurityLevel = SecurityLevel.CLEAR,
    ) -> None:
        """`clock` gives seconds since 1970, `rng` the keys; by default they are good ones.

        `min_level`: of callers with tickets; OpenAFS's servers demand no more than CLEAR.
        """
        self._min_level = min_level
        self.cell = cell
        self.name = cell.upper()
        self.clock = clock
        self._rng = rng or random.SystemRandom()
        self.users: dict[str, bytes] = {}
        """The key of each user who has a password."""
        self.service_key = self.new_des_key()
        self.granting_key = self.new_des_key()
        """With which tickets to get tickets with are made."""
        self._aes_key = self._rng.randbytes(_AES_KEY_SIZE)
        self.keys = ServiceKeys()
        self._make_keys()

    def security(self) -> RxkadServer:
        """How services are called by those who have tickets."""
        return RxkadServer(self.keys, clock=self.clock, min_level=self._min_level)

    def set_password(self, user: str, password: str) -> None:
        """What a user types from now on."""
        self.users[user] = afs_key(password.encode(), self.cell)

    def ticket_for(self, user: str, lifetime: float) -> Ticket:
        """A ticket for the cell's services that is valid from now on, for whatever name."""
        start = int(self.clock())
        end = start + int(lifetime)
        session_key = self.new_des_key()
        name, _, instance = user.partition(".")
        client = Principal(name, instance, self.name)
        kvno, data = make_ticket(
            self.keys, client, session_key, self._rng.randbytes(_CONFOUNDER_SIZE),
            start=start, end=end,
        )  # fmt: skip
        return Ticket(self.cell, str(client), kvno, data, session_key, start, end)

    def new_des_key(self) -> bytes:
        """A key that nobody has."""
        while True:
            key = with_odd_parity(self._rng.randbytes(KEY_SIZE))
            if not is_weak(key):
                return key

    def secrets(self) -> dict[str, object]:
        """All keys, as text that can be kept."""
        return {
            "service": self.service_key.hex(),
            "aes": self._aes_key.hex(),
            "granting": self.granting_key.hex(),
            "users": {user: key.hex() for user, key in self.users.items()},
        }

    def restore(self, secrets: dict[str, str], users: dict[str, str]) -> None:
        """The inverse of `secrets`, without and with its users. Raises `ValueError`."""
        self.service_key = _des_key(secrets["service"])
        self.granting_key = _des_key(secrets["granting"])
        self._aes_key = bytes.fromhex(secrets["aes"])
        if len(self._aes_key) != _AES_KEY_SIZE:
            raise ValueError("an AES key of another length")
        self.users = {user: _des_key(key) for user, key in users.items()}
        self._make_keys()

    def _make_keys(self) -> None:
        self.keys = ServiceKeys(
            {(KEY_VERSION, AES256_SHA1): self._aes_key, (KEY_VERSION, DES): self.service_key}
        )


def _des_key(text: str) -> bytes:
    key = bytes.fromhex(text)
    if len(key) != KEY_SIZE:
        raise ValueError("a DES key of another length")
    return key
