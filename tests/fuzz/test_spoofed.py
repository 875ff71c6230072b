"""Packets in the name of a peer from elsewhere, or with wrong numbers: no effect, and counted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from rxrpc.trace import DropReason
from rxrpc.wire.ack import Ack, AckReason
from rxrpc.wire.control import Abort
from rxrpc.wire.packet import HEADER, LAST_PACKET, PacketType
from tests.pair.world import CLIENT, NO_REACH_CHECK, SERVER, SERVICE, Pair, silent
from tests.unit.rxrpc.core.test_states import CLIENT_STATES, SERVER_STATES, client_in, server_in

if TYPE_CHECKING:
    from rxrpc.core.states import CallState

BODIES = {
    PacketType.DATA: b"forged",
    PacketType.ACK: Ack(2, 0, 0, AckReason.PING).build(),
    PacketType.ABORT: Abort(-1).build(),
    PacketType.CHALLENGE: bytes(16),
    PacketType.RESPONSE: bytes(200),
}
ELSEWHERE = ("198.51.100.66", 7000)
FORGERIES = {
    "another address": {"address": ELSEWHERE},
    "another port": {"address": (SERVER[0], 7009)},
    "another epoch": {"epoch": 0x1234},
    "another cid": {"cid": 0x4000},
    "another call": {"call": 99},
    "another security": {"security": 2},
    "another service": {"service": SERVICE + 1},
    "another direction": {"flags": 1},
}
HARMLESS = frozenset(
    {
        DropReason.UNKNOWN_CONNECTION, DropReason.UNKNOWN_CALL, DropReason.UNKNOWN_SERVICE,
        DropReason.WRONG_SERVICE, DropReason.WRONG_SECURITY, DropReason.UNSUPPORTED,
        DropReason.UNEXPECTED, DropReason.OLD_CALL, DropReason.NO_CALL_YET,
        DropReason.MALFORMED, DropReason.BEYOND_WINDOW, DropReason.RATE_LIMITED,
    }
)  # fmt: skip
"""Why they may be dropped."""


@pytest.mark.parametrize("kind", PacketType)
@pytest.mark.parametrize("wrong", FORGERIES.values(), ids=FORGERIES.keys())
@pytest.mark.parametrize("state", CLIENT_STATES)
def test_calls_of_ours(state: CallState, wrong: dict[str, object], kind: PacketType) -> None:
    pair, call = client_in(state)
    connection = call.connection
    assert connection is not None
    numbers = {
        "epoch": connection.epoch, "cid": connection.cid, "call": call.number, "security": 0,
        "service": SERVICE, "flags": 0, "address": SERVER,
    } | wrong  # fmt: skip
    if kind is PacketType.ABORT and "service" in wrong:
        return  # a refusal of OpenAFS names no service: it is believed
    header = HEADER.pack(
        numbers["epoch"], numbers["cid"], numbers["call"], 1, 1, kind, numbers["flags"], 0,
        numbers["security"], 0, numbers["service"],
    )  # fmt: skip
    before = (call.state, call.heard, call.receiving.next, call.sending.first, call.error)
    drops = pair.client_trace.drops.copy()
    address = numbers["address"]
    assert isinstance(address, tuple)
    pair.client.receive_datagram(header + BODIES.get(kind, b""), address, pair.now + 0.001)
    assert before == (
        call.state, call.heard, call.receiving.next, call.sending.first, call.error,
    )  # fmt: skip
    new = pair.client_trace.drops - drops
    if kind not in (PacketType.VERSION, PacketType.DEBUG):
        assert sum(new.values()) == 1, "counted"
        assert set(new) <= HARMLESS


@pytest.mark.parametrize("kind", PacketType)
@pytest.mark.parametrize("state", SERVER_STATES)
def test_calls_of_others(state: CallState, kind: PacketType) -> None:
    """An abort or data for a call of one client, from another address."""
    pair, call = server_in(state)
    connection = call.connection
    assert connection is not None
    header = HEADER.pack(
        connection.epoch, connection.cid, call.number, 1, 1, kind, 1 | LAST_PACKET, 0, 0, 0, SERVICE
    )
    before = (call.state, call.heard, call.receiving.next, call.sending.first)
    pair.server.receive_datagram(header + BODIES.get(kind, b""), ELSEWHERE, pair.now + 0.001)
    pair.collect()
    assert before == (call.state, call.heard, call.receiving.next, call.sending.first)


@pytest.mark.parametrize("kind", PacketType)
@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize("stage", ["opened", "answered", "idle", "closed"])
@pytest.mark.parametrize("side", ["client", "server"])
def test_every_packet_in_every_state_of_a_connection(
    side: str, stage: str, number: int, kind: PacketType
) -> None:
    """With the right numbers; ``number`` 0 is for the connection itself. Nothing is left of it."""
    pair = Pair(server=NO_REACH_CHECK)
    if stage == "opened":
        pair.on_server = silent
    call = pair.call(b"first")
    if stage == "opened":
        pair.run(lambda: bool(pair.incoming))
    else:
        assert pair.finish(call) == b"first"
    connection = call.connection
    assert connection is not None
    if stage == "idle":
        pair.run_for(60.0)
    if stage == "closed":
        pair.run_for(1500.0)
    flags = 1 if side == "server" else 0
    core = pair.server if side == "server" else pair.client
    header = HEADER.pack(
        connection.epoch, connection.cid, number, 1, 77, kind, flags, 0, 0, 0, SERVICE
    )
    for body in (BODIES.get(kind, b""), b""):
        core.receive_datagram(header + body, CLIENT if flags else SERVER, pair.now)
        pair.collect()
    pair.run_for(1500.0)
    for each in (pair.client, pair.server):
        statistics = each.statistics(pair.now)
        assert statistics.active_calls == statistics.server_calls == statistics.buffered == 0
        assert statistics.client_connections == statistics.server_connections == 0
