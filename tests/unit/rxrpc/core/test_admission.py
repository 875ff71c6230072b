"""How many calls strangers may have."""

import random

from rxrpc.core.context import Context
from rxrpc.core.endpoint import EndpointCore
from rxrpc.core.parameters import Parameters
from rxrpc.core.server_call import ServerCall
from rxrpc.core.services import ServiceEntry
from tests.unit.rxrpc.core.test_endpoint import REQUEST, Endpoint


def call(core: EndpointCore, context: Context, address: tuple[str, int]) -> ServerCall:
    """A call that has not begun."""
    peer = core._peers.get(address) or core._add_peer(address)
    return ServerCall(context, peer, ServiceEntry(77, {}), 0.0)


def test_bounds_for_all_and_for_one() -> None:
    parameters = Parameters(max_server_calls=4, max_server_calls_per_peer=3)
    core = EndpointCore(parameters, rng=random.Random(1))
    admission = core.admission
    calls = [call(core, core.context, ("192.0.2.1", 7001)) for _ in range(4)]
    assert [admission.begin(each, 0.0) for each in calls] == [True, True, True, False]
    others = [call(core, core.context, ("192.0.2.2", 7001)) for _ in range(2)]
    assert [admission.begin(each, 0.0) for each in others] == [True, False]
    admission.end(calls[0])
    assert admission.begin(others[1], 0.0)
    assert admission.calls == 4
    assert others[1].peer.server_calls == 2


def test_the_oldest_unproven_call_makes_room() -> None:
    endpoint = Endpoint(Parameters(max_unproven_calls=2))
    for number in range(5):
        endpoint.send(REQUEST, address=("192.0.2.1", 7001 + number))
    assert endpoint.core.admission.calls == 2
    peers = endpoint.core.statistics(endpoint.now).peers
    assert len(peers) == 5
