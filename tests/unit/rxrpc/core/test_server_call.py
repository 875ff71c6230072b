"""The server's end of a call."""

import pytest

from rxrpc.core.client_call import ClientCall
from rxrpc.core.events import IncomingCall
from rxrpc.core.parameters import Parameters
from rxrpc.core.server_call import ServerCall
from rxrpc.core.services import ServiceEntry
from rxrpc.core.states import CallState
from rxrpc.errors import CallAborted, RxCode
from rxrpc.security.base import SecurityLevel
from rxrpc.security.null import NULL
from rxrpc.wire.ack import Ack
from rxrpc.wire.packet import HEADER, LAST_PACKET, PacketType
from tests.pair.toy_security import ToyClient, ToyServer
from tests.pair.world import (
    CLIENT,
    NO_REACH_CHECK,
    SERVICE,
    Pair,
    silent,
)


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


def begin(pair: Pair, request: bytes, *, finish: bool = True) -> tuple[ClientCall, ServerCall]:
    """A call of which nobody has read anything yet."""
    client = pair.call(request, finish=finish)
    pair.collect()
    pair.flush()
    event = pair.server.events()[0]
    assert isinstance(event, IncomingCall)
    return client, event.call


def test_what_comes_of_a_request_after_its_reply_is_thrown_away_and_acknowledged() -> None:
    """OpenAFS's client writes on until it reads: it must neither stall nor fill our memory."""
    pair = Pair(server=NO_REACH_CHECK)
    pair.on_server = silent
    client, call = begin(pair, bytes(3 * 1416), finish=False)
    assert pair.server.context.buffered == 2
    call.write(b"early")
    call.finish()
    assert (call.state, call.cut) == (CallState.REPLYING, True)
    assert pair.server.context.buffered == 0
    connection = client.connection
    assert connection is not None
    for seq in range(3, 200):
        header = HEADER.pack(
            connection.epoch, connection.cid | client.channel, client.number, seq, seq + 10,
            PacketType.DATA, LAST_PACKET | 1 if seq == 199 else 1, 0, 0, 0, SERVICE,
        )  # fmt: skip
        pair.server.receive_datagram(header + bytes(1416), CLIENT, pair.now)
        assert pair.server.context.buffered == 0
    pair.wire.clear()
    pair.run_for(1.0)
    acks = [Ack.parse(d.body) for d in pair.log if d.header.type is PacketType.ACK]
    assert max(ack.first for ack in acks) == 200
    assert client.over


def test_a_reply_behind_a_whole_request_leaves_what_is_to_be_read() -> None:
    pair = Pair(server=NO_REACH_CHECK)
    _client, call = begin(pair, b"the request")
    call.write(b"first part")
    assert not call.cut
    assert b"".join(call.receiving.take_unread()) == b"the request"


def test_the_final_ack_is_known() -> None:
    pair = Pair(server=NO_REACH_CHECK)
    client = pair.call(b"question")
    pair.run(lambda: client.over)
    call = pair.incoming[0]
    assert not call.confirmed
    pair.run(lambda: call.over)
    assert call.confirmed


@pytest.mark.parametrize("level", [SecurityLevel.AUTH, SecurityLevel.CRYPT])
def test_a_service_demands_a_level(level: SecurityLevel) -> None:
    pair = Pair()
    securities = {each.index: each for each in (NULL, ToyServer())}
    entry = ServiceEntry(SERVICE, securities, level)
    pair.server.services._entries[SERVICE] = entry
    with pytest.raises(CallAborted) as caught:
        pair.finish(pair.call(b"plain"))
    assert (caught.value.code, caught.value.remote) == (RxCode.INVALID_OPERATION, True)
    assert not pair.incoming, "its service never hears of it"
    assert pair.finish(pair.call(b"secret", security=ToyClient())) == b"secret"
    assert entry.calls == 1
    pair.incoming[0].release()
    pair.incoming[0].release()
    assert entry.calls == 0


def test_no_more_calls_than_a_service_has_room_for() -> None:
    pair = Pair(server=NO_REACH_CHECK, client=Parameters(introduction_time=0.0))
    pair.on_server = silent
    entry = pair.server.services._entries[SERVICE]
    entry.limit = 2
    calls = [pair.call(b"%d" % number) for number in range(3)]
    pair.run_for(1.0)
    assert len(pair.incoming) == entry.calls == 2
    assert any(d.header.type is PacketType.BUSY for d in pair.log)
    pair.incoming[0].abort(99, pair.now)
    pair.run_for(1.0)
    assert len(pair.incoming) == 2, "its handler may still be at it"
    pair.incoming[0].release()
    pair.run_for(2.0)
    assert len(pair.incoming) == 3
    assert sum(call.over for call in calls) == 1
