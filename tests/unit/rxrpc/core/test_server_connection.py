"""Connections with a security class that challenges, encrypts and pads."""

import pytest

from rxrpc.core.parameters import Parameters
from rxrpc.errors import CallAborted, CallTimeout, SecurityError
from rxrpc.security.base import ConnectionIdentity
from rxrpc.security.null import NULL
from rxrpc.trace import DropReason
from rxrpc.wire.packet import PacketType
from tests.pair.toy_security import BAD_PACKET, BAD_RESPONSE, ToyClient, ToyConnection, ToyServer
from tests.pair.world import SERVER, Flying, Pair, drop_nth

REQUEST = bytes(range(256)) * 50


def kinds(pair: Pair) -> list[PacketType]:
    return [datagram.header.type for datagram in pair.log]


def test_the_client_proves_itself_once_a_connection() -> None:
    server = ToyServer()
    pair = Pair(securities=[NULL, server])
    assert pair.finish(pair.call(REQUEST, security=ToyClient())) == REQUEST
    assert kinds(pair).count(PacketType.CHALLENGE) == 1
    assert server.connections[0].seen_numbers == (1, 0, 0, 0)
    assert pair.finish(pair.call(REQUEST, security=ToyClient())) == REQUEST
    assert kinds(pair).count(PacketType.CHALLENGE) == 1
    assert pair.incoming[0].security is server.connections[0]
    plain = pair.finish(pair.call(b"plain"))
    assert plain == b"plain"
    assert len({d.header.security_index for d in pair.log}) == 2


def test_nothing_of_the_payload_is_seen() -> None:
    pair = Pair(securities=[ToyServer()])
    pair.finish(pair.call(b"very secret indeed", security=ToyClient()))
    assert not any(b"secret" in d.data for d in pair.log)
    data = [d for d in pair.log if d.header.type is PacketType.DATA]
    assert all(d.header.checksum for d in data)
    assert all(len(d.body) % 8 == 0 for d in data)
    assert max(len(d.data) for d in pair.log) <= 1444


@pytest.mark.parametrize("kind", [PacketType.CHALLENGE, PacketType.RESPONSE])
def test_a_lost_handshake_is_repeated(kind: PacketType) -> None:
    pair = Pair(securities=[ToyServer()])
    pair.mangle = drop_nth(1, 2, where=lambda d: d.header.type is kind)
    assert pair.finish(pair.call(REQUEST, security=ToyClient())) == REQUEST


def test_the_wrong_key_ends_the_connection() -> None:
    pair = Pair(securities=[ToyServer()])
    with pytest.raises(CallAborted) as caught:
        pair.finish(pair.call(REQUEST, security=ToyClient(key=b"guess")))
    assert caught.value.code in (BAD_PACKET, BAD_RESPONSE)
    assert not pair.incoming
    assert pair.client.statistics(pair.now).client_connections == 0


def test_a_client_that_never_responds_is_given_up() -> None:
    pair = Pair(securities=[ToyServer()], server=Parameters(max_challenges=3))
    pair.mangle = lambda d: () if d.header.type is PacketType.RESPONSE else (d,)
    with pytest.raises((CallAborted, CallTimeout)):
        pair.finish(pair.call(REQUEST, security=ToyClient()))
    assert kinds(pair).count(PacketType.CHALLENGE) == 3
    assert not pair.incoming
    assert pair.server.admission.calls == 0


def test_a_tampered_packet_ends_the_connection() -> None:
    pair = Pair(securities=[ToyServer()])
    pair.finish(pair.call(b"first", security=ToyClient()))

    def flip(datagram: Flying) -> list[Flying]:
        if datagram.source == SERVER and datagram.header.type is PacketType.DATA:
            datagram.data = datagram.data[:-1] + bytes([datagram.data[-1] ^ 1])
        return [datagram]

    pair.mangle = flip
    with pytest.raises(CallAborted) as caught:
        pair.finish(pair.call(b"second", security=ToyClient()))
    assert (caught.value.code, caught.value.remote) == (BAD_PACKET, False)
    assert pair.client_trace.drops[DropReason.INSECURE] == 1


def test_challenges_and_responses_out_of_place_are_dropped() -> None:
    pair = Pair(securities=[NULL, ToyServer()])
    pair.finish(pair.call(b"plain"))
    challenge = pair.log[-1].header._replace(
        type=PacketType.CHALLENGE, call_number=0, flags=0, seq=0
    )
    for header in (challenge, challenge._replace(type=PacketType.PARAMS)):
        pair.client.receive_datagram(header.build() + b"who?", SERVER, pair.now)
    assert pair.client_trace.drops[DropReason.UNEXPECTED] == 1
    assert pair.client_trace.drops[DropReason.UNSUPPORTED] == 1
    response = challenge._replace(type=PacketType.RESPONSE, flags=1)
    pair.deliver(Flying(response.build() + b"me", pair.log[0].source, SERVER))
    assert pair.server_trace.drops[DropReason.UNEXPECTED] == 1
    at_server = challenge._replace(flags=1)
    pair.deliver(Flying(at_server.build(), pair.log[0].source, SERVER))
    assert pair.server_trace.drops[DropReason.UNEXPECTED] == 2
    back = response._replace(flags=0)
    pair.client.receive_datagram(back.build(), SERVER, pair.now)
    assert pair.client_trace.drops[DropReason.UNEXPECTED] == 2
    assert pair.finish(pair.call(b"plain still works")) == b"plain still works"


def test_a_second_response_and_an_insulting_challenge() -> None:
    pair = Pair(securities=[ToyServer()])
    call = pair.call(b"hello", security=ToyClient())
    pair.finish(call)
    (response,) = [d for d in pair.log if d.header.type is PacketType.RESPONSE]
    pair.deliver(response)
    assert pair.server_trace.drops[DropReason.UNEXPECTED] == 1
    second = pair.call(b"again", security=ToyClient())
    pair.collect()
    (challenge,) = [d for d in pair.log if d.header.type is PacketType.CHALLENGE]
    pair.client.receive_datagram(challenge.data[:28] + b"insult", SERVER, pair.now)
    assert isinstance(second.error, CallAborted)
    assert second.error.code == BAD_RESPONSE


def test_a_server_that_cannot_challenge_ends_the_connection() -> None:
    class Broken(ToyServer):
        def accept(self, identity: ConnectionIdentity) -> ToyConnection:
            connection = super().accept(identity)

            def challenge() -> bytes:
                raise SecurityError(BAD_PACKET, "no random numbers left")

            connection.challenge = challenge  # type: ignore[method-assign]
            return connection

    pair = Pair(securities=[Broken()])
    with pytest.raises(CallAborted) as caught:
        pair.finish(pair.call(b"hello", security=ToyClient()))
    assert (caught.value.code, caught.value.remote) == (BAD_PACKET, True)


def test_a_response_does_not_make_calls_old_that_are_under_way() -> None:
    """Two calls begin on a new connection, and the first packet of one is lost."""
    pair = Pair(Parameters(introduction_time=0.0), securities=[ToyServer()])
    first = pair.call(b"first", security=ToyClient())
    pair.bundle(ToyClient()).connections[0].answered = True
    second = pair.call(b"second", security=ToyClient())
    assert second.connection is first.connection
    pair.mangle = drop_nth(2)
    assert pair.finish(first) == b"first"
    assert pair.finish(second) == b"second"


def test_a_wrong_response_is_told() -> None:
    pair = Pair(securities=[ToyServer()])
    pair.call(b"hello", security=ToyClient())

    def forge(datagram: Flying) -> list[Flying]:
        if datagram.header.type is PacketType.RESPONSE:
            datagram.data = datagram.data[:28] + bytes(48)
        return [datagram]

    pair.mangle = forge
    pair.run_for(1.0)
    assert pair.server_trace.drops[DropReason.INSECURE] == 1
    assert pair.server.statistics(pair.now).server_connections == 0
