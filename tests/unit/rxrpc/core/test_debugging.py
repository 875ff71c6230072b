"""DEBUG questions: what is told, to whom, and how much of it at most."""

import random
from dataclasses import replace

import pytest

from rxrpc.core.endpoint import EndpointCore
from rxrpc.core.parameters import Parameters
from rxrpc.trace import CountingTracer, DropReason
from rxrpc.wire.debug import (
    BAD_QUESTION,
    LARGEST_ANSWER,
    VERSION,
    BasicAnswer,
    CallFlag,
    CallMode,
    CallQueue,
    CallStage,
    ConnectionAnswer,
    ConnectionFlag,
    DebugQuestion,
    DebugRequest,
    PeerAnswer,
    SecurityKind,
    StatisticsAnswer,
)
from rxrpc.wire.packet import Address, Header, PacketFlag, PacketType
from tests.pair.toy_security import TOY_INDEX, ToyClient, ToyServer
from tests.pair.world import CLIENT, NO_REACH_CHECK, SERVER, Pair, silent

LOCAL: Address = ("127.0.0.1", 40000)
STRANGER: Address = ("198.51.100.7", 40000)
QUESTION = Header(
    999, 0, 101, 0, 0, PacketType.DEBUG, PacketFlag.CLIENT_INITIATED | PacketFlag.LAST_PACKET,
    0, 0, 0, 0,
)  # fmt: skip


def ask(
    core: EndpointCore,
    question: int,
    index: int = 0,
    *,
    now: float,
    source: Address = LOCAL,
    pad: int = 0,
) -> bytes | None:
    """The answer's body, or None; whatever else goes out is ignored."""
    request = DebugRequest(question, index).build(pad)
    core.receive_datagram(QUESTION.build() + request, source, now)
    for data, target in core.datagrams_to_send(now):
        header, body = Header.parse(data)
        if header.type is PacketType.DEBUG:
            assert target == source
            assert header.call_number == QUESTION.call_number
            assert not header.from_client
            return bytes(body)
    return None


def busy_pair() -> Pair:
    """A server with a call that is over and one that its service works on."""
    pair = Pair(server=NO_REACH_CHECK)
    pair.finish(pair.call(b"warm"))
    pair.on_server = silent
    pair.call(b"question")
    pair.run(lambda: len(pair.incoming) == 2)
    return pair


def server_connection(pair: Pair, **options: object) -> ConnectionAnswer:
    body = ask(pair.server, DebugQuestion.CONNECTION, now=pair.now, **options)  # type: ignore[arg-type]
    assert body is not None
    return ConnectionAnswer.parse(body)


def test_the_basics() -> None:
    pair = busy_pair()
    body = ask(pair.server, DebugQuestion.BASIC, now=pair.now)
    assert body is not None
    basic = BasicAnswer.parse(body)
    assert basic.version == VERSION
    assert (basic.calls, basic.waiting) == (2, 0)
    assert basic.idle == Parameters().max_server_calls - 1


def test_connections_of_both_roles_to_their_end() -> None:
    pair = busy_pair()
    mine = server_connection(pair)
    assert mine.address == CLIENT
    assert mine.is_server
    assert mine.call_numbers[0] == 2
    assert mine.stages == (CallStage.ACTIVE, 0, 0, 0)
    assert mine.modes[0] == CallMode.RECEIVING
    assert mine.call_flags[0] == CallFlag.RECEIVE_DONE
    assert mine.security.kind == SecurityKind.NULL
    body = ask(pair.client, DebugQuestion.CONNECTION, now=pair.now)
    assert body is not None
    other = ConnectionAnswer.parse(body)
    assert (other.address, other.is_server) == (SERVER, 0)
    assert (other.epoch, other.cid) == (mine.epoch, mine.cid)
    assert other.modes[0] in (CallMode.SENDING, CallMode.RECEIVING)
    for index in (1, 2**31 - 1):
        body = ask(pair.server, DebugQuestion.CONNECTION, index, now=pair.now)
        assert body is not None
        assert ConnectionAnswer.parse(body).is_end
    body = ask(pair.server, DebugQuestion.CONNECTION, -5, now=pair.now)
    assert body == mine.build()


def test_idle_connections_are_not_interesting() -> None:
    pair = Pair(server=NO_REACH_CHECK)
    pair.finish(pair.call(b"warm"))
    pair.run_for(1.0)
    body = ask(pair.server, DebugQuestion.INTERESTING_CONNECTION, now=pair.now)
    assert body is not None
    assert ConnectionAnswer.parse(body).is_end
    idle = server_connection(pair)
    assert idle.stages[0] == CallStage.DALLY
    assert idle.modes[0] == CallMode.EOF
    body = ask(busy_pair().server, DebugQuestion.INTERESTING_CONNECTION, now=1001.0)
    assert body is not None
    assert not ConnectionAnswer.parse(body).is_end


def test_a_call_that_waits_for_its_client_is_seen_to_wait() -> None:
    pair = Pair()
    pair.mangle = lambda d: () if d.source == SERVER else (d,)
    pair.call(b"question")
    pair.collect()
    pair.flush()
    waiting = server_connection(pair)
    assert waiting.stages[0] == CallStage.PRECALL
    assert waiting.call_flags[0] & CallFlag.WAIT_PROC
    assert waiting.queues[0] == CallQueue.IN
    assert waiting.flags == ConnectionFlag.ATTACH_WAIT


def test_a_reply_that_is_under_way_and_a_failed_call() -> None:
    pair = busy_pair()
    pair.incoming[1].write(bytes(1_000_000))
    replying = server_connection(pair)
    assert replying.modes[0] == CallMode.SENDING
    assert replying.call_flags[0] & CallFlag.WAIT_WINDOW_SEND
    assert replying.queues[0] == CallQueue.OUT
    pair.incoming[1].abort(5, pair.now)
    assert server_connection(pair).modes[0] == CallMode.ERROR


def test_security_is_told_without_what_it_keeps_secret() -> None:
    pair = Pair(server=NO_REACH_CHECK, securities=[ToyServer()])
    pair.finish(pair.call(b"x", security=ToyClient()))
    told = server_connection(pair)
    assert told.security_index == TOY_INDEX
    assert told.flags == ConnectionFlag.PACKET_CHECKSUM
    assert told.security.level == 2
    assert told.security.flags == 2
    assert b"secret" not in told.build()


def test_peers() -> None:
    pair = busy_pair()
    body = ask(pair.server, DebugQuestion.PEER, now=pair.now)
    assert body is not None
    peer = PeerAnswer.parse(body)
    assert peer.address == CLIENT
    assert peer.rtt_8ths == pytest.approx(80, abs=1)
    assert (peer.packets_sent, peer.bytes_sent, peer.bytes_received) == (1, 4, 4)
    body = ask(pair.server, DebugQuestion.PEER, 1, now=pair.now)
    assert body is not None
    assert PeerAnswer.parse(body).is_end


def test_statistics() -> None:
    pair = busy_pair()
    body = ask(pair.server, DebugQuestion.STATISTICS, now=pair.now)
    assert body is not None
    counters = StatisticsAnswer.parse(body)
    assert counters.read[PacketType.DATA - 1] == counters.data_read == 2
    assert counters.read[PacketType.DEBUG - 1] == 1
    assert counters.data_sent == 1
    assert (counters.server_connections, counters.client_connections) == (1, 0)
    assert (counters.peers, counters.rtt_samples, counters.calls) == (1, 1, 1)
    assert counters.least_rtt == pytest.approx(10_000, abs=10)


def test_unknown_questions_are_told_so_in_as_many_bytes() -> None:
    pair = Pair()
    body = ask(pair.server, 77, now=pair.now, source=STRANGER)
    assert body is not None
    assert DebugRequest.parse(body) == DebugRequest(BAD_QUESTION, 77)
    assert len(body) == 8


def test_the_operator_may_turn_it_off() -> None:
    pair = Pair(server=Parameters(debug=False))
    assert ask(pair.server, DebugQuestion.BASIC, now=pair.now) is None
    assert pair.server_trace.drops[DropReason.UNSUPPORTED] == 1


def test_the_bounds_change_while_it_runs() -> None:
    pair = Pair()
    assert ask(pair.server, DebugQuestion.BASIC, now=pair.now, source=STRANGER) is not None
    pair.server.configure(Parameters(debug_stranger_bytes=0))
    assert ask(pair.server, DebugQuestion.BASIC, now=pair.now, source=STRANGER) is None
    padded = {"now": pair.now, "source": STRANGER, "pad": LARGEST_ANSWER}
    assert ask(pair.server, DebugQuestion.BASIC, **padded) is not None  # type: ignore[arg-type]
    pair.server.configure(Parameters(debug_answers_per_second=0))
    assert ask(pair.server, DebugQuestion.BASIC, **padded) is None  # type: ignore[arg-type]
    pair.server.configure(Parameters(debug=False))
    assert ask(pair.server, DebugQuestion.BASIC, now=pair.now) is None


def test_answers_and_fragments_are_not_answered() -> None:
    pair = Pair()
    answer = QUESTION._replace(flags=0).build() + DebugRequest(1).build()
    pair.server.receive_datagram(answer, LOCAL, pair.now)
    assert pair.server_trace.drops[DropReason.UNEXPECTED] == 1
    pair.server.receive_datagram(QUESTION.build() + b"1234567", LOCAL, pair.now)
    assert pair.server_trace.drops[DropReason.MALFORMED] == 1
    assert not pair.server.datagrams_to_send(pair.now)


class Asked:
    """A core, and how much went in and came out."""

    def __init__(self, parameters: Parameters | None = None) -> None:
        self.trace = CountingTracer()
        self.core = EndpointCore(parameters, self.trace, random.Random(1))

    def flood(self, source: Address, seconds: float, *, pad: int = 0) -> tuple[int, int]:
        """Bytes in and out, when a thousand questions come each second."""
        went_in = came_out = 0
        request = DebugRequest(DebugQuestion.STATISTICS).build(pad)
        for step in range(int(seconds * 1000)):
            now = 1000 + step / 1000
            self.core.receive_datagram(QUESTION.build() + request, source, now)
            went_in += len(request)
            came_out += sum(len(d) - 28 for d, _ in self.core.datagrams_to_send(now))
        return went_in, came_out


def test_a_flood_with_the_address_of_a_stranger_is_answered_with_very_little() -> None:
    asked = Asked()
    _went_in, came_out = asked.flood(STRANGER, 10)
    assert 0 < came_out <= 2048 * 11
    assert asked.trace.drops[DropReason.RATE_LIMITED] > 9000
    _went_in, came_out = Asked(Parameters(debug_stranger_bytes=0)).flood(STRANGER, 2)
    assert came_out == 0


def test_padded_questions_of_strangers_get_no_more_than_they_bring() -> None:
    asked = Asked(Parameters(debug_stranger_bytes=0))
    went_in, came_out = asked.flood(STRANGER, 2, pad=LARGEST_ANSWER)
    assert 0 < came_out <= went_in
    assert came_out <= 300 * LARGEST_ANSWER


def test_this_machine_is_not_bound() -> None:
    _went_in, came_out = Asked().flood(LOCAL, 1)
    assert came_out == 1000 * LARGEST_ANSWER


def test_hosts_that_are_called_or_have_answered_get_more_than_strangers() -> None:
    nothing = Parameters(debug_stranger_bytes=0)
    pair = Pair(nothing, nothing)
    same_host = (CLIENT[0], 55555)
    assert ask(pair.server, DebugQuestion.BASIC, now=pair.now, source=same_host) is None
    pair.finish(pair.call(b"question"))
    assert ask(pair.server, DebugQuestion.BASIC, now=pair.now, source=same_host) is not None
    pair.now += 100.0
    assert ask(pair.server, DebugQuestion.BASIC, now=pair.now, source=same_host) is None
    asker = (SERVER[0], 55555)
    assert ask(pair.client, DebugQuestion.BASIC, now=pair.now, source=asker) is not None


def test_what_would_help_to_forge_packets_is_told_to_the_peer_and_this_machine_only() -> None:
    pair = busy_pair()
    whole = server_connection(pair)
    assert whole.cid
    assert server_connection(pair, source=(CLIENT[0], 55555)) == whole
    bare = replace(whole, cid=0, epoch=0, serial=0, call_numbers=(0, 0, 0, 0))
    assert server_connection(pair, source=STRANGER) == bare
