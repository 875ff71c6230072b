"""Channels, connections and bundles between two cores."""

import errno

import pytest

from rxrpc.core.clocks import CallTimeouts
from rxrpc.core.parameters import Parameters
from rxrpc.core.states import CallState
from rxrpc.errors import (
    CallAborted,
    CallBusy,
    CallTimeout,
    EndpointClosed,
    LocalError,
    NetworkError,
    RxCode,
)
from rxrpc.security.null import NULL
from rxrpc.trace import ConnectionOpened, DropReason
from rxrpc.wire.ack import Ack, AckReason
from rxrpc.wire.control import Abort
from rxrpc.wire.packet import HEADER, JUMBO, Header, PacketType
from tests.pair.world import (
    CLIENT,
    NO_REACH_CHECK,
    SERVER,
    SERVICE,
    Flying,
    Pair,
    Program,
    drop_nth,
    silent,
)


def connections_opened(pair: Pair) -> int:
    return pair.client_trace.events[ConnectionOpened]


# Channels and connections


def test_the_first_call_of_a_connection_goes_alone() -> None:
    pair = Pair()
    pair.on_server = silent
    calls = [pair.call(b"%d" % number) for number in range(40)]
    pair.collect()
    assert {d.header.cid for d in pair.wire} == {pair.wire[0].header.cid}
    assert sum(call.state is not CallState.WAITING for call in calls) == 1


def test_connections_grow_with_the_calls_up_to_a_bound() -> None:
    pair = Pair()
    calls = [pair.call(b"%d" % number) for number in range(100)]
    slow: list[Program] = []

    def answer_the_first_eight(program: Program) -> None:
        program.step()
        if program not in slow:
            slow.append(program)
        if slow.index(program) < 8 or len(slow) > 31:
            for waiting in slow:
                waiting.step()
                if waiting.call.receiving.complete and not waiting.call.over:
                    waiting.call.write(waiting.received)
                    waiting.call.finish()

    pair.on_server = answer_the_first_eight
    pair.run(lambda: all(call.over for call in calls))
    for number, call in enumerate(calls):
        pair.programs[call].step()
        assert pair.received(call) == b"%d" % number
    assert connections_opened(pair) == 8
    cids = {call.connection.cid for call in calls if call.connection}
    assert len(cids) == 8
    assert all(cid & 3 == 0 for cid in cids)


def test_waiting_calls_get_channels_in_their_order() -> None:
    pair = Pair(Parameters(max_connections_per_bundle=1))
    calls = [pair.call(b"%d" % number) for number in range(12)]
    pair.run(lambda: all(call.over for call in calls))
    started = [bytes(pair.programs[call].received) for call in pair.incoming]
    assert sorted(started, key=int) == [b"%d" % number for number in range(12)]
    assert started[0] == b"0"
    assert {int(started[i]) for i in range(1, 5)} == {1, 2, 3, 4}
    assert {call.channel for call in calls} == {0, 1, 2, 3}


def test_too_many_waiting_calls_are_refused_at_once() -> None:
    pair = Pair(Parameters(max_waiting_calls=3))
    for _ in range(4):
        pair.call()
    with pytest.raises(CallBusy):
        pair.call()


def test_a_slow_first_call_holds_others_up_for_a_second_only() -> None:
    pair = Pair()
    pair.on_server = silent
    calls = [pair.call(b"%d" % number) for number in range(8)]
    pair.run_for(0.9)
    assert len(pair.incoming) == 1
    pair.run_for(0.2)
    assert len(pair.incoming) == 5, "three on the first connection, one on a new one"
    pair.run_for(1.0)
    assert len(pair.incoming) == 8
    assert {call.connection for call in calls} == set(pair.bundle().connections)


def test_a_waiting_call_can_be_aborted_and_times_out() -> None:
    pair = Pair(Parameters(max_connections_per_bundle=1, introduction_time=100.0))
    pair.on_server = silent
    first = pair.call(b"first")
    waiting = pair.call(b"second")
    hard = pair.call(b"third", timeouts=CallTimeouts(hard=5.0))
    pair.mangle = lambda datagram: ()
    assert waiting.state is CallState.WAITING
    waiting.abort(-6, pair.now)
    assert waiting.over
    assert waiting not in pair.bundle().waiting
    connect = pair.call(b"fourth", timeouts=CallTimeouts(dead=3.0))
    pair.run_for(6.0)
    assert isinstance(connect.error, CallTimeout)
    assert connect.error.what == "connect"
    assert isinstance(hard.error, CallTimeout)
    assert hard.error.what == "hard"
    assert not first.over


def test_a_waiting_call_lives_while_the_peer_does() -> None:
    pair = Pair(Parameters(max_connections_per_bundle=1))
    pair.on_server = silent
    for _ in range(4):
        pair.call(b"slow")
    waiting = pair.call(b"patient")
    pair.run_for(100.0)
    assert waiting.state is CallState.WAITING


def test_idle_connections_are_forgotten_on_both_sides() -> None:
    pair = Pair()
    pair.finish(pair.call(b"once"))
    pair.run_for(119.0)
    assert pair.client.statistics(pair.now).client_connections == 1
    pair.run_for(5.0)
    assert pair.client.statistics(pair.now).client_connections == 0
    assert pair.server.statistics(pair.now).server_connections == 1
    pair.run_for(700.0)
    assert pair.server.statistics(pair.now).server_connections == 0
    assert not pair.server.context.routes
    assert not pair.client.context.routes
    assert pair.finish(pair.call(b"again")) == b"again"


def test_a_connection_abort_ends_all_its_calls_and_the_next_goes_elsewhere() -> None:
    pair = Pair()
    pair.finish(pair.call(b"warm"))
    pair.on_server = silent
    calls = [pair.call(b"%d" % number) for number in range(3)]
    pair.run(lambda: len(pair.incoming) == 4)
    connection = calls[0].connection
    assert connection is not None
    assert all(call.connection is connection for call in calls)
    header = Header(connection.epoch, connection.cid, 0, 0, 9, PacketType.ABORT, 0, 0, 0, 0, 77)
    pair.client.receive_datagram(header.build() + b"\0", SERVER, pair.now)
    assert pair.client_trace.drops[DropReason.MALFORMED] == 1
    pair.client.receive_datagram(header.build() + Abort(-100).build(), SERVER, pair.now)
    for call in calls:
        assert isinstance(call.error, CallAborted)
        assert (call.error.code, call.error.remote) == (RxCode.RESTARTING, True)
    pair.collect()
    fresh = pair.call(b"fresh")
    assert fresh.connection is not connection


def test_epoch_and_cid_look_as_openafs_makes_them() -> None:
    pair = Pair()
    assert pair.client.epoch & 0xC000_0000 == 0x8000_0000
    other = Pair(seed=5)
    assert pair.client.epoch != other.client.epoch


def test_cids_wrap() -> None:
    pair = Pair()
    pair.client._next_cid = 0xFFFF_FFFC
    pair.finish(pair.call(b"last cid"))
    for connection in list(pair.bundle().connections):
        connection.abort(-6, pair.now)
    pair.finish(pair.call(b"first cid"))
    assert pair.bundle().connections[0].cid == 0
    pair.client._next_cid = 0
    pair.on_server = silent
    for _ in range(5):
        pair.call(b"more than four")
    assert [connection.cid for connection in pair.bundle().connections] == [0, 4]


def test_serials_wrap_without_zero() -> None:
    pair = Pair(server=NO_REACH_CHECK)
    pair.finish(pair.call(b"warm"))
    pair.bundle().connections[0]._serial = 0xFFFF_FFF0
    for server_connection in pair.server._server_connections.values():
        server_connection._serial = 0xFFFF_FFF8
    before = len(pair.log)
    request = bytes(100_000)
    assert pair.finish(pair.call(request)) == request
    serials = [d.header.serial for d in pair.log[before:]]
    assert 0 not in serials
    assert any(serial > 0xFFFF_FF00 for serial in serials)
    assert any(serial < 0x100 for serial in serials)


# What late packets meet


def test_late_duplicates_are_answered_for_two_seconds() -> None:
    pair = Pair(server=NO_REACH_CHECK)
    pair.finish(pair.call(b"question"))
    reply = next(d for d in pair.log if d.source == SERVER and d.header.type is PacketType.DATA)
    request = pair.log[0]
    pair.run_for(1.0)
    before = len(pair.log)
    pair.deliver(reply)
    pair.deliver(request)
    pair.collect()
    answers = [Ack.parse(d.body).reason for d in pair.log[before:]]
    assert answers == [AckReason.DUPLICATE, AckReason.DUPLICATE]
    pair.run_for(2.0)
    before = len(pair.log)
    pair.deliver(reply)
    pair.deliver(request)
    pair.collect()
    assert len(pair.log) == before
    assert pair.client_trace.drops[DropReason.UNKNOWN_CALL] == 1
    assert pair.server_trace.drops[DropReason.OLD_CALL] == 1
    assert len(pair.incoming) == 1, "never executed again"


def test_packets_of_an_earlier_call_are_dropped() -> None:
    pair = Pair(server=NO_REACH_CHECK)
    pair.finish(pair.call(b"one"))
    old = list(pair.log)
    pair.finish(pair.call(b"two"))
    for datagram in old:
        pair.deliver(datagram)
    assert pair.client_trace.drops[DropReason.OLD_CALL] == 1
    assert pair.server_trace.drops[DropReason.OLD_CALL] == 2
    assert len(pair.incoming) == 2


def test_the_next_call_confirms_the_last_one() -> None:
    pair = Pair(server=NO_REACH_CHECK)
    pair.mangle = lambda d: () if d.source == CLIENT and d.header.type is PacketType.ACK else (d,)
    first = pair.call(b"one")
    pair.finish(first)
    served = pair.incoming[0]
    assert not served.over
    pair.finish(pair.call(b"two"))
    assert served.state is CallState.COMPLETE


def test_a_client_that_moves_on_ends_the_call_at_the_server() -> None:
    pair = Pair(server=NO_REACH_CHECK)
    pair.finish(pair.call(b"warm"))
    pair.on_server = silent
    first = [pair.call(b"%d" % number) for number in range(4)][3]
    pair.run(lambda: len(pair.incoming) == 5)
    pair.mangle = lambda d: () if d.header.type is PacketType.ABORT else (d,)
    first.abort(-6, pair.now)
    pair.collect()
    second = pair.call(b"two")
    assert (second.channel, second.number) == (first.channel, first.number + 1)
    pair.run(lambda: len(pair.incoming) == 6)
    (error,) = [call.error for call in pair.incoming if call.error]
    assert isinstance(error, CallAborted)
    assert error.remote


def test_a_failed_call_answers_late_packets_with_its_abort_once_a_batch() -> None:
    pair = Pair(server=NO_REACH_CHECK)
    pair.on_server = silent
    call = pair.call(b"one")
    pair.run(lambda: len(pair.incoming) == 1)
    call.abort(-6, pair.now)
    pair.collect()
    connection = call.connection
    assert connection is not None
    pair.wire.clear()
    cid = connection.cid | call.channel
    data = HEADER.pack(connection.epoch, cid, call.number, 1, 5, 1, 0, 0, 0, 0, SERVICE)
    ping = HEADER.pack(connection.epoch, cid, call.number, 0, 6, 2, 2, 0, 0, 0, SERVICE)
    pair.client.receive_datagram(data + b"x", SERVER, pair.now)
    pair.client.receive_datagram(ping + Ack(1, 0, 0, 6).build(), SERVER, pair.now)
    pair.collect()
    assert [d.header.type for d in pair.wire] == [PacketType.ABORT]
    busy = HEADER.pack(connection.epoch, cid, call.number, 0, 7, 3, 0, 0, 0, 0, SERVICE)
    pair.client.receive_datagram(busy, SERVER, pair.now)
    assert pair.client_trace.drops[DropReason.WRONG_STATE] == 1


# BUSY


def test_busy_means_again_later() -> None:
    pair = Pair(server=Parameters(max_server_calls=2, check_reach=False))
    pair.on_server = silent
    other = Pair(seed=99)
    for _ in range(2):
        other.call(b"fill")
        other.collect()
        for datagram in other.wire:
            pair.server.receive_datagram(datagram.data, ("198.51.100.7", 7001), pair.now)
        other = Pair(seed=100)
    pair.collect()
    assert pair.server.admission.calls == 2
    call = pair.call(b"question")
    pair.run_for(1.0)
    assert not call.over
    assert len([d for d in pair.log if d.header.type is PacketType.BUSY]) > 3
    for filler in list(pair.incoming):
        filler.abort(1, pair.now)

    def answer(program: Program) -> None:
        program.call.write(b"at last")
        program.call.finish()

    pair.on_server = answer
    assert pair.finish(call) == b"at last"


def test_nothing_but_busy_ends_the_call() -> None:
    pair = Pair(server=Parameters(max_server_calls=0))
    start = pair.now
    with pytest.raises(CallBusy):
        pair.finish(pair.call(b"question"))
    assert pair.now - start == pytest.approx(15.0, abs=1.1)


def test_busy_after_an_ack_is_ignored() -> None:
    pair = Pair(server=NO_REACH_CHECK)
    pair.on_server = silent
    call = pair.call(bytes(60_000), finish=False)
    pair.run(lambda: not call.sending.untouched)
    connection = call.connection
    assert connection is not None
    before = call.sending.next_timer()
    cid = connection.cid | call.channel
    busy = HEADER.pack(connection.epoch, cid, call.number, 0, 7, 3, 0, 0, 0, 0, SERVICE)
    pair.client.receive_datagram(busy, SERVER, pair.now)
    assert call.sending.next_timer() == before
    assert not call.over


# Errors of the network


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


# The end


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
        pair.server.add_service(SERVICE, [NULL])


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
