"""A service with its key, and tokens for it, for tests that talk to servers of our own."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from afsfuse.auth.token import Secret, Token
from rxrpc.security import deskeys, tickets
from rxrpc.security.base import SecurityLevel
from rxrpc.security.krbcrypto import AES256_SHA1
from rxrpc.security.rxkad import RxkadServer
from rxrpc.security.servicekeys import ServiceKeys
from rxrpc.security.tickets import Principal

CELL = "test.afs"
NOW = 1_800_000_000.0
DES = 1  # the type of a session key that rxkad uses as it is


@dataclass
class Clock:
    """The wall clock, as a test wants it."""

    now: float = NOW

    def __call__(self) -> float:
        return self.now


def some_keys() -> ServiceKeys:
    return ServiceKeys({(1, AES256_SHA1): os.urandom(32)})


@dataclass
class Realm:
    """Whose tickets a server of ours takes. Its clock is not the clients'."""

    keys: ServiceKeys = field(default_factory=some_keys)
    clock: Clock = field(default_factory=Clock)
    min_level: SecurityLevel = SecurityLevel.CLEAR

    def server(self) -> RxkadServer:
        return RxkadServer(self.keys, clock=self.clock, min_level=self.min_level)

    def token(
        self, name: str = "alice", *, keys: ServiceKeys | None = None, life: int = 3600
    ) -> Token:
        """A token; `keys` other than the server's make one that it does not take."""
        key = deskeys.with_odd_parity(os.urandom(8))
        end = int(NOW) + life
        kvno, ticket = tickets.make_ticket(
            keys or self.keys, Principal(name, "", "TEST.AFS"), key, os.urandom(16),
            start=int(NOW) - 60, end=end,
        )  # fmt: skip
        return Token(
            cell=CELL,
            client=f"{name}@TEST.AFS",
            enctype=DES,
            key=Secret(key),
            ticket=ticket,
            start=int(NOW) - 60,
            end=end,
            kvno=kvno,
        )
