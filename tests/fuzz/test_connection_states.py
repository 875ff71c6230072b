"""Every packet type in every state of a connection, of ours and of others, protected and not.

A connection has no table of states: where it stands is who began it, whether it is protected and
each side has proven itself, and whether calls are under way. `situation` names that, and a fire at
random shows that no connection comes into a situation that is not tried here.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, NamedTuple

import pytest

from rxrpc.core.client_connection import ClientConnection
from rxrpc.core.server_connection import ServerConnection
from rxrpc.security.base import SecurityLevel
from rxrpc.security.null import NULL
from rxrpc.trace import DropReason
from rxrpc.wire.ack import Ack, AckReason
from rxrpc.wire.control import Abort
from rxrpc.wire.packet import HEADER, PacketType
from tests.fuzz.test_rxrpc_endpoint import Fuzzer
from tests.pair.rxkad_world import Realm
from tests.pair.world import CLIENT, SERVER, SERVICE, Flying, Pair, everything, silent

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rxrpc.core.client_call import ClientCall
    from rxrpc.core.connection import Connection
    from rxrpc.core.endpoint import EndpointCore

BODIES = {
    PacketType.DATA: b"forged",
    PacketType.ACK: Ack(2, 0, 0, AckReason.PING).build(),
    PacketType.ABORT: Abort(-1).build(),
    PacketType.CHALLENGE: bytes(16),
    PacketType.RESPONSE: bytes(200),
}
STAGES = (
    "unheard",  # nothing of the other side has come
    "challenged",  # the server wants proof, and the client has sent it
    "opened",  # the first call is under way
    "answered",  # it is over, just now
    "again",  # another call is under way
    "another", "another over",  # this is another connection of the same two; and given up
    "over unheard", "over challenged",  # the client has given up
    "settled", "idle",  # nothing happens any more, for a moment and for long
    "closed",  # it is forgotten
)  # fmt: skip


REFUSALS = {
    DropReason.UNEXPECTED, DropReason.UNSUPPORTED, DropReason.UNKNOWN_CONNECTION,
    DropReason.RATE_LIMITED,
}  # fmt: skip
"""Why a packet for a connection itself may be dropped; that it is insecure ends the connection."""


class Situation(NamedTuple):
    """Where a connection stands."""

    ours: bool  # we began it
    protected: bool
    known: bool  # ours: the server has answered; another's: the client has proven who it is
    reached: bool  # the address is the other side's own
    busy: bool  # calls are under way


def situation(connection: Connection, now: float) -> Situation:
    protected = not connection.security.transparent
    if isinstance(connection, ClientConnection):
        known = connection.answered
    else:
        assert isinstance(connection, ServerConnection)
        known = connection.security.established
    reached = connection.peer.is_reached(now)
    return Situation(connection.is_client, protected, known, reached, connection.active > 0)


def unanswered(datagram: Flying) -> Iterable[Flying]:
    """Nothing comes back from the server."""
    return () if datagram.target == CLIENT else (datagram,)


def without_response(datagram: Flying) -> Iterable[Flying]:
    """Whoever is challenged answers, and that is lost."""
    return () if datagram.header.type is PacketType.RESPONSE else (datagram,)


class Scene:
    """Two cores with one connection between them, at a stage."""

    def __init__(self, stage: str, *, protected: bool) -> None:
        realm = Realm()
        self.pair = pair = Pair(securities=(NULL, realm.server()))
        self.identity = realm.client(SecurityLevel.CRYPT) if protected else NULL
        early = stage.split()[-1] in ("unheard", "challenged")
        if early or stage == "opened":
            pair.on_server = silent
        call = pair.call(b"first", security=self.identity)
        if early:
            pair.mangle = unanswered if stage.endswith("unheard") else without_response
            for number in range(10):
                pair.step()
                if stage.startswith("over") and number == 7:
                    call.abort(1, pair.now)
        elif stage == "opened":
            pair.run(lambda: bool(pair.incoming))
        else:
            assert pair.finish(call) == b"first"
        if stage in ("again", "another", "another over"):
            call = self.go_on(exclusive=stage != "again")
            if stage == "another over":
                call.abort(1, pair.now)
        pair.run_for({"settled": 5.0, "idle": 60.0, "closed": 1500.0}.get(stage, 0.0))
        assert call.connection is not None
        self.ours = call.connection
        self.theirs = pair.server._server_connections.get(
            (CLIENT, self.ours.epoch, self.ours.cid, False)
        )

    def go_on(self, *, exclusive: bool) -> ClientCall:
        """Another call, on the same connection or on one of its own."""
        pair = self.pair
        pair.on_server = silent
        call = pair.call(b"second", security=self.identity, exclusive=exclusive)
        if exclusive:
            pair.mangle = without_response
        for _ in range(2):
            pair.step()
        return call

    def core(self, side: str) -> EndpointCore:
        return self.pair.server if side == "server" else self.pair.client

    def send(self, side: str, kind: PacketType, number: int, body: bytes) -> None:
        """A packet with the right numbers to one of the sides."""
        header = HEADER.pack(
            self.ours.epoch, self.ours.cid, number, 1, 77, kind, side == "server", 0,
            self.ours.security_index, 0, SERVICE,
        )  # fmt: skip
        source = CLIENT if side == "server" else SERVER
        self.core(side).receive_datagram(header + body, source, self.pair.now)


@pytest.mark.parametrize("kind", PacketType)
@pytest.mark.parametrize("number", [0, 1, 2, 3])
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("protected", [False, True], ids=["null", "rxkad"])
@pytest.mark.parametrize("side", ["client", "server"])
def test_every_packet_in_every_state_of_a_connection(
    side: str, protected: bool, stage: str, number: int, kind: PacketType
) -> None:
    """With the right numbers; ``number`` 0 is for the connection itself. Nothing is left of it,
    and what has no effect is counted.
    """
    scene = Scene(stage, protected=protected)
    pair = scene.pair
    trace = pair.server_trace if side == "server" else pair.client_trace
    before, earlier = sum(trace.drops.values()), set(trace.drops)
    bodies = (BODIES.get(kind, b""), b"")
    for body in bodies:
        scene.send(side, kind, number, body)
        pair.collect()
    effects = {PacketType.ABORT, PacketType.VERSION, PacketType.DEBUG}
    if protected:
        effects.add(PacketType.RESPONSE if side == "server" else PacketType.CHALLENGE)
    if number == 0 and kind not in effects:
        assert sum(trace.drops.values()) == before + len(bodies)
        drops = set(trace.drops) - earlier
        assert drops <= REFUSALS, "the connection is as it was"
    pair.mangle = everything
    pair.run_for(1500.0)
    for each in (pair.client, pair.server):
        statistics = each.statistics(pair.now)
        assert statistics.active_calls == statistics.server_calls == statistics.buffered == 0
        assert statistics.client_connections == statistics.server_connections == 0


def tried() -> set[Situation]:
    """The situations of the scenes above."""
    found = set()
    for stage in set(STAGES) - {"closed"}:
        for protected in (False, True):
            scene = Scene(stage, protected=protected)
            for connection in filter(None, (scene.ours, scene.theirs)):
                found.add(situation(connection, scene.pair.now))
    return found


def test_no_connection_comes_into_a_situation_that_is_not_tried() -> None:
    realm = Realm()
    fuzzer = Fuzzer(31, NULL, *(realm.client(level) for level in SecurityLevel))
    rng, seen = random.Random(31), set[Situation]()
    for number in range(6000):
        fuzzer.shoot()
        if number % 20 == 0:
            fuzzer.live()
            for core in (fuzzer.pair.client, fuzzer.pair.server):
                connections = list(core._connections.values())
                for each in rng.sample(connections, min(5, len(connections))):
                    seen.add(situation(each, fuzzer.pair.now))
    known = tried()
    print(len(known), "tried;", sorted(seen - known))
    assert len(seen) > 8
    assert seen <= known
