"""rxkad between two cores: all levels, loss, lies, and time."""

from __future__ import annotations

import base64
import io
import random
import traceback

import pytest

from rxrpc.core.bundle import BundleKey
from rxrpc.core.clocks import CallTimeouts
from rxrpc.core.endpoint import EndpointCore
from rxrpc.core.services import ServiceEntry
from rxrpc.errors import CallAborted, RxCode, SecurityError
from rxrpc.jsontrace import JsonLinesTracer
from rxrpc.security.base import ConnectionIdentity, SecurityLevel
from rxrpc.security.krbcrypto import AES256_SHA1
from rxrpc.security.rxkad import RxkadCode, RxkadServerConnection
from rxrpc.security.servicekeys import ServiceKeys
from rxrpc.trace import DropReason
from rxrpc.wire.packet import PacketType
from tests.pair.rxkad_world import ALICE, KVNO, NOW, SERVICE_KEY, SESSION_KEY, Realm
from tests.pair.world import CLIENT, NO_REACH_CHECK, SERVER, SERVICE, Flying, Pair, drop_nth, silent

LEVELS = pytest.mark.parametrize("level", list(SecurityLevel), ids=lambda each: each.name)


def code_of(pair: Pair, security: object, request: bytes = b"question") -> int:
    """What a call with an identity is aborted with."""
    call = pair.call(request, security=security)  # type: ignore[arg-type]
    with pytest.raises(CallAborted) as caught:
        pair.finish(call)
    return caught.value.code


@LEVELS
@pytest.mark.parametrize("size", [0, 1, 8, 1399, 1408, 1409, 100_000])
def test_echo(level: SecurityLevel, size: int) -> None:
    realm = Realm()
    pair = realm.pair()
    request = random.Random(size).randbytes(size)
    assert pair.finish(pair.call(request, security=realm.client(level))) == request
    (served,) = pair.incoming
    security = served.security
    assert isinstance(security, RxkadServerConnection)
    assert security.principal == ALICE
    assert security.level is level
    assert not pair.client_trace.drops
    assert not pair.server_trace.drops
    assert not pair.server.context.buffered


@LEVELS
def test_what_flies(level: SecurityLevel) -> None:
    realm = Realm()
    pair = realm.pair()
    text = b"a plain text of which nothing should be seen " * 100
    assert pair.finish(pair.call(text, security=realm.client(level))) == text
    data = [d for d in pair.log if d.header.type is PacketType.DATA]
    assert all(d.header.checksum for d in data)
    assert max(len(d.data) for d in data) == 1444
    seen = any(b"plain text of which" in d.data for d in data)
    assert seen == (level is not SecurityLevel.CRYPT)


def test_the_hot_path_takes_what_is_encrypted() -> None:
    realm = Realm()
    pair = realm.pair()
    reply = random.Random(1).randbytes(300_000)
    pair.on_server = silent
    call = pair.call(b"give", security=realm.client())
    pair.run(lambda: bool(pair.incoming))
    buffer = bytearray(len(reply))
    call.receiving.read_into([memoryview(buffer)[:100_000], memoryview(buffer)[100_000:]])
    del pair.programs[call]
    before = pair.client._fast_packets
    pair.incoming[0].write(reply)
    pair.incoming[0].finish()
    pair.run(lambda: call.over)
    assert buffer == reply
    packets = len(reply) // 1408 + 1
    assert pair.client._fast_packets - before >= packets - 2
    assert pair.client_trace.drops == {}


@pytest.mark.parametrize("bad", [1, 7, 72])
def test_a_changed_packet_on_the_hot_path(bad: int) -> None:
    """At the beginning, in the middle and at the end of what fits: the connection ends."""
    realm = Realm()
    pair = realm.pair()
    pair.on_server = silent
    call = pair.call(b"give", security=realm.client())
    pair.run(lambda: bool(pair.incoming))
    buffer = bytearray(100_000)
    call.receiving.read_into([memoryview(buffer)])
    del pair.programs[call]

    def mangle(datagram: Flying) -> list[Flying]:
        header = datagram.header
        if datagram.target == CLIENT and header.type is PacketType.DATA and header.seq == bad:
            data = datagram.data[:30] + bytes([datagram.data[30] ^ 1]) + datagram.data[31:]
            datagram = Flying(data, datagram.source, datagram.target)
        return [datagram]

    pair.mangle = mangle
    pair.incoming[0].write(b"x" * 200_000)
    pair.run(lambda: call.over)
    assert isinstance(call.error, CallAborted)
    assert call.error.code == RxkadCode.SEALED_INCONSISTENT
    assert pair.client_trace.drops[DropReason.INSECURE] == 1
    end = buffer.find(b"\0")
    assert end == min(len(buffer), (bad - 1) * 1408)
    assert not any(buffer[end:])


@LEVELS
@pytest.mark.parametrize("seed", range(5))
def test_echo_on_a_bad_network(level: SecurityLevel, seed: int) -> None:
    realm = Realm()
    pair = realm.pair()
    coin = random.Random(seed)

    def mangle(datagram: Flying) -> list[Flying]:
        if coin.random() < 0.2:
            return []
        return [datagram] * (1 + (coin.random() < 0.1))

    pair.mangle = mangle
    client = realm.client(level)
    for number in range(5):
        request = bytes([number]) * 20_000
        assert pair.finish(pair.call(request, security=client)) == request
    assert len(pair.incoming) == 5
    assert DropReason.INSECURE not in pair.server_trace.drops + pair.client_trace.drops


@pytest.mark.parametrize("lost", [1, 2])
def test_handshake_packets_may_be_lost(lost: int) -> None:
    for kind in (PacketType.CHALLENGE, PacketType.RESPONSE):
        realm = Realm()
        pair = realm.pair()
        pair.mangle = drop_nth(lost, where=lambda d, kind=kind: d.header.type is kind)  # type: ignore[misc]
        assert pair.finish(pair.call(b"x" * 5000, security=realm.client())) == b"x" * 5000


def test_the_request_waits_for_the_handshake_and_is_not_sent_again() -> None:
    realm = Realm()
    pair = realm.pair()
    request = bytes(12_000)
    assert pair.finish(pair.call(request, security=realm.client())) == request
    sent = [d.header.seq for d in pair.log if d.source == CLIENT and d.header.type == 1]
    assert sorted(sent) == sorted(set(sent))


def test_packets_that_wait_are_bounded_and_forgotten() -> None:
    realm = Realm()
    pair = realm.pair(server=NO_REACH_CHECK.changed(read_ahead=4))
    pair.mangle = lambda d: () if d.header.type is PacketType.RESPONSE else (d,)
    call = pair.call(bytes(14_000), security=realm.client())
    pair.collect()
    pair.flush()
    first = pair.log[0]
    pair.deliver(first)  # twice the same
    pair.deliver(Flying(first.header._replace(seq=1000).build() + first.body, CLIENT, SERVER))
    assert pair.server.context.buffered == 4
    drops = pair.server_trace.drops
    assert drops[DropReason.NO_SPACE] == 6
    assert drops[DropReason.DUPLICATE] == 1
    assert drops[DropReason.BEYOND_WINDOW] == 1
    call.abort(7, pair.now)
    pair.run(lambda: not pair.server.context.buffered, limit=2000)
    assert not pair.incoming


def test_a_wrong_session_key() -> None:
    realm = Realm()
    client = realm.client(sealed_key=b"another!")
    assert code_of(realm.pair(), client) == RxkadCode.SEALED_INCONSISTENT


def test_a_ticket_for_another_key() -> None:
    realm, other = Realm(), Realm()
    other.keys._keys[3, 18][0] ^= 1
    assert code_of(realm.pair(), other.client()) == RxkadCode.BAD_TICKET
    other.keys._keys[4, 18] = other.keys._keys.pop((3, 18))
    assert code_of(realm.pair(), other.client()) == RxkadCode.UNKNOWN_KEY


def test_a_server_takes_no_expired_ticket() -> None:
    realm = Realm()
    client = realm.client(end=int(NOW) - 1, expires=NOW + 100)
    assert code_of(realm.pair(), client) == RxkadCode.EXPIRED


def test_a_client_makes_no_connection_with_an_expired_ticket() -> None:
    realm = Realm()
    pair = realm.pair()
    client = realm.client(end=int(NOW) - 1)
    calls = [pair.call(b"question", security=client) for _ in range(3)]
    assert all(call.over for call in calls)
    with pytest.raises(CallAborted) as caught:
        pair.finish(calls[0])
    assert caught.value.code == RxkadCode.EXPIRED
    assert not caught.value.remote
    assert not pair.log
    assert not pair.client._bundles


def test_a_connection_ends_with_its_ticket() -> None:
    realm = Realm()
    pair = realm.pair()
    client = realm.client()
    assert pair.finish(pair.call(b"before", security=client)) == b"before"
    pair.on_server = silent
    late = pair.call(b"during", security=client)
    pair.run(lambda: len(pair.incoming) == 2)
    realm.clock.now += 3601
    pair.incoming[1].write(b"too late" * 1000)  # the server may not protect it any more
    with pytest.raises(CallAborted) as caught:
        pair.finish(late)
    assert caught.value.code == RxkadCode.EXPIRED
    assert caught.value.remote
    again = realm.client(expires=NOW + 10_000)
    assert code_of(pair, again) == RxkadCode.EXPIRED


def test_a_request_after_the_end_of_the_ticket() -> None:
    realm = Realm()
    pair = realm.pair()
    client = realm.client()
    assert pair.finish(pair.call(b"before", security=client)) == b"before"
    realm.clock.now += 3601
    assert code_of(pair, client) == RxkadCode.EXPIRED


@pytest.mark.parametrize("level", [SecurityLevel.CLEAR, SecurityLevel.AUTH])
def test_a_server_that_wants_more_than_the_client_gives(level: SecurityLevel) -> None:
    realm = Realm()
    pair = realm.pair(min_level=SecurityLevel.CRYPT)
    assert code_of(pair, realm.client(level)) == RxkadCode.LEVEL_FAIL


def test_a_challenge_cannot_lower_the_level() -> None:
    realm = Realm()
    pair = realm.pair(min_level=SecurityLevel.CRYPT)

    def lower(datagram: Flying) -> list[Flying]:
        if datagram.header.type is PacketType.CHALLENGE:
            body = datagram.body[:8] + bytes(8)
            datagram = Flying(datagram.data[:28] + body, datagram.source, datagram.target)
        return [datagram]

    pair.mangle = lower
    assert pair.finish(pair.call(b"secret words", security=realm.client())) == b"secret words"
    assert not any(b"secret" in d.data for d in pair.log)
    assert code_of(pair, realm.client(SecurityLevel.CLEAR)) == RxkadCode.LEVEL_FAIL


def test_a_response_is_good_for_one_challenge() -> None:
    """Somebody who has seen a handshake plays the client's part of it again."""
    realm = Realm()
    pair = realm.pair(server=NO_REACH_CHECK)
    assert pair.finish(pair.call(b"mine", security=realm.client())) == b"mine"
    seen = [d for d in pair.log if d.source == CLIENT]
    (connection,) = pair.server._server_connections.values()
    connection.discard(pair.now, "forgotten")
    answered = len(pair.log)
    for datagram in seen:
        pair.deliver(datagram)
    pair.collect()
    aborts = [d for d in pair.log[answered:] if d.header.type is PacketType.ABORT]
    assert {int.from_bytes(d.body, "big") for d in aborts} == {RxkadCode.OUT_OF_SEQUENCE}
    assert len(pair.incoming) == 1


def test_a_response_of_another_connection() -> None:
    realm = Realm()
    pair = realm.pair(server=NO_REACH_CHECK)

    def move(datagram: Flying) -> list[Flying]:
        header = datagram.header
        moved = header._replace(cid=header.cid ^ 0x40).build() + datagram.body
        if datagram.source == CLIENT:
            return [Flying(moved, CLIENT, SERVER)]
        return [Flying(moved, SERVER, CLIENT)]

    pair.mangle = move
    assert code_of(pair, realm.client()) == RxkadCode.SEALED_INCONSISTENT


@LEVELS
@pytest.mark.parametrize("target", [CLIENT, SERVER])
def test_a_wrong_checksum_ends_the_connection(level: SecurityLevel, target: object) -> None:
    realm = Realm()
    pair = realm.pair()
    client = realm.client(level)
    assert pair.finish(pair.call(b"warm", security=client)) == b"warm"

    def mangle(datagram: Flying) -> list[Flying]:
        header = datagram.header
        if header.type is PacketType.DATA and datagram.target == target:
            data = header._replace(checksum=header.checksum ^ 0x100).build() + datagram.body
            datagram = Flying(data, datagram.source, datagram.target)
        return [datagram]

    pair.mangle = mangle
    assert code_of(pair, client) == RxkadCode.SEALED_INCONSISTENT


def test_the_better_service_is_learnt_from_a_protected_reply() -> None:
    realm = Realm()
    pair = realm.pair()
    server = realm.server()
    pair.server.services.add(ServiceEntry(SERVICE + 1, {server.index: server}))
    pair.server.services.offer_upgrade(SERVICE, SERVICE + 1)
    for request in (b"first", b"second"):
        call = pair.call(request, security=realm.client(), upgrade=True)
        assert pair.finish(call) == request
        assert pair.bundle(realm.client(), upgrade=True).service_id == SERVICE + 1
    assert {call.service_id for call in pair.incoming} == {SERVICE + 1}


def test_nothing_that_is_told_has_a_secret() -> None:
    """Neither a trace of every packet, nor a snapshot, nor an error."""
    realm = Realm()
    pair = realm.pair()
    file = io.StringIO()
    pair.client = EndpointCore(None, JsonLinesTracer(file), random.Random(8))
    client = realm.client()
    words = b"my secret words"
    assert pair.finish(pair.call(words, security=client)) == words
    told = file.getvalue() + repr(pair.client.snapshot(pair.now)) + repr(pair.bundle(client).key)
    wrong = realm.client(sealed_key=b"another!")
    with pytest.raises(CallAborted) as caught:
        pair.finish(pair.call(words, security=wrong))
    told += repr(caught.value) + "".join(traceback.format_exception(caught.value))
    assert "CHALLENGE" in told
    for secret in (SESSION_KEY, SERVICE_KEY, client._ticket, words, b"another!"):
        encoded = base64.b64encode(secret).decode()
        for shown in (secret.hex(), secret.hex(" "), repr(secret)[2:-1], encoded):
            assert shown not in told


def test_bad_handshakes_leave_nothing() -> None:
    realm = Realm()
    pair = realm.pair(server=NO_REACH_CHECK)
    wrong = realm.client(sealed_key=b"another!")
    for _ in range(300):
        assert code_of(pair, wrong, bytes(5000)) == RxkadCode.SEALED_INCONSISTENT
    pair.run_for(5.0)
    for core in (pair.client, pair.server):
        assert not core._connections
        assert not core.context.buffered
        assert not core.context.routes
    assert not pair.incoming


def test_a_new_key_of_the_service() -> None:
    """Tickets for the old one are good until they end, those for the new one at once."""
    realm = Realm()
    server = realm.server()
    pair = Pair(securities=[server])
    old = realm.client()
    fresh = Realm(realm.clock, ServiceKeys({(KVNO + 1, AES256_SHA1): bytes(32)}))
    assert pair.finish(pair.call(b"old", security=old)) == b"old"
    assert code_of(pair, fresh.client()) == RxkadCode.UNKNOWN_KEY
    server.keys = ServiceKeys(
        {(KVNO, AES256_SHA1): SERVICE_KEY, (KVNO + 1, AES256_SHA1): bytes(32)}
    )
    assert pair.finish(pair.call(b"old", security=old)) == b"old"
    other = realm.client(end=int(NOW) + 600)
    assert pair.finish(pair.call(b"old, again", security=other)) == b"old, again"
    assert pair.finish(pair.call(b"new", security=fresh.client())) == b"new"


def test_connections_are_shared_by_equal_identities_only() -> None:
    realm = Realm()
    pair = realm.pair()
    keys = [
        realm.client(),
        realm.client(SecurityLevel.AUTH),
        realm.client(session_key=b"01234567", sealed_key=b"01234567"),
        realm.client(end=int(NOW) + 7200),
    ]
    for key in keys:
        assert pair.finish(pair.call(b"mine", security=key)) == b"mine"
    assert pair.finish(pair.call(b"mine", security=realm.client())) == b"mine"
    assert len(pair.client._connections) == len(keys)
    assert len({BundleKey(SERVER, SERVICE, key) for key in [*keys, realm.client()]}) == len(keys)


@pytest.mark.parametrize("level", [SecurityLevel.AUTH, SecurityLevel.CRYPT])
def test_spoofed_replies_are_not_taken(level: SecurityLevel) -> None:
    """Somebody who knows everything but the key: 16 bits of checksum, 16 of seal, 13 of length."""
    realm = Realm()
    identity = ConnectionIdentity(0x80000001, 0x1230, SERVICE, 2)
    security = realm.client(level).connect(identity)
    coin = random.Random(5)
    sink = memoryview(bytearray(64))
    for _ in range(100_000):
        forged = bytes(28) + coin.randbytes(32)
        with pytest.raises(SecurityError):
            security.verify_into(0x1231, 1, 1, coin.getrandbits(16), forged, sink, 0)
    assert not any(sink)


@LEVELS
def test_a_service_that_wants_more_than_the_client_gives(level: SecurityLevel) -> None:
    """The challenge asks for less, so the client is let in, and its call is not."""
    realm = Realm()
    pair = Pair(securities=())
    pair.server.services.add(
        ServiceEntry(SERVICE + 1, {2: realm.server()}, level=SecurityLevel.CRYPT)
    )
    bundle = pair.client.bundle(BundleKey(SERVER, SERVICE + 1, realm.client(level), False, False))
    call = bundle.start_call(CallTimeouts(), pair.now)
    call.write(b"question")
    call.finish()
    pair.run(lambda: call.over or bool(pair.incoming))
    if level is SecurityLevel.CRYPT:
        assert pair.incoming
    else:
        assert isinstance(call.error, CallAborted)
        assert call.error.code == RxCode.INVALID_OPERATION
        assert not pair.incoming
