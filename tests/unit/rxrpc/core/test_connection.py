"""What connections of both roles share."""

from rxrpc.errors import (
    CallAborted,
    RxCode,
)
from rxrpc.trace import DropReason
from rxrpc.wire.ack import Ack, AckReason
from rxrpc.wire.control import Abort
from rxrpc.wire.packet import Header, PacketType
from tests.pair.world import (
    NO_REACH_CHECK,
    SERVER,
    SERVICE,
    Pair,
    silent,
)


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
    (answer,) = pair.log[before:]
    assert answer.source != SERVER, "the end of a reply is remembered as long as its connection"
    assert pair.client_trace.drops[DropReason.DUPLICATE] == 2
    assert pair.server_trace.drops[DropReason.OLD_CALL] == 1
    assert len(pair.incoming) == 1, "never executed again"


def test_an_abort_as_openafs_refuses_an_unknown_service() -> None:
    """Recorded: the service's number stands in the field of the checksum, the serial is 0."""
    pair = Pair(server=NO_REACH_CHECK)
    pair.mangle = lambda datagram: ()
    call = pair.call(b"question")
    pair.collect()
    sent = pair.log[0].header
    abort = sent._replace(
        seq=0, serial=0, type=PacketType.ABORT, flags=0, checksum=SERVICE, service_id=0
    )
    pair.client.receive_datagram(abort.build() + Abort(-2).build(), SERVER, pair.now)
    assert isinstance(call.error, CallAborted)
    assert call.error.code == RxCode.INVALID_OPERATION
