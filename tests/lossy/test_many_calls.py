"""Ten thousand calls in flight to a hundred peers, on a network that loses a tenth of all packets.

Everything is in one process: 101 endpoints, one task a call at each end. The calls are really in
flight together, since no handler answers before the last request has come.
"""

import gc
import random
import sys
from collections import Counter

import trio
import trio.testing

from rxrpc import Address, Connection, Endpoint, Parameters, ServerCall, Service
from tests.lossy.service import ECHO, TEST, Bytes
from tests.net import LossyNetwork

SEED = 20070425
PEERS = 100
CALLS = 100  # to each peer
CLIENT: Address = ("192.0.2.1", 7001)
MANY = Parameters(
    max_connections_per_bundle=CALLS // 4,
    introduction_time=0.05,
    max_server_calls_per_peer=CALLS,
    dead_time=120.0,
)


def allocations() -> tuple[int, Counter[str]]:
    """Blocks of memory in use, and how many objects of each of our classes there are."""
    for _ in range(3):
        gc.collect()
    ours = Counter(
        type(each).__qualname__
        for each in gc.get_objects()
        if str(type(each).__module__).partition(".")[0] == "rxrpc"
    )
    return sys.getallocatedblocks(), ours


class Round:
    """The calls of one round; none is answered before all have come."""

    def __init__(self) -> None:
        self.missing = PEERS * CALLS
        self.executed: Counter[bytes] = Counter()
        self.done = 0
        self.all_here = trio.Event()


def make_service(current: list[Round]) -> Service:
    """Handlers that wait for each other, those of all services together."""
    service = Service(TEST, max_calls=CALLS)

    @service.handles(ECHO)
    async def echo(call: ServerCall, args: Bytes) -> Bytes:
        (now,) = current
        now.executed[args.data] += 1
        now.missing -= 1
        if not now.missing:
            now.all_here.set()
        await now.all_here.wait()
        return args

    return service


async def run_calls(client: Endpoint, addresses: list[Address], now: Round) -> None:
    """A hundred calls to each."""

    async def one(connection: Connection, data: bytes) -> None:
        assert (await connection.call(ECHO, Bytes(data))).data == data
        now.done += 1

    with trio.fail_after(3000):  # virtual seconds
        async with trio.open_nursery() as tasks:
            for address in addresses:
                connection = client.connect(address, TEST.service_id)
                for number in range(CALLS):
                    tasks.start_soon(one, connection, b"%d %d" % (address[1], number))
            await now.all_here.wait()
            assert client.statistics().active_calls == PEERS * CALLS, "all are in flight"
            assert now.done == 0
    assert now.done == len(now.executed) == PEERS * CALLS
    assert set(now.executed.values()) == {1}, "each exactly once"


async def test_ten_thousand_calls_in_flight(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    print(f"seed {SEED}")
    net = LossyNetwork(random.Random(SEED), drop=0.1, min_delay=0.05, max_delay=0.05)
    await nursery.start(net.run)
    addresses: list[Address] = [("198.51.100.1", 7000 + number) for number in range(PEERS)]
    current: list[Round] = []
    endpoints = []
    for number, address in enumerate([CLIENT, *addresses]):
        rng = random.Random(SEED + number)
        endpoint = Endpoint(socket=net.socket(address), parameters=MANY, rng=rng)
        if address != CLIENT:
            endpoint.add_service(make_service(current))
        await nursery.start(endpoint.run)
        endpoints.append(endpoint)

    async def one_round() -> tuple[int, Counter[str]]:
        current[:] = [Round()]
        await run_calls(endpoints[0], addresses, current[0])
        current.clear()
        await trio.sleep(MANY.dead_time + MANY.server_idle_time + 10.0)
        for endpoint in endpoints:
            statistics = endpoint.statistics()
            assert statistics.active_calls == statistics.waiting_calls == 0
            assert statistics.client_connections == statistics.server_connections == 0
            assert statistics.server_calls == statistics.buffered == 0
        return allocations()

    blocks, objects = await one_round()  # peers come into being, lists get their sizes
    blocks_after, objects_after = await one_round()
    assert net.counts["lost"] > 0.09 * net.counts["sent"]
    assert objects_after == objects
    assert abs(blocks_after - blocks) < PEERS * CALLS // 10, "a tenth of a block for each call"
