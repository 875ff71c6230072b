"""Tickets and keys for the tests of rxkad, and two cores that use them."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rxrpc.security import tickets
from rxrpc.security.base import SecurityLevel
from rxrpc.security.krbcrypto import AES256_SHA1
from rxrpc.security.rxkad import RxkadClient, RxkadServer
from rxrpc.security.servicekeys import ServiceKeys
from rxrpc.security.tickets import Principal
from tests.pair.world import Pair

if TYPE_CHECKING:
    from rxrpc.core.parameters import Parameters

NOW = 1_800_000_000.0
KVNO = 3
SERVICE_KEY = bytes(range(32))
SESSION_KEY = bytes.fromhex("0123456789abcdef")
ALICE = Principal("alice", "", "TEST.AFS")


@dataclass
class Clock:
    """Seconds since 1970, as a test wants them."""

    now: float = NOW

    def __call__(self) -> float:
        return self.now


def service_keys() -> ServiceKeys:
    return ServiceKeys({(KVNO, AES256_SHA1): SERVICE_KEY})


@dataclass
class Realm:
    """A service with its key, and who has tickets for it."""

    clock: Clock = field(default_factory=Clock)
    keys: ServiceKeys = field(default_factory=service_keys)

    def client(
        self,
        level: SecurityLevel = SecurityLevel.CRYPT,
        *,
        session_key: bytes = SESSION_KEY,
        sealed_key: bytes | None = None,
        end: int = int(NOW) + 3600,
        expires: float | None = None,
        start: int = int(NOW) - 60,
        who: Principal = ALICE,
    ) -> RxkadClient:
        """An identity; ``sealed_key`` is the session key that its ticket has, if another one."""
        kvno, ticket = tickets.make_ticket(
            self.keys, who, sealed_key or session_key, bytes(16), start=start, end=end
        )
        return RxkadClient(
            ticket=ticket,
            session_key=session_key,
            kvno=kvno,
            level=level,
            expires=end if expires is None else expires,
            clock=self.clock,
        )

    def server(self, min_level: SecurityLevel = SecurityLevel.CLEAR) -> RxkadServer:
        return RxkadServer(self.keys, clock=self.clock, min_level=min_level, rng=random.Random(4))

    def pair(
        self,
        client: Parameters | None = None,
        server: Parameters | None = None,
        *,
        min_level: SecurityLevel = SecurityLevel.CLEAR,
    ) -> Pair:
        return Pair(client, server, securities=[self.server(min_level)])
