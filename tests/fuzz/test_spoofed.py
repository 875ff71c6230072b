"""Packets in the name of a peer from elsewhere, or with wrong numbers: no effect, and counted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from rxrpc.security.base import SecurityLevel
from rxrpc.security.null import NULL
from rxrpc.trace import DropReason
from rxrpc.wire.ack import Ack, AckReason
from rxrpc.wire.control import Abort
from rxrpc.wire.packet import HEADER, LAST_PACKET, Header, PacketType
from tests.pair.rxkad_world import Realm
from tests.pair.world import CLIENT, NO_REACH_CHECK, SERVER, SERVICE, Flying, Pair, silent
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
    "another security": {"security": 5},
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


@pytest.mark.parametrize("wrong", FORGERIES.values(), ids=FORGERIES.keys())
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("room", [0, 100, 5000])
@pytest.mark.parametrize("level", [None, *SecurityLevel])
def test_calls_that_are_read(
    level: SecurityLevel | None, room: int, last: bool, wrong: dict[str, Any]
) -> None:
    """Their packets take the fast path, straight into the reader's buffer; so a genuine packet that
    is shown once more in another name must not. Then it is taken as it is.
    """
    realm = Realm()
    pair = Pair(server=NO_REACH_CHECK, securities=(NULL, realm.server()))
    pair.on_server = silent
    call = pair.call(b"question", security=NULL if level is None else realm.client(level))
    pair.run(lambda: bool(pair.incoming))
    served = pair.incoming[0]
    served.write(bytes(3 * 1400))
    if last:
        served.finish()
    flying: list[Flying] = []

    def hold(datagram: Flying) -> list[Flying]:
        if datagram.target == CLIENT and datagram.header.type is PacketType.DATA:
            flying.append(datagram)
            return []
        return [datagram]

    pair.mangle = hold
    pair.collect()
    assert flying
    if room:
        call.receiving.read_into([memoryview(bytearray(room))])
    for datagram in flying:
        header, body = Header.parse(datagram.data)
        names = {"security": "security_index", "service": "service_id", "call": "call_number"}
        lie = {names.get(name, name): value for name, value in wrong.items() if name != "address"}
        forged = header._replace(**lie).build() + bytes(body)
        drops = pair.client_trace.drops.copy()
        before = (call.heard, call.receiving.next, call.receiving.bytes, call.error)
        pair.client.receive_datagram(forged, wrong.get("address", SERVER), pair.now + 0.001)
        assert before == (call.heard, call.receiving.next, call.receiving.bytes, call.error)
        new = pair.client_trace.drops - drops
        assert sum(new.values()) == 1
        assert set(new) <= HARMLESS
        pair.client.receive_datagram(datagram.data, SERVER, pair.now)
        assert call.receiving.next == header.seq + 1
