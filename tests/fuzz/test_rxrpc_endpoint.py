"""Random and mutated datagrams into endpoints with live calls: nothing raises, nothing grows.

Run it alone for longer: `python -m tests.fuzz.test_rxrpc_endpoint 1000000 [seed]`.
"""

import gc
import io
import json
import random
import sys
import tracemalloc

import pytest

from rxrpc.core.endpoint import EndpointCore
from rxrpc.core.parameters import Parameters
from rxrpc.core.services import ServiceEntry
from rxrpc.jsontrace import JsonLinesTracer
from rxrpc.security.base import ClientSecurity, SecurityLevel
from rxrpc.security.null import NULL
from rxrpc.wire.packet import HEADER_SIZE, PacketType
from tests.pair.rxkad_world import Realm
from tests.pair.world import CLIENT, SERVER, SERVICE, Flying, Pair, Program, echo

ADDRESSES = [CLIENT, SERVER, ("198.51.100.7", 7001), ("198.51.100.8", 1)]
REALM = Realm()
PROTECTED = tuple(REALM.client(level) for level in SecurityLevel)
PARAMETERS = Parameters(
    max_server_connections=50, max_peers=60, max_server_calls=40, max_unproven_calls=20
)


def lazy_echo(program: Program) -> None:
    """Answers some calls, leaves others, so that calls are in every state."""
    program.step()
    call = program.call
    if call.receiving.complete and not program.answered and not call.over:
        program.answered = True
        call.write(bytes(program.received))
        if call.number % 3:
            call.finish()


class Fuzzer:
    """A pair under fire; some or all of its calls may be protected."""

    def __init__(self, seed: int, *identities: ClientSecurity) -> None:
        self.rng = random.Random(seed)
        self.identities = identities or (NULL,)
        securities = (NULL, REALM.server())
        self.pair = Pair(PARAMETERS, PARAMETERS, seed=seed, securities=securities)
        self.pair.on_server = lazy_echo
        self.corpus: list[Flying] = []

    def mutate(self, data: bytes) -> bytes:
        """A datagram that is nearly right."""
        rng = self.rng
        mutant = bytearray(data)
        for _ in range(rng.randrange(1, 4)):
            match rng.randrange(7):
                case 0 if mutant:
                    mutant[rng.randrange(len(mutant))] ^= 1 << rng.randrange(8)
                case 1 if mutant:
                    del mutant[rng.randrange(len(mutant)) :]
                case 2:
                    mutant += rng.randbytes(rng.randrange(40))
                case 3 if len(mutant) > HEADER_SIZE:
                    mutant[20] = rng.choice(list(PacketType))
                case 4 if len(mutant) > HEADER_SIZE:
                    mutant[21] = rng.randrange(256)
                case 5 if len(mutant) > HEADER_SIZE:
                    start = rng.choice([0, 4, 8, 12, 16])
                    mutant[start : start + 4] = rng.choice(
                        [b"\0\0\0\0", b"\xff\xff\xff\xff", rng.randbytes(4), b"\0\0\0\1"]
                    )
                case _ if len(mutant) > HEADER_SIZE:
                    at = rng.randrange(HEADER_SIZE, len(mutant))
                    mutant[at : at + 4] = rng.randbytes(4)
        return bytes(mutant)

    def shoot(self) -> None:
        """One hostile datagram."""
        rng, pair = self.rng, self.pair
        if rng.random() < 0.1 or not self.corpus:
            data = rng.randbytes(rng.randrange(0, 120))
        else:
            data = self.mutate(rng.choice(self.corpus).data)
        source = rng.choice(ADDRESSES)
        target = pair.client if rng.random() < 0.5 else pair.server
        target.receive_datagram(data, source, pair.now)

    def live(self) -> None:
        """Honest traffic in between."""
        rng, pair = self.rng, self.pair
        if len(pair.programs) < 40:
            pair.call(
                rng.randbytes(rng.choice([10, 3000, 20_000])),
                finish=rng.random() < 0.8,
                security=rng.choice(self.identities),
            )
        if rng.random() < 0.05:
            rng.choice(list(pair.programs)).abort(1, pair.now)
        pair.step()
        self.corpus += pair.log
        pair.log.clear()
        self.corpus = self.corpus[-300:]
        for call in [call for call in pair.programs if call.over]:
            del pair.programs[call]
        pair.incoming.clear()

    def check(self) -> None:
        """What must hold at all times."""
        pair = self.pair
        for core in (pair.client, pair.server):
            statistics = core.statistics(pair.now)
            assert statistics.server_connections <= 50
            assert statistics.server_calls <= 40
            assert len(statistics.peers) <= 60
            assert 0 <= statistics.buffered <= PARAMETERS.max_buffered_packets
            assert len(core.context.routes) <= 1000
            assert len(core.context.timers) < 5000

    def settle(self) -> None:
        """When the fire stops, everything ends, and then works again."""
        pair = self.pair
        pair.run_for(1500.0)
        for core in (pair.client, pair.server):
            statistics = core.statistics(pair.now)
            assert statistics.active_calls == statistics.server_calls == 0
            assert statistics.buffered == 0
            assert statistics.client_connections == statistics.server_connections == 0
            assert not core.context.routes
        pair.on_server = echo
        for identity in self.identities:
            assert pair.finish(pair.call(b"still there?", security=identity)) == b"still there?"
        pair.programs.clear()
        pair.log.clear()
        self.corpus.clear()


def run(count: int, seed: int, *identities: ClientSecurity) -> Fuzzer:
    fuzzer = Fuzzer(seed, *identities)
    for number in range(count):
        fuzzer.shoot()
        if number % 20 == 0:
            fuzzer.live()
            fuzzer.check()
    return fuzzer


def test_a_trace_of_hostile_datagrams_is_whole_lines_of_json() -> None:
    fuzzer = Fuzzer(5)
    file = io.StringIO()
    tracer = JsonLinesTracer(file)
    fuzzer.pair.server = EndpointCore(PARAMETERS, tracer, random.Random(3))
    fuzzer.pair.server.services.add(ServiceEntry(SERVICE, {NULL.index: NULL}))
    for number in range(2000):
        fuzzer.shoot()
        if number % 20 == 0:
            fuzzer.live()
    assert not tracer.stopped
    for line in file.getvalue().splitlines():
        assert "event" in json.loads(line)


@pytest.mark.parametrize("seed", range(8))
def test_hostile_datagrams(seed: int) -> None:
    run(3000, seed).settle()


@pytest.mark.parametrize("seed", range(8))
def test_hostile_datagrams_among_protected_ones(seed: int) -> None:
    run(3000, seed, NULL, *PROTECTED).settle()


def allocated() -> int:
    """Bytes that somebody still holds, without what only the collector has to fetch."""
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


@pytest.mark.parametrize("identities", [(), PROTECTED], ids=["null", "rxkad"])
def test_memory_stays_flat(identities: tuple[ClientSecurity, ...]) -> None:
    """What is held after a fire depends on its last sparks, so the least of several counts."""
    fuzzer = run(2000, 77, *identities)

    def least() -> int:
        held = []
        for _ in range(3):
            for number in range(1200):
                fuzzer.shoot()
                if number % 20 == 0:
                    fuzzer.live()
            fuzzer.settle()
            held.append(allocated())
        return min(held)

    tracemalloc.start()
    try:
        before = least()
        assert least() - before < 150_000
    finally:
        tracemalloc.stop()


if __name__ == "__main__":
    total = int(sys.argv[1])
    run(total, int(sys.argv[2]) if len(sys.argv) > 2 else 0).settle()
    print(f"{total} hostile datagrams: nothing raised, nothing grew")
