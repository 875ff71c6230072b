"""Errors of the network, the end, and everything at once, between two cores."""

import errno

import pytest

from rxrpc.core.clocks import CallTimeouts
from rxrpc.core.parameters import Parameters
from rxrpc.core.services import ServiceEntry
from rxrpc.errors import (
    CallAborted,
    CallTimeout,
    EndpointClosed,
    LocalError,
    NetworkError,
    RxCode,
)
from rxrpc.security.null import NULL
from rxrpc.trace import DropReason
from rxrpc.wire.packet import JUMBO, PacketType
from tests.pair.world import (
    CLIENT,
    NO_REACH_CHECK,
    SERVER,
    SERVICE,
    Flying,
    Pair,
    drop_nth,
    echo,
    silent,
)


def test_a_refusal_fails_the_calls_of_that_peer_at_once() -> None:
    pair = Pair()
    pair.on_server = silent
    pair.mangle = lambda d: () if d.target == SERVER else (d,)
    call = pair.call(b"question")
    waiting = pair.call(b"another")
    pair.collect()
    pair.client.network_error(("198.51.100.1", 7000), errno.ECONNREFUSED, pair.now)
    assert not call.over
    pair.client.network_error(SERVER, errno.ECONNREFUSED, pair.now)
    assert isinstance(call.error, NetworkError)
    assert call.error.errno == errno.ECONNREFUSED
    pair.client.network_error(SERVER, errno.EHOSTUNREACH, pair.now)
    assert isinstance(waiting.error, NetworkError)


def test_a_refusal_right_after_a_packet_of_the_peer_is_not_believed() -> None:
    pair = Pair(server=NO_REACH_CHECK)
    pair.finish(pair.call(b"warm"))
    call = pair.call(b"question")
    pair.client.network_error(SERVER, errno.ECONNREFUSED, pair.now)
    assert pair.finish(call) == b"question"
    pair.run_for(1.0)
    second = pair.call(b"again")
    pair.client.network_error(SERVER, errno.ECONNREFUSED, pair.now)
    assert isinstance(second.error, NetworkError)


def test_packets_that_are_too_large_are_sent_again_and_later_ones_are_smaller() -> None:
    pair = Pair(server=NO_REACH_CHECK)
    narrow = True
    pair.mangle = lambda d: () if narrow and len(d.data) > 1200 else (d,)
    call = pair.call(bytes(20_000))
    pair.collect()
    pair.client.network_error(SERVER, errno.EMSGSIZE, pair.now, mtu=1200)
    narrow = False  # the kernel fragments from now on
    start = pair.now
    assert pair.finish(call) == bytes(20_000)
    assert pair.now - start < 0.5
    before = len(pair.log)
    pair.finish(pair.call(bytes(20_000)))
    sizes = [len(d.data) for d in pair.log[before:] if d.source == CLIENT]
    assert max(sizes) == 1200
    pair.client.network_error(SERVER, errno.EMSGSIZE, pair.now)
    pair.client.network_error(SERVER, errno.EMSGSIZE, pair.now, mtu=1300)


def test_closing_fails_everything_and_tells_the_peers() -> None:
    pair = Pair()
    pair.finish(pair.call(b"warm"))
    pair.on_server = silent
    calls = [pair.call(b"%d" % number) for number in range(6)]
    pair.run(lambda: len(pair.incoming) >= 4)
    pair.client.close(pair.now)
    assert all(isinstance(call.error, EndpointClosed) for call in calls)
    pair.run(lambda: all(call.over for call in pair.incoming))
    codes = {call.error.code for call in pair.incoming if isinstance(call.error, CallAborted)}
    assert codes == {RxCode.USER_ABORT}


def test_a_closing_server_says_that_it_restarts() -> None:
    pair = Pair()
    pair.on_server = silent
    call = pair.call(b"question")
    pair.run(lambda: bool(pair.incoming))
    pair.server.close(pair.now)
    with pytest.raises(CallAborted) as caught:
        pair.finish(call)
    assert caught.value.code == RxCode.RESTARTING


def test_a_service_is_added_once() -> None:
    pair = Pair()
    with pytest.raises(LocalError):
        pair.server.services.add(ServiceEntry(SERVICE, {NULL.index: NULL}))


def test_nat_keepalives_go_on_after_the_last_call() -> None:
    pair = Pair(Parameters(nat_interval=20.0, nat_time=100.0))
    pair.finish(pair.call(b"once"))
    pair.run_for(200.0)
    versions = [d for d in pair.log if d.header.type is PacketType.VERSION]
    assert 4 <= len(versions) <= 5
    assert not any(d.source == SERVER for d in versions)


def test_lost_and_doubled_in_both_directions_still_execute_once() -> None:
    pair = Pair()
    count = 0

    def mangle(datagram: Flying) -> list[Flying]:
        nonlocal count
        count += 1
        return [] if count % 3 == 0 else [datagram, datagram]

    pair.mangle = mangle
    for number in range(10):
        request = bytes([number]) * 5000
        assert pair.finish(pair.call(request)) == request
    assert len(pair.incoming) == 10


def test_jumbo_datagrams_are_taken_apart() -> None:
    pair = Pair(Parameters(send_mtu=1440), NO_REACH_CHECK)
    call = pair.call(bytes(range(256)) * 30)
    pair.collect()
    first, second, third, *rest = pair.wire
    header = first.header._replace(flags=first.header.flags | JUMBO)
    body = first.body
    for datagram, more in ((second, JUMBO), (third, 0)):
        body += bytes([datagram.header.flags | more, 0, 0, 0]) + datagram.body
    pair.wire = [Flying(header.build() + body, CLIENT, SERVER), *rest]
    assert pair.finish(call) == bytes(range(256)) * 30
    assert not pair.server_trace.drops
    bad = Flying(header.build() + body[:1400], CLIENT, SERVER)
    pair.call(b"next")
    pair.collect()
    pair.deliver(bad)
    assert pair.server_trace.drops[DropReason.MALFORMED] == 1


@pytest.mark.parametrize("lost", [1, 2, 3])
def test_acks_may_be_lost(lost: int) -> None:
    pair = Pair()
    pair.mangle = drop_nth(lost, where=lambda d: d.header.type is PacketType.ACK)
    assert pair.finish(pair.call(bytes(50_000))) == bytes(50_000)


def test_connections_are_made_anew_when_our_address_is_another_one() -> None:
    pair = Pair(server=NO_REACH_CHECK)
    seen: list[bytes] = []

    def note(flying: Flying) -> tuple[Flying, ...]:
        if flying.target == SERVER:
            seen.append(flying.data[4:8])  # the connection's number
        return (flying,)

    pair.mangle = note
    pair.finish(pair.call(b"warm"))
    before = set(seen)
    pair.on_server = silent
    under_way = pair.call(b"lost")
    pair.run_for(0.1)
    pair.client.reconnect(pair.now)
    assert isinstance(under_way.error, CallTimeout)
    assert under_way.error.what == "reconnect"
    pair.run_for(1.0)
    seen.clear()
    pair.on_server = echo
    assert pair.finish(pair.call(b"again")) == b"again"
    assert before.isdisjoint(seen)


def connections(datagrams: list[Flying]) -> set[int]:
    """Which connections they belong to."""
    return {datagram.header.cid & ~3 for datagram in datagrams}


@pytest.mark.parametrize(
    ("timeouts", "begun"),
    [
        (CallTimeouts(dead=20.0), False),
        (CallTimeouts(dead=20.0), True),
        (CallTimeouts(dead=3.0, hard=3.0), False),
    ],
)
def test_after_silence_a_new_connection_is_tried(timeouts: CallTimeouts, begun: bool) -> None:
    """A NAT gave us another port: what the server answers goes where the connection began."""
    pair = Pair(server=NO_REACH_CHECK)
    pair.finish(pair.call(b"warm"))
    lost = connections(pair.log)

    def mislead(flying: Flying) -> tuple[Flying, ...]:
        return () if flying.target == CLIENT and connections([flying]) <= lost else (flying,)

    pair.on_server = silent
    call = pair.call(b"lost", timeouts=timeouts)
    if begun:
        pair.run_for(1.0)  # the server acknowledges the request meanwhile
    pair.mangle = mislead
    pair.run(lambda: call.over)
    assert isinstance(call.error, CallTimeout)
    pair.on_server = echo
    assert pair.finish(pair.call(b"again"), limit=5.0) == b"again"
    pair.run_for(pair.client.parameters.client_idle_time + 60.0)
    assert pair.client.statistics(pair.now).client_connections == 0, "nothing is left of either"


def test_a_call_that_only_took_long_costs_no_connection() -> None:
    pair = Pair(server=NO_REACH_CHECK)
    pair.on_server = silent
    call = pair.call(b"slow", timeouts=CallTimeouts(hard=10.0))
    pair.run(lambda: call.over)
    assert isinstance(call.error, CallTimeout)
    pair.on_server = echo
    assert pair.finish(pair.call(b"again")) == b"again"
    assert len(connections(pair.log)) == 1
