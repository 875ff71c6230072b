"""The two ends of rxkad, without a network."""

from __future__ import annotations

import copy
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxrpc.errors import LocalError, SecurityError
from rxrpc.security.base import (
    ConnectionIdentity,
    ConnectionSecurity,
    PacketIdentity,
    SecurityIndex,
    SecurityLevel,
)
from rxrpc.security.handshake import Challenge
from rxrpc.security.rxkad import RxkadClient, RxkadCode, RxkadServerConnection
from rxrpc.security.tickets import Principal
from tests.pair.rxkad_world import ALICE, NOW, SESSION_KEY, Realm

IDENTITY = ConnectionIdentity(0x80000001, 0x1230, 52, SecurityIndex.RXKAD)
PACKET = PacketIdentity(0x1231, 5, 9)
NUMBERS = (1, 2, 3, 4)
LEVELS = pytest.mark.parametrize("level", list(SecurityLevel), ids=lambda each: each.name)


def connect(
    realm: Realm, level: SecurityLevel = SecurityLevel.CRYPT
) -> tuple[ConnectionSecurity, RxkadServerConnection]:
    """Both ends of a connection whose handshake is done."""
    client, server = realm.client(level).connect(IDENTITY), realm.server().accept(IDENTITY)
    response = client.respond(server.challenge(), NUMBERS)
    assert response is not None
    assert not server.established
    assert server.accept_response(response) == NUMBERS
    assert server.established
    return client, server


@LEVELS
@given(payload=st.binary(max_size=1400))
def test_protect_and_verify_are_inverses(level: SecurityLevel, payload: bytes) -> None:
    client, server = connect(Realm(), level)
    for sender, receiver in ((client, server), (server, client)):
        body, checksum = sender.protect(PACKET, payload)
        assert receiver.verify(PACKET, checksum, body) == payload
        sink = memoryview(bytearray(len(payload) + 1))
        size = receiver.verify_into(0x1231, 5, 9, checksum, bytes(28) + body, sink, 1)
        assert size == len(payload)
        assert sink[1:] == payload
        if payload:
            assert receiver.verify_into(0x1231, 5, 9, checksum, bytes(28) + body, sink, 2) < 0


@LEVELS
@given(bit=st.integers(0, 8 * 48 - 1))
def test_changes(level: SecurityLevel, bit: int) -> None:
    """What is noticed: the first block of a body; what is not gives other bytes at level CRYPT."""
    client, server = connect(Realm(), level)
    payload = bytes(range(40))
    body, checksum = client.protect(PACKET, payload)
    changed = bytearray(body)
    changed[bit // 8 % len(body)] ^= 1 << bit % 8
    if level is not SecurityLevel.CLEAR and bit // 8 % len(body) < 8:
        with pytest.raises(SecurityError) as caught:
            server.verify(PACKET, checksum, bytes(changed))
        assert caught.value.code in (RxkadCode.SEALED_INCONSISTENT, RxkadCode.DATA_LENGTH)
    else:
        assert server.verify(PACKET, checksum, bytes(changed)) != payload
    with pytest.raises(SecurityError) as caught:
        server.verify(PACKET, checksum ^ 1 << bit % 16, body)
    assert caught.value.code == RxkadCode.SEALED_INCONSISTENT


@LEVELS
def test_capacity(level: SecurityLevel) -> None:
    client, _server = connect(Realm(), level)
    for size in (1416, 1412, 500):
        room = client.capacity(size)
        assert len(client.protect(PACKET, bytes(room))[0]) <= size
        assert len(client.protect(PACKET, bytes(room + 1))[0]) > size
    assert client.level is level
    assert not client.transparent


def test_a_length_that_cannot_be() -> None:
    client, server = connect(Realm())
    body, checksum = client.protect(PACKET, bytes(40))
    with pytest.raises(SecurityError) as caught:
        server.verify(PACKET, checksum, body[:-8])
    assert caught.value.code == RxkadCode.DATA_LENGTH


def test_who_called() -> None:
    _client, server = connect(Realm())
    assert server.principal == ALICE
    assert server.expires == NOW + 3600
    assert repr(server) == "<RxkadServerConnection CRYPT alice@TEST.AFS>"


def test_who_has_the_services_key_is_anybody() -> None:
    realm = Realm()
    whoever = Principal("whoever", "admin", "")
    made = [
        RxkadClient.of_service(
            realm.keys, whoever, SecurityLevel.CRYPT, clock=realm.clock, rng=random.Random(seed)
        )
        for seed in (1, 1, 2)
    ]
    assert made[0] == made[1] != made[2]
    client, server = made[0].connect(IDENTITY), realm.server().accept(IDENTITY)
    response = client.respond(server.challenge(), NUMBERS)
    assert response is not None
    server.accept_response(response)
    assert server.principal == whoever
    assert server.expires == 2**31 - 1


def test_a_server_reads_nothing_before_the_handshake() -> None:
    server = Realm().server().accept(IDENTITY)
    client = Realm().client().connect(IDENTITY)
    body, checksum = client.protect(PACKET, b"early")
    for attempt in (
        lambda: server.verify(PACKET, checksum, body),
        lambda: server.verify_into(1, 1, 1, checksum, body, memoryview(bytearray(9)), 0),
        lambda: server.protect(PACKET, b"early"),
    ):
        with pytest.raises(SecurityError):
            attempt()
    assert server.respond(Challenge(1, 0).build(), NUMBERS) is None
    assert server.principal is None


def test_time() -> None:
    realm = Realm()
    client, server = connect(realm)
    body, checksum = client.protect(PACKET, b"late")
    realm.clock.now += 3600
    for attempt in (
        lambda: server.verify(PACKET, checksum, body),
        lambda: server.protect(PACKET, b"late"),
        lambda: server.verify_into(0x1231, 5, 9, checksum, body, memoryview(bytearray(9)), 0),
        lambda: realm.client(end=int(NOW) + 3600).connect(IDENTITY),
    ):
        with pytest.raises(SecurityError) as caught:
            attempt()
        assert caught.value.code == RxkadCode.EXPIRED


def refusal(response: bytes, realm: Realm, level: SecurityLevel = SecurityLevel.CLEAR) -> int:
    server = realm.server(level).accept(IDENTITY)
    with pytest.raises(SecurityError) as caught:
        server.accept_response(response)
    assert not server.established
    return caught.value.code


def test_responses_that_are_refused() -> None:
    realm = Realm()
    client = realm.client(SecurityLevel.AUTH).connect(IDENTITY)
    challenge = realm.server().accept(IDENTITY).challenge()
    good = client.respond(challenge, NUMBERS)
    assert good is not None
    assert refusal(good[:-1], realm) == RxkadCode.PACKET_SHORT
    assert refusal(good[:50], realm) == RxkadCode.PACKET_SHORT
    assert refusal(good[:20] + b"x" + good[21:], realm) == RxkadCode.SEALED_INCONSISTENT
    assert refusal(good, realm, SecurityLevel.CRYPT) == RxkadCode.LEVEL_FAIL
    old = client.respond(Challenge(77, 0).build(), NUMBERS)
    assert old is not None
    assert refusal(old, realm) == RxkadCode.OUT_OF_SEQUENCE
    negative = client.respond(challenge, (1, 2, 3, 1 << 31))
    assert negative is not None
    assert refusal(negative, realm) == RxkadCode.SEALED_INCONSISTENT
    elsewhere = ConnectionIdentity(IDENTITY.epoch, 0x9990, 52, 2)
    other = realm.client().connect(elsewhere).respond(challenge, NUMBERS)
    assert other is not None
    assert refusal(other, realm) == RxkadCode.SEALED_INCONSISTENT


def test_a_level_that_does_not_exist() -> None:
    realm = Realm()
    client = realm.client().connect(IDENTITY)
    client.level = 3  # type: ignore[assignment]
    response = client.respond(realm.server().accept(IDENTITY).challenge(), NUMBERS)
    assert response is not None
    assert refusal(response, realm) == RxkadCode.LEVEL_FAIL


def test_challenges() -> None:
    client = Realm().client(SecurityLevel.AUTH).connect(IDENTITY)
    assert client.respond(b"insult", NUMBERS) is None
    with pytest.raises(SecurityError) as caught:
        client.respond(Challenge(1, SecurityLevel.CRYPT).build(), NUMBERS)
    assert caught.value.code == RxkadCode.LEVEL_FAIL
    server = Realm().server()
    one, two = server.accept(IDENTITY), server.accept(IDENTITY)
    assert one.challenge() == one.challenge() != two.challenge()


def test_a_client_is_no_server() -> None:
    client = Realm().client().connect(IDENTITY)
    with pytest.raises(SecurityError):
        client.challenge()
    with pytest.raises(SecurityError):
        client.accept_response(b"")
    assert client.established


def test_identities_are_equal_in_everything_or_not_at_all() -> None:
    realm = Realm()
    plain = realm.client()
    assert plain == realm.client()
    assert hash(plain) == hash(realm.client())
    others = [
        realm.client(SecurityLevel.AUTH),
        realm.client(session_key=b"another!"),
        realm.client(session_key=b"another!", sealed_key=SESSION_KEY),
        realm.client(end=int(NOW) + 3601),
        realm.client(expires=NOW + 1),
        "no identity",
    ]
    assert all(plain != other for other in others)
    assert len({plain, *others}) == 7


def test_an_identity_keeps_a_secret() -> None:
    realm = Realm()
    client = realm.client()
    connection = client.connect(IDENTITY)
    shown = repr(client) + repr(connection) + repr(realm.server()) + str(vars(realm.server()))
    for secret in (SESSION_KEY, bytes(range(32))):
        assert secret.hex() not in shown
        assert repr(secret)[2:-1] not in shown
    held = client._key
    client.wipe()
    assert not held
    with pytest.raises(SecurityError) as caught:
        client.connect(IDENTITY)
    assert caught.value.code == RxkadCode.NO_AUTH
    assert client == realm.client()  # calls that run keep their connections


def test_the_keys_of_a_connection_go_with_it() -> None:
    client, server = connect(Realm())
    before = client.protect(PACKET, b"text")
    client.discard()
    server.discard()
    assert client.protect(PACKET, b"text") != before
    assert server.protect(PACKET, b"text") == client.protect(PACKET, b"text")


def test_the_callers_key_is_his_own() -> None:
    key = bytearray(SESSION_KEY)
    client = RxkadClient(
        ticket=bytes(40), session_key=key, kvno=256, level=SecurityLevel.CRYPT, expires=NOW + 1,
        clock=lambda: NOW,
    )  # fmt: skip
    before = client.connect(IDENTITY).protect(PACKET, b"text")
    key[:] = bytes(8)
    assert client.connect(IDENTITY).protect(PACKET, b"text") == before
    assert copy.copy(before) == before


@pytest.mark.parametrize(
    ("key", "ticket", "kvno"),
    [
        (bytes(7), bytes(40), 256),
        (bytes(8), bytes(31), 256),
        (bytes(8), bytes(40), -1),
        (bytes(8), bytes(40), 2**32),
    ],
)
def test_what_is_no_identity(key: bytes, ticket: bytes, kvno: int) -> None:
    """What could not be told to a server: nobody is asked by then who could be told so."""
    with pytest.raises(LocalError):
        RxkadClient(
            ticket=ticket, session_key=key, kvno=kvno, level=SecurityLevel.CRYPT, expires=NOW,
            clock=lambda: NOW,
        )  # fmt: skip
