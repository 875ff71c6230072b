"""The null class behind the seam."""

import pytest

from rxrpc.errors import SecurityError
from rxrpc.security.base import (
    ClientSecurity,
    ConnectionIdentity,
    PacketIdentity,
    SecurityIndex,
    SecurityLevel,
    ServerSecurity,
)
from rxrpc.security.null import NULL, NullSecurity

IDENTITY = ConnectionIdentity(1, 4, 7, SecurityIndex.NULL)
PACKET = PacketIdentity(5, 1, 1)


def test_it_is_both_ends() -> None:
    client: ClientSecurity = NULL
    server: ServerSecurity = NULL
    assert client.index == server.index == 0
    assert client.connect(IDENTITY) == server.accept(IDENTITY)
    assert NullSecurity() == NULL, "so that connections are shared"
    assert hash(NullSecurity()) == hash(NULL)


def test_it_changes_nothing() -> None:
    security = NULL.connect(IDENTITY)
    assert security.transparent
    assert security.established
    assert security.capacity(1416) == 1416
    assert security.verify_into(4, 1, 1, 0, bytes(40), memoryview(bytearray(40)), 0) < 0
    security.discard()
    assert security.expires == 0
    assert security.level is SecurityLevel.CLEAR
    assert security.protect(PACKET, b"payload") == (b"payload", 0)
    assert security.verify(PACKET, 0xFFFF, b"payload") == b"payload"


def test_it_has_nothing_to_say_to_a_challenge() -> None:
    security = NULL.connect(IDENTITY)
    assert security.challenge() == b""
    assert security.respond(b"who are you", (1, 0, 0, 0)) is None
    with pytest.raises(SecurityError):
        security.accept_response(b"me")
