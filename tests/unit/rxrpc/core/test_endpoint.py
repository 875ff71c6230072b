"""What somebody without a connection can do to an endpoint: nothing that grows or lasts."""

import random

from rxrpc.core.endpoint import EndpointCore
from rxrpc.core.events import Event, IncomingCall
from rxrpc.core.parameters import Parameters
from rxrpc.core.services import ServiceEntry
from rxrpc.security.null import NULL
from rxrpc.trace import CountingTracer, DropReason
from rxrpc.wire.ack import Ack, AckReason
from rxrpc.wire.control import Abort, Version
from rxrpc.wire.packet import Address, Header, PacketFlag, PacketType

SERVICE = 77
STRANGER: Address = ("198.51.100.7", 7001)
REQUEST = Header(
    0x80000001, 4, 1, 1, 1, PacketType.DATA,
    PacketFlag.CLIENT_INITIATED | PacketFlag.LAST_PACKET, 0, 0, 0, SERVICE,
)  # fmt: skip


class Endpoint:
    """A core with a service, and somebody who sends to it."""

    def __init__(self, parameters: Parameters | None = None) -> None:
        self.trace = CountingTracer()
        self.core = EndpointCore(parameters, self.trace, random.Random(1))
        self.core.services.add(ServiceEntry(SERVICE, {NULL.index: NULL}))
        self.now = 1000.0

    def send(
        self, header: Header, body: bytes = b"request", address: Address = STRANGER
    ) -> list[tuple[Header, bytes, Address]]:
        self.core.receive_datagram(header.build() + body, address, self.now)
        return [
            (Header.parse(data)[0], data[28:], target)
            for data, target in self.core.datagrams_to_send(self.now)
        ]

    def incoming(self) -> list[Event]:
        return [event for event in self.core.events() if isinstance(event, IncomingCall)]

    def drops(self, reason: DropReason) -> int:
        return self.trace.drops[reason]


def test_an_unknown_service_is_refused_and_leaves_nothing() -> None:
    endpoint = Endpoint()
    ((header, body, address),) = endpoint.send(REQUEST._replace(service_id=5))
    assert (header.type, header.cid, header.call_number) == (PacketType.ABORT, 4, 1)
    assert not header.from_client
    assert Abort.parse(body).code == -2
    assert address == STRANGER
    assert endpoint.send(REQUEST._replace(security_index=2))[0][0].type is PacketType.ABORT
    assert not endpoint.send(REQUEST._replace(service_id=5), b"abc"), "too short to be a call"
    assert endpoint.drops(DropReason.UNKNOWN_SERVICE) == 3
    assert not endpoint.core.statistics(endpoint.now).peers


def test_only_data_of_a_possible_call_makes_a_connection() -> None:
    endpoint = Endpoint()
    for kind in PacketType:
        if kind is not PacketType.DATA:
            endpoint.send(REQUEST._replace(type=kind, flags=0))
            if kind is not PacketType.VERSION:
                assert not endpoint.send(REQUEST._replace(type=kind))
    assert not endpoint.send(REQUEST._replace(call_number=0))
    assert not endpoint.send(REQUEST._replace(seq=0))
    assert not endpoint.send(REQUEST._replace(seq=256))
    assert not endpoint.send(REQUEST._replace(flags=0))
    statistics = endpoint.core.statistics(endpoint.now)
    assert (statistics.server_connections, statistics.peers) == (0, ())
    assert endpoint.drops(DropReason.BEYOND_WINDOW) == 2


def test_on_a_known_connection_only_data_begins_a_call() -> None:
    endpoint = Endpoint(Parameters(check_reach=False))
    endpoint.send(REQUEST)
    later = REQUEST._replace(call_number=2)
    endpoint.send(later._replace(type=PacketType.ACK), Ack(1, 0, 0, 1).build())
    assert endpoint.drops(DropReason.NO_CALL_YET) == 1
    endpoint.send(later._replace(seq=300))
    assert endpoint.drops(DropReason.BEYOND_WINDOW) == 1
    endpoint.send(later._replace(security_index=2))
    assert endpoint.drops(DropReason.WRONG_SECURITY) == 1
    endpoint.send(later._replace(service_id=78))
    assert endpoint.drops(DropReason.WRONG_SERVICE) == 1
    endpoint.send(later._replace(seq=0))
    assert endpoint.drops(DropReason.BEYOND_WINDOW) == 2
    assert len(endpoint.incoming()) == 1


def test_a_call_that_another_has_followed_is_not_run_again() -> None:
    """Be it that its packets were held up, or that somebody recorded them."""
    endpoint = Endpoint(Parameters(check_reach=False))
    for number in (3, 4):
        endpoint.send(REQUEST._replace(call_number=number))
    assert len(endpoint.incoming()) == 2
    for number in (1, 2, 3):
        assert not endpoint.send(REQUEST._replace(call_number=number))
    assert not endpoint.incoming()
    assert endpoint.drops(DropReason.OLD_CALL) == 3
    assert endpoint.core.statistics(endpoint.now).server_calls == 1


def test_an_answer_to_a_ping_has_to_know_the_ping() -> None:
    """Whoever has not seen it, since it went to the address that he pretends to have, fails."""
    endpoint = Endpoint()
    ((ping, _, _),) = endpoint.send(REQUEST)
    reply = REQUEST._replace(type=PacketType.ACK, serial=2, flags=PacketFlag.CLIENT_INITIATED)
    for serial in {*range(10), 0xFFFFFFFF} - {ping.serial}:
        endpoint.send(reply, Ack(1, 0, serial, AckReason.PING_RESPONSE).build())
    assert not endpoint.incoming()
    endpoint.send(reply, Ack(1, 0, ping.serial, AckReason.PING_RESPONSE).build())
    assert len(endpoint.incoming()) == 1


def test_questions_for_the_version_bring_no_flood() -> None:
    """The answer has 65 bytes, and the question one."""
    parameters = Parameters(answers_per_second=1000, debug_stranger_bytes=500)
    endpoint = Endpoint(parameters)
    ask, told = REQUEST._replace(type=PacketType.VERSION), 0
    for number in range(1000):
        address = (f"198.51.100.{number % 250}", 7001)
        told += sum(len(body) for _, body, _ in endpoint.send(ask, b"\0", address))
    assert 0 < told <= parameters.debug_stranger_bytes
    assert endpoint.drops(DropReason.RATE_LIMITED) > 900


def test_the_version_is_told_to_who_asks_but_not_without_end() -> None:
    endpoint = Endpoint(Parameters(answers_per_second=10, version=b"test 1.0"))
    ask = REQUEST._replace(type=PacketType.VERSION)
    ((header, body, _),) = endpoint.send(ask, b"")
    assert header.type is PacketType.VERSION
    assert not header.from_client
    assert Version.parse(body).text == b"test 1.0"
    assert not endpoint.send(header, body), "an answer is no question"
    answers = sum(len(endpoint.send(ask, b"")) for _ in range(100))
    assert answers == 9
    assert endpoint.drops(DropReason.RATE_LIMITED) == 91
    refused = sum(len(endpoint.send(REQUEST._replace(service_id=5))) for _ in range(10))
    assert refused == 0
    endpoint.now += 1.0
    assert endpoint.send(ask, b"")


def test_a_version_packet_of_somebody_known_is_a_keepalive() -> None:
    endpoint = Endpoint()
    endpoint.send(REQUEST)
    version = REQUEST._replace(type=PacketType.VERSION, flags=0)
    assert not endpoint.send(version)
    assert endpoint.drops(DropReason.UNEXPECTED) == 0
    assert not endpoint.send(version, address=("198.51.100.8", 1))
    assert endpoint.drops(DropReason.UNEXPECTED) == 1


def test_from_another_address_it_is_another_connection() -> None:
    endpoint = Endpoint(Parameters(check_reach=False))
    endpoint.send(REQUEST)
    endpoint.send(REQUEST, address=("198.51.100.8", 7001))
    statistics = endpoint.core.statistics(endpoint.now)
    assert statistics.server_connections == 2
    other = REQUEST._replace(type=PacketType.ABORT)
    assert not endpoint.send(other, Abort(1).build(), ("198.51.100.9", 7001))
    assert endpoint.drops(DropReason.UNKNOWN_CONNECTION) == 1
    assert endpoint.core.statistics(endpoint.now).active_calls == 2


def test_an_address_that_never_answers_costs_a_few_small_packets() -> None:
    endpoint = Endpoint()
    sent = endpoint.send(REQUEST)
    assert [header.type for header, _, _ in sent] == [PacketType.ACK]
    assert Ack.parse(sent[0][1]).reason == AckReason.PING
    total = 1
    for _ in range(300):
        endpoint.now = max(endpoint.now + 0.01, endpoint.core.deadline())
        if endpoint.now > 1100.0:
            break
        total += len(endpoint.core.datagrams_to_send(endpoint.now))
    assert total <= 20, "a ping each two seconds, until the call dies after twenty"
    assert not endpoint.incoming()
    assert endpoint.core.statistics(endpoint.now).server_calls == 0


def test_calls_of_addresses_that_do_not_answer_make_room_for_others() -> None:
    endpoint = Endpoint(Parameters(max_unproven_calls=10, max_server_calls=20))
    for number in range(200):
        endpoint.send(REQUEST, address=(f"198.51.{number}.1", 7001))
    assert endpoint.core.statistics(endpoint.now).server_calls == 10
    honest = ("203.0.113.1", 7001)
    sent = endpoint.send(REQUEST, address=honest)
    (ping,) = [header for header, _, target in sent if target == honest]
    answer = Ack(1, 0, ping.serial, AckReason.PING_RESPONSE).build()
    endpoint.send(REQUEST._replace(type=PacketType.ACK, serial=2), answer, honest)
    assert len(endpoint.incoming()) == 1
    for number in range(200):
        endpoint.send(REQUEST, address=(f"192.0.{number}.1", 7001))
    statistics = endpoint.core.statistics(endpoint.now)
    assert statistics.server_calls == 11, "the proven call stays"


def test_one_address_cannot_take_all_calls() -> None:
    endpoint = Endpoint(Parameters(check_reach=False, max_server_calls_per_peer=6))
    answers = []
    for number in range(10):
        answers += endpoint.send(REQUEST._replace(cid=number * 4))
    assert [header.type for header, _, _ in answers].count(PacketType.BUSY) == 4
    assert endpoint.drops(DropReason.TOO_MANY) == 4
    busy = next(header for header, _, _ in answers if header.type is PacketType.BUSY)
    assert (busy.call_number, busy.from_client) == (1, False)


def test_busy_is_not_told_without_end_either() -> None:
    endpoint = Endpoint(Parameters(max_server_calls=0, answers_per_second=5))
    answers = sum(len(endpoint.send(REQUEST)) for _ in range(20))
    assert answers == 5
    assert endpoint.drops(DropReason.TOO_MANY) == 20


def test_connections_and_peers_are_bounded() -> None:
    parameters = Parameters(
        check_reach=False, max_server_connections=20, max_peers=30, max_server_calls=1000
    )
    endpoint = Endpoint(parameters)
    for number in range(100):
        address = (f"198.51.{number}.1", 7001)
        endpoint.send(REQUEST, address=address)
        if number >= 5:
            endpoint.send(REQUEST._replace(type=PacketType.ABORT), Abort(1).build(), address)
    statistics = endpoint.core.statistics(endpoint.now)
    assert statistics.server_connections == 20
    assert len(statistics.peers) == 30
    assert statistics.server_calls == 5, "connections with a call are not thrown out"


def test_when_all_connections_are_busy_a_new_one_is_refused() -> None:
    endpoint = Endpoint(
        Parameters(check_reach=False, max_server_connections=3, max_peers=3, max_server_calls=9)
    )
    for number in range(5):
        endpoint.send(REQUEST, address=(f"198.51.{number}.1", 7001))
    statistics = endpoint.core.statistics(endpoint.now)
    assert (statistics.server_connections, len(statistics.peers)) == (3, 3)
    assert endpoint.drops(DropReason.TOO_MANY) == 2
    same_peer = REQUEST._replace(cid=400)
    endpoint.send(same_peer, address=("198.51.0.1", 7001))
    assert endpoint.drops(DropReason.TOO_MANY) == 3


def test_addresses_are_forgotten_in_time() -> None:
    endpoint = Endpoint(Parameters(check_reach=False))
    endpoint.send(REQUEST)
    for _ in range(5):
        endpoint.now += 1000.0
        endpoint.core.datagrams_to_send(endpoint.now)
    for number in range(3):
        endpoint.send(REQUEST, address=(f"203.0.113.{number}", 7001))
    addresses = [peer.address for peer in endpoint.core.statistics(endpoint.now).peers]
    assert STRANGER not in addresses


def test_stray_packets_leave_nothing() -> None:
    count = 3000
    endpoint = Endpoint()
    rng = random.Random(5)
    for _ in range(count):
        data = rng.randbytes(rng.randrange(0, 60))
        address = (f"198.51.100.{rng.randrange(256)}", rng.randrange(1, 65536))
        endpoint.core.receive_datagram(data, address, endpoint.now)
    answers = [Header.parse(d)[0] for d, _ in endpoint.core.datagrams_to_send(endpoint.now)]
    assert {header.type for header in answers} <= {PacketType.VERSION, PacketType.DEBUG}
    statistics = endpoint.core.statistics(endpoint.now)
    assert not statistics.peers
    assert sum(statistics.drops.values()) + len(answers) == count


def test_parameters_change_while_it_runs() -> None:
    endpoint = Endpoint(Parameters(check_reach=False))
    endpoint.send(REQUEST)
    core = endpoint.core
    assert core.deadline() > endpoint.now
    core.configure(
        core.parameters.changed(
            answers_per_second=2,
            version=b"new",
            send_mtu=1000,
            receive_window=99,
            max_server_calls=1,
        )
    )
    ask = REQUEST._replace(type=PacketType.VERSION)
    answers = [endpoint.send(ask, b"") for _ in range(5)]
    assert [len(answer) for answer in answers] == [1, 1, 0, 0, 0]
    assert Version.parse(answers[0][0][1]).text == b"new"
    assert core.statistics(endpoint.now).peers[0].mtu == 1000
    assert not endpoint.send(REQUEST._replace(cid=400)), "the answers were used up before"
    assert endpoint.drops(DropReason.TOO_MANY) == 1
    endpoint.now += 0.5
    acks = [Ack.parse(data[28:]) for data, _ in core.datagrams_to_send(endpoint.now)]
    assert {ack.trailer.window for ack in acks if ack.trailer} == {99}


def test_shorter_times_hold_for_what_is_idle_already() -> None:
    endpoint = Endpoint(Parameters(check_reach=False))
    endpoint.send(REQUEST)
    endpoint.send(REQUEST._replace(type=PacketType.ABORT), Abort(1).build())
    endpoint.core.configure(endpoint.core.parameters.changed(server_idle_time=5.0))
    endpoint.now += 6.0
    endpoint.core.datagrams_to_send(endpoint.now)
    assert endpoint.core.statistics(endpoint.now).server_connections == 0
