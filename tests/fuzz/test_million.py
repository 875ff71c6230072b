"""A million mutated packets at the port of a client, where its servers call back as well.

They are made of packets that were taken from the wire of OpenAFS's servers at each level
(`tests/interop/recording.py`), put into the places of calls that are under way here, and of packets
of these calls and callbacks. Most never reach a call; what that costs,
and what is kept of it, is what this is about: `test_rxrpc_endpoint` has fewer of them, with calls
in every state. `tests/fuzz/guided.py` is guided by coverage.
"""

from __future__ import annotations

import contextlib
import gc
import random
import tracemalloc
from typing import TYPE_CHECKING

import pytest

from afsfuse.interfaces import callback as cb
from rxrpc.core.events import IncomingCall
from rxrpc.core.parameters import Parameters
from rxrpc.core.services import ServiceEntry
from rxrpc.errors import ParseError
from rxrpc.rpc import Void
from rxrpc.security.base import ClientSecurity, SecurityLevel
from rxrpc.security.null import NULL
from rxrpc.trace import DropReason
from rxrpc.wire.packet import HEADER_SIZE, PacketType
from rxrpc.xdr import decode
from tests.pair.rxkad_world import Realm
from tests.pair.world import CLIENT, SERVER, Pair, Program
from tests.vectors.recorded import packets, recorded

if TYPE_CHECKING:
    from rxrpc.core.call import Call

MILLION = 1_000_000
SHARES = 2  # tests, so that two processors take one each
ADDRESSES = [SERVER, SERVER, ("198.51.100.7", 7001), ("198.51.100.8", 1)]
WORDS = [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\0\0\0\1", b"\x80\0\0\0", b"\x7f\xff\xff\xff"]
SETTLED = 1500.0  # seconds after which nothing of a fire is left
LEVELS = ("anonymous", "clear", "auth", "crypt")
CALLS = 24  # under way at the same time
REAL_SHARE = 0.4  # of what is changed: packets of real servers
GROWTH = 150_000  # bytes; see `test_rxrpc_endpoint`
"""How much may be held after more packets than after fewer."""


def requests() -> list[bytes]:
    """What servers call back with, as OpenAFS's do."""
    return [
        cb.CALL_BACK.opcode.to_bytes(4, "big") + recorded("CallBack"),
        cb.INIT_CALL_BACK_STATE3.opcode.to_bytes(4, "big") + recorded("InitCallBackState3"),
        *(
            rpc.opcode.to_bytes(4, "big") + (b"" if rpc.args is Void else bytes(4))
            for rpc in cb.RXAFSCB.rpcs
        ),
    ]


def serve(program: Program) -> None:
    """Decode what came as the callback service does, and answer."""
    program.step()
    call = program.call
    if not call.receiving.complete or program.answered or call.over:
        return
    program.answered = True
    data = bytes(program.received)
    rpc = cb.RXAFSCB.by_opcode.get(int.from_bytes(data[:4], "big"))
    if rpc is not None:
        with contextlib.suppress(ParseError):
            decode(rpc.args, data[4:])
    call.write(data[:100])
    call.finish()


class Range:
    """A client under fire, and the packets that are captured of its traffic."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        realm = Realm()
        self.identities: list[ClientSecurity] = [
            NULL,
            *(realm.client(level) for level in SecurityLevel),
        ]
        small = Parameters(max_peers=100, max_server_connections=100)
        self.pair = Pair(small, small, seed=seed, securities=(NULL, realm.server()))
        self.pair.client.services.add(ServiceEntry(cb.RXAFSCB.service_id, {NULL.index: NULL}))
        self.pair.on_server = serve
        self.target = self.pair.client
        self.corpus: list[bytes] = []
        self.callbacks: list[bytes] = []
        self.real = [each for level in LEVELS for each in packets(level, "to client")]
        self.places: list[tuple[bytes, int, bytes]] = []  # of what the target's calls expect
        self.shots = 0

    def live(self) -> None:
        """Calls both ways, of which the datagrams to the client are captured."""
        pair, rng = self.pair, self.rng
        replies = [recorded(name) for name in ("FetchStatus", "BulkStatus", "GetEntryByNameU")]
        for identity in self.identities:
            request = rng.choice([*requests(), *replies])
            pair.call(request, security=identity, finish=rng.random() < 0.5)
        while len(pair.programs) > CALLS:  # those that nobody will finish
            call = next(iter(pair.programs))
            call.abort(1, pair.now)
            pair.programs.pop(call).step()
        for _ in range(6):
            pair.step()
        self.corpus += [each.data for each in pair.log if each.target == CLIENT]
        self.corpus = [*self.callbacks, *self.corpus[-300:]]  # those of calls that are under way
        pair.log.clear()
        pair.incoming.clear()
        for call in [call for call in pair.programs if call.over]:
            del pair.programs[call]
        self.places = [
            self.place(call)
            for call in pair.programs
            if call.context is pair.client.context and call.connection
        ]

    def place(self, call: Call) -> tuple[bytes, int, bytes]:
        """What the header of the next packet of a call has to have."""
        connection = call.connection
        assert connection is not None
        route = connection.route(call.channel, call.number)
        seq = call.receiving.next.to_bytes(4, "big")
        return route + seq, connection.security_index, connection.service_id.to_bytes(2, "big")

    def capture_callbacks(self) -> None:
        """What comes from servers as clients of ours."""
        template = next(data for data in self.corpus if len(data) > HEADER_SIZE)
        for number, body in enumerate(requests()):
            header = bytearray(template[:HEADER_SIZE])
            header[4:8] = (0x4000 + 4 * number).to_bytes(4, "big")
            header[8:12] = header[12:16] = header[16:20] = (1).to_bytes(4, "big")
            header[20:28] = bytes([PacketType.DATA, 5, 0, 0, 0, 0, 0, cb.RXAFSCB.service_id])
            self.callbacks.append(bytes(header) + body)

    def mutant(self) -> bytes:
        """A captured packet with a few changes, or noise."""
        random_, choice = self.rng.random, self.rng.choice
        kind = random_()
        if kind < 0.03:
            return self.rng.randbytes(int(100 * random_()))
        data = bytearray(choice(self.corpus))
        if random_() < REAL_SHARE and self.places:
            self.put_into_a_call(data)
        for _ in range(1 if random_() < 0.6 else 3):
            size = len(data)
            if not size:
                break
            at = int(size * random_())
            kind = random_()
            if kind < 0.3:
                data[at] ^= 1 << int(8 * random_())
            elif kind < 0.5:  # the numbers of the header
                at = 4 * int(5 * random_())
                data[at : at + 4] = choice(WORDS)
            elif kind < 0.65 and size >= HEADER_SIZE:
                data[20 + int(2 * random_())] = int(256 * random_()) & choice([0xFF, 0x0F])
            elif kind < 0.8:
                at &= ~3
                data[at : at + 4] = choice(WORDS)
            elif kind < 0.9:
                del data[at:]
            else:
                data[at:at] = choice(self.corpus)[HEADER_SIZE : HEADER_SIZE + 40]
        return bytes(data)

    def put_into_a_call(self, data: bytearray) -> None:
        """A packet of a real server where the next one of a call under way is expected: those that
        it was taken from are over.
        """
        data[:] = self.rng.choice(self.real)
        place, security, service = self.rng.choice(self.places)
        data[: len(place)] = place
        data[23] = security
        data[26:28] = service

    def fire(self, count: int) -> None:
        """So many packets, with honest traffic between them."""
        target, pair = self.target, self.pair
        for number in range(count):
            if number % 600 == 0:
                self.live()
            target.receive_datagram(self.mutant(), ADDRESSES[int(4 * self.rng.random())], pair.now)
            if number % 50 == 0:
                pair.now += 0.01
                self.answer()
        self.shots += count

    def answer(self) -> None:
        """What the driver and the services of the client do in a turn."""
        pair = self.pair
        for event in self.target.events():
            if isinstance(event, IncomingCall):
                event.call.receiving.demand(1)
                program = pair.programs[event.call] = Program(event.call)
                serve(program)
        pair.collect()
        pair.wire = [each for each in pair.wire if each.target in (CLIENT, SERVER)]
        assert self.target.context.buffered <= 16384
        assert len(self.target.context.routes) < 2000
        assert len(self.target.context.timers) < 10_000

    def settle(self) -> int:
        """The fire is over: nothing is left of it but what counters hold. Bytes held."""
        pair = self.pair
        pair.run_for(SETTLED)
        statistics = self.target.statistics(pair.now)
        assert statistics.active_calls == statistics.server_calls == statistics.buffered == 0
        assert statistics.client_connections == statistics.server_connections == 0
        for identity in self.identities:
            assert pair.finish(pair.call(b"\0\0\0\0", security=identity)) == b"\0\0\0\0"
        pair.run_for(SETTLED)
        pair.programs.clear()
        pair.incoming.clear()
        pair.log.clear()
        gc.collect()
        return tracemalloc.get_traced_memory()[0]


def prepared(seed: int) -> Range:
    print("seed", seed)
    shooting = Range(seed)
    for _ in range(20):
        shooting.live()
    shooting.capture_callbacks()
    return shooting


@pytest.mark.parametrize("seed", range(SHARES))
def test_a_million_packets(seed: int) -> None:
    shooting = prepared(seed)
    shooting.fire(MILLION // SHARES)
    shooting.settle()
    drops = dict(shooting.pair.client_trace.drops)
    print(f"{shooting.shots} packets, {sum(drops.values())} dropped:")
    print({reason.value: count for reason, count in drops.items()})
    counted = shooting.target.statistics(shooting.pair.now).drops
    assert counted == drops, "each refusal has a name in the statistics"
    # Only who hears our answers can fill all places: unit/rxrpc/core/test_endpoint.py.
    but = {DropReason.NO_SPACE, DropReason.TOO_MANY}
    assert set(DropReason) - set(drops) <= but, "they get everywhere"
    reached = sum(drops[reason] for reason in (DropReason.INSECURE, DropReason.BAD_ACK))
    assert reached > shooting.shots // 1000, "and into calls under way"


def test_what_is_held_does_not_grow_with_the_packets() -> None:
    """The least of several rounds: what the last sparks leave differs."""
    shooting = prepared(77)

    def round_() -> int:
        shooting.fire(2000)
        return shooting.settle()

    round_()
    tracemalloc.start()
    try:
        before = min(round_() for _ in range(3))
        assert min(round_() for _ in range(3)) - before < GROWTH
    finally:
        tracemalloc.stop()
