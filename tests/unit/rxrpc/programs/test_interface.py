"""The test service and its clients over a network in memory."""

import random
from functools import partial

import pytest
import trio
from trio.testing import MockClock

from rxrpc import CallAborted, Endpoint, ParseError
from rxrpc.programs.interface import (
    ABORT,
    ECHO,
    SINK,
    SOURCE,
    Code,
    Raw,
    Size,
    make_service,
    make_uniform_service,
)
from rxrpc.rpc import Void
from rxrpc.xdr import decode, encode
from tests.net import LossyNetwork

CLIENT, SERVER = ("192.0.2.1", 7001), ("192.0.2.2", 7000)


@pytest.fixture
async def said() -> list[str]:
    return []


@pytest.fixture
async def client(autojump_clock: MockClock, nursery: trio.Nursery, said: list[str]) -> Endpoint:
    """Beside a server whose service 5 has the procedures, and 6 answers in capitals."""
    net = LossyNetwork(random.Random(1))
    client, server = Endpoint(socket=net.socket(CLIENT)), Endpoint(socket=net.socket(SERVER))
    server.add_service(make_service(5, said.append))
    server.add_service(make_uniform_service(6, bytes.upper, said.append))
    for run in (net.run, server.run, client.run):
        await nursery.start(run)
    return client


async def test_all_procedures(client: Endpoint, said: list[str]) -> None:
    connection = client.connect(SERVER, 5)
    assert await connection.call(ECHO, Raw(b"abc")) == Raw(b"abc")
    async with connection.stream(SINK, Void()) as call:
        await call.send(bytes(200_000))
        assert (await call.finish()).value == 200_000
    async with connection.stream(SOURCE, Size(200_000)) as source:
        assert await source.receive_exactly(200_000) == bytes(200_000)
        await source.finish()
    with pytest.raises(CallAborted) as caught:
        await connection.call(ABORT, Code(-9))
    assert caught.value.code == -9
    assert said == [
        "192.0.2.1:7001: echo of 3 bytes",
        "192.0.2.1:7001: sink of 200000 bytes",
        "192.0.2.1:7001: source of 200000 bytes",
        "192.0.2.1:7001: abort with -9",
    ]


async def test_one_answer_for_all(client: Endpoint, said: list[str]) -> None:
    uniform = client.connect(SERVER, 6)
    async with uniform.begin() as call:
        await call.send(b"\0\0\0\x4dabc")
        await call.send_eof()
        assert await call.receive_rest() == b"ABC"
    assert said == ["192.0.2.1:7001: opcode 77, 3 bytes"]


def test_raw_values_are_what_they_are() -> None:
    for data in (b"", b"\0", b"five!"):
        assert encode(Raw(data)) == data
        assert decode(Raw, data) == Raw(data)
    refuse = partial(decode, Size)
    with pytest.raises(ParseError):
        refuse(b"1234567")
