"""Lines of a trace: what they say, what they never say, and when they stop."""

import io
import json
import random
from typing import TYPE_CHECKING

import pytest

from rxrpc.core.endpoint import EndpointCore
from rxrpc.core.services import ServiceEntry
from rxrpc.jsontrace import JsonLinesTracer, describe
from rxrpc.security.null import NULL
from rxrpc.trace import (
    CallEnded,
    ConnectionClosed,
    DropReason,
    Event,
    PacketDropped,
    PacketReceived,
    PacketSent,
    PacketsLost,
    PeerUnreachable,
    Tracer,
)
from rxrpc.wire.packet import Header, PacketType
from tests.pair.toy_security import TOY_INDEX, ToyClient, ToyServer
from tests.pair.world import NO_REACH_CHECK, SERVICE, Pair

if TYPE_CHECKING:
    from rxrpc.security.base import ServerSecurity

ADDRESS = ("192.0.2.1", 7000)
HEADER = Header(1, 0x40000006, 3, 4, 5, PacketType.DATA, 0x25, 0, 0, 0, 0)
ENDED = CallEnded(ADDRESS, 6, 3, "complete")


def lines(file: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in file.getvalue().splitlines()]


def test_a_dropped_packet() -> None:
    file = io.StringIO()
    tracer: Tracer = JsonLinesTracer(file)
    tracer.record(1000.25, PacketDropped(ADDRESS, DropReason.DUPLICATE, HEADER, "seen"))
    tracer.record(1001.5, ENDED)
    first, second = lines(file)
    assert first == {
        "t": 0.0,
        "event": "dropped",
        "peer": "192.0.2.1:7000",
        "reason": "duplicate",
        "type": "DATA",
        "cid": "40000004",
        "channel": 2,
        "call": 3,
        "seq": 4,
        "serial": 5,
        "flags": ["CLIENT_INITIATED", "LAST_PACKET", "JUMBO"],
        "epoch": "00000001",
        "detail": "seen",
    }
    assert (second["t"], second["outcome"]) == (1.25, "complete")


def test_names_of_flags_and_of_what_has_none() -> None:
    ack = describe(PacketSent(ADDRESS, HEADER._replace(type=PacketType.ACK, flags=0xE0), 0))
    assert ack["flags"] == ["SLOW_START_OK", "0xc0"]
    assert "short ACK" in str(ack["malformed"])
    abort = HEADER._replace(type=PacketType.ABORT)
    line = describe(PacketReceived(ADDRESS, abort, 4, b"\xff\xff\xff\xfb"))
    assert (line["code"], line["name"]) == (-5, "PROTOCOL_ERROR")
    line = describe(PacketReceived(ADDRESS, abort, 4, b"\0\0\0\5"))
    assert line["code"] == 5
    assert "name" not in line
    body = bytes(16) + bytes([77, 0])
    line = describe(PacketReceived(ADDRESS, abort._replace(type=PacketType.ACK), 18, body))
    assert (line["reason"], line["acked"]) == ("77", "")


@pytest.mark.parametrize(
    "event",
    [
        PacketsLost(6, 3, 2, "timeout"),
        PeerUnreachable(ADDRESS, 111),
        ConnectionClosed(ADDRESS, 1, 4, "idle"),
        PacketDropped(ADDRESS, DropReason.MALFORMED),
    ],
)
def test_other_events(event: Event) -> None:
    assert json.loads(json.dumps(describe(event)))["event"]


def test_a_whole_call_reads_well() -> None:
    """Two packets of a question, two of the answer, as a person follows them."""
    file = io.StringIO()
    pair = Pair()
    pair.client = EndpointCore(None, JsonLinesTracer(file), random.Random(7))
    pair.finish(pair.call(bytes(2000)))
    pair.run_for(1.0)
    trace = lines(file)
    story = [(line["event"], line.get("type"), line.get("seq"), line.get("reason"))
             for line in trace]  # fmt: skip
    assert story == [
        ("connection opened", None, None, None),
        ("call started", None, None, None),
        ("sent", "DATA", 1, None),
        ("sent", "DATA", 2, None),
        ("received", "ACK", 0, "PING"),
        ("sent", "ACK", 0, "PING_RESPONSE"),
        ("received", "ACK", 0, "REQUESTED"),
        ("received", "DATA", 1, None),
        ("received", "DATA", 2, None),
        ("call ended", None, None, None),
        ("sent", "ACK", 0, "DELAY"),
    ]
    assert len({(line["cid"], line.get("channel", 0), line.get("call", 1)) for line in trace}) == 1
    times = [line["t"] for line in trace]
    assert times == sorted(times)  # type: ignore[type-var]
    assert times[0] == 0.0
    question = trace[3]
    assert question["flags"] == ["CLIENT_INITIATED", "LAST_PACKET"]
    assert (question["peer"], question["call"], question["serial"]) == ("192.0.2.2:7000", 1, 2)
    assert question["bytes"] == 2000 - 1416
    requested = trace[6]
    assert requested["for_serial"] == 1
    assert "window" not in requested  # more than came from a stranger is not sent to him
    assert trace[-1]["window"] == 255


def test_nothing_that_anybody_wrote_is_in_it() -> None:
    file = io.StringIO()
    pair = Pair(server=NO_REACH_CHECK, securities=[ToyServer()])
    pair.client = EndpointCore(None, JsonLinesTracer(file), random.Random(7))
    pair.server = EndpointCore(NO_REACH_CHECK, JsonLinesTracer(file), random.Random(8))
    securities: dict[int, ServerSecurity] = {TOY_INDEX: ToyServer(), NULL.index: NULL}
    pair.server.services.add(ServiceEntry(SERVICE, securities))
    payload = b"the payload of a call"
    for security in (ToyClient(), NULL):
        pair.finish(pair.call(payload, security=security))
    text = file.getvalue()
    assert '"type":"CHALLENGE"' in text
    assert '"type":"RESPONSE"' in text
    for secret in (payload, b"secret", b"nonce"):
        assert secret.decode() not in text
        assert secret.hex() not in text


def test_answers_to_strangers_are_in_it() -> None:
    file = io.StringIO()
    core = EndpointCore(None, JsonLinesTracer(file), random.Random(7))
    question = HEADER._replace(type=PacketType.VERSION, flags=1)
    core.receive_datagram(question.build() + b"\0", ADDRESS, 5.0)
    data = HEADER._replace(flags=1, seq=1).build() + bytes(100)
    core.receive_datagram(data, ADDRESS, 5.0)
    story = [(line["event"], line["type"]) for line in lines(file)]
    assert story == [
        ("received", "VERSION"),
        ("sent", "VERSION"),
        ("received", "DATA"),
        ("dropped", "DATA"),
        ("sent", "ABORT"),
    ]


def test_it_stops_when_it_is_full() -> None:
    file = io.StringIO()
    tracer = JsonLinesTracer(file, max_size=1000)
    for _ in range(100):
        tracer.record(1.0, ENDED)
    assert tracer.stopped == "the trace is full"
    *_events, last = lines(file)
    assert last == {"t": 0.0, "event": "the trace is full"}
    assert len(file.getvalue()) <= 1000 + 50


def test_a_file_that_fails_ends_the_trace_and_nothing_else() -> None:
    file = io.StringIO()
    tracer = JsonLinesTracer(file)
    pair = Pair(server=NO_REACH_CHECK)
    pair.client = EndpointCore(None, tracer, random.Random(7))
    pair.finish(pair.call(b"one"))
    file.close()
    assert pair.finish(pair.call(b"two")) == b"two"
    assert "closed file" in tracer.stopped
