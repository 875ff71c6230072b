"""Location services and name servers that want us to know more than we can bear, or whom to hit."""

from __future__ import annotations

import random
import tracemalloc
from uuid import UUID

import dns.name
import pytest

from afsfuse.cell.addresses import MAX_SERVERS
from afsfuse.cell.dns import ServiceRecord, in_order
from afsfuse.cell.servers import SERVERS_MAX, ServerRegistry
from afsfuse.interfaces import vldb
from rxrpc.errors import ParseError
from rxrpc.xdr import decode, encode


def test_of_ten_thousand_hosts_the_first_few_are_drawn() -> None:
    host = dns.name.from_text("db.example.org")
    records = [ServiceRecord(host, 7003, 0, weight) for weight in range(10_000)]
    rng = random.Random(1)
    drawn = in_order(records, rng)
    assert len(drawn) == MAX_SERVERS
    assert in_order(records, rng, most=3) != drawn[:3], "drawn, not taken in order"
    first = ServiceRecord(host, 7003, 1)
    assert first not in in_order([first, *records], rng), "of a later priority"


def test_ten_thousand_servers_push_out_those_that_never_answered() -> None:
    registry = ServerRegistry()
    live = registry.update("test.afs", UUID(int=1), 1, [("192.0.2.1", 7000)])
    live.last_seen = 5.0
    tracemalloc.start()
    try:
        for number in range(2, 10_000):
            registry.update("test.afs", UUID(int=number), 1, [("192.0.2.2", 7000)])
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert len(list(registry)) == SERVERS_MAX
    assert registry.get("test.afs", UUID(int=1)) is live
    assert registry.get("test.afs", UUID(int=9_999)) is not None
    assert held < 2 << 20


def test_an_answer_with_more_addresses_than_a_server_can_have_is_none() -> None:
    """The bound is in the declaration: it is looked at before anything is built."""
    reply = encode(vldb.GetAddrsUReply(UUID(int=1), 1, 0, ()))
    for count in (vldb.ADDRESSES_MAX + 1, 10_000, 0xFFFFFFFF):
        with pytest.raises(ParseError):
            decode(vldb.GetAddrsUReply, reply[:-4] + count.to_bytes(4, "big") + bytes(40_000))
