"""What `debug` does with answers, good ones and others."""

from typing import Any, cast

import pytest
import trio
from trio.testing import MockClock

from rxrpc import ParseError
from rxrpc.programs.debug import Asker, as_lines
from rxrpc.programs.failures import Failure
from rxrpc.wire.debug import (
    CONNECTION_END,
    LARGEST_ANSWER,
    ConnectionAnswer,
    DebugQuestion,
    DebugRequest,
    PeerAnswer,
    SecurityAnswer,
    StatisticsAnswer,
)
from rxrpc.wire.packet import Header, PacketType

CONNECTION = ConnectionAnswer(
    ("192.0.2.1", 7001), 0x10, 5, (1, 2, 3, 4), 0, 0, 1, 2, (2, 3, 9, 0), (1, 4, 0, 0),
    (0, 0, 0, 0), (0, 0, 0, 0), SecurityAnswer(3, 2), 0x20, 1444,
)  # fmt: skip


class Answerer:
    """A socket whose other end answers from a list; None is silence."""

    def __init__(self, *answers: bytes | None) -> None:
        self.answers = list(answers)
        self.questions: list[bytes] = []
        self._waiting: list[bytes] = []

    async def send(self, question: bytes) -> None:
        self.questions.append(question)
        answer = self.answers.pop(0) if self.answers else None
        if answer is not None:
            header = Header.parse(question)[0]._replace(flags=0)
            old = header._replace(call_number=1)
            self._waiting += [b"x", old.build() + b"of an older question"]
            self._waiting.append(header.build() + answer)

    async def recv(self, size: int) -> bytes:
        if not self._waiting:
            await trio.sleep_forever()
        return self._waiting.pop(0)


def asker(socket: Answerer) -> Asker:
    return Asker(cast("Any", socket))


async def test_a_list_to_its_end(autojump_clock: MockClock) -> None:
    socket = Answerer(CONNECTION.build(), None, CONNECTION.build(), CONNECTION_END.build())
    rows = await asker(socket).rows(DebugQuestion.CONNECTION, ConnectionAnswer.parse)
    assert rows == [CONNECTION, CONNECTION]
    assert socket.questions[1] == socket.questions[2], "asked again"
    header, body = Header.parse(socket.questions[-1])
    assert header.type is PacketType.DEBUG
    assert header.from_client
    assert DebugRequest.parse(body) == DebugRequest(DebugQuestion.CONNECTION, 2)
    assert len(body) == LARGEST_ANSWER


async def test_silence(autojump_clock: MockClock) -> None:
    start = trio.current_time()
    with pytest.raises(Failure, match="silent"):
        await asker(Answerer()).question(DebugQuestion.BASIC)
    assert trio.current_time() - start == pytest.approx(3.5)


async def test_answers_that_are_none(autojump_clock: MockClock) -> None:
    with pytest.raises(ParseError):
        await asker(Answerer(b"short")).rows(DebugQuestion.PEER, PeerAnswer.parse)


def test_lines_for_a_person() -> None:
    peer = PeerAnswer(("192.0.2.9", 7000), rtt_8ths=20, mtu=1444, packets_sent=3)
    counters = StatisticsAnswer(read=(5, *(0,) * 11, 2), data_read=5)
    lines = as_lines(
        {
            "version": "v\x1b[1m",
            "connections": [CONNECTION],
            "peers": [peer],
            "statistics": counters,
        }
    )
    assert lines[:6] == [
        "version: v?[1m",
        "connection 192.0.2.1:7001 as server, 00000020/00000010, security 2 level 2",
        "  channel 0: call 1, active, sending",
        "  channel 1: call 2, dally, eof",
        "  channel 2: call 3, 9, none",
        "peer 192.0.2.9:7000, RTT 2.50 ms, MTU 1444, 3 packets sent, 0 of them again, "
        "0 bytes sent, 0 received",
    ]
    assert "read: DATA 5, VERSION 2" in lines
    assert "sent: none" in lines
