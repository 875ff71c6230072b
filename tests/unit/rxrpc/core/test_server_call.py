"""The server's end of a call."""

from rxrpc.core.states import CallState
from rxrpc.errors import (
    CallAborted,
)
from rxrpc.wire.packet import PacketType
from tests.pair.world import (
    CLIENT,
    NO_REACH_CHECK,
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
