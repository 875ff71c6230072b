"""Callbacks that nobody sent who made a promise: a question to a server at worst."""

from __future__ import annotations

from uuid import UUID

import pytest
import trio

from afsfuse.cache.callbacks import BreakLog
from afsfuse.cache.vnodes import VnodeTable
from afsfuse.errors import DataCorrupt
from tests.unit.afsfuse.cache.fakes import FakeClient, Line, fid, make_cache
from tests.unit.afsfuse.cache.reads import FILE, VOLUME

ELSEWHERE = ("198.51.100.66", 7000)


async def test_a_server_that_promised_nothing_has_nothing_to_take_back(
    autojump_clock: object,
) -> None:
    client = FakeClient(Line(rtt=0.002))
    client.put(FILE, b"data")
    cache = make_cache(client)
    vnode = await cache.status(VOLUME, FILE)
    assert cache.break_server(ELSEWHERE) == []
    assert cache.break_server(ELSEWHERE, UUID(int=99)) == []
    assert cache.break_callback(ELSEWHERE, [fid(2 * number) for number in range(500, 550)]) == []
    assert vnode.valid(trio.current_time())
    calls = client.count("status")
    assert (await cache.status(VOLUME, FILE)) is vnode
    assert client.count("status") == calls


async def test_a_stranger_has_not_every_vnode_looked_at(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = FakeClient(Line(rtt=0.002))
    client.put(FILE, b"data")
    cache = make_cache(client)
    vnode = await cache.status(VOLUME, FILE)
    with monkeypatch.context() as patch:
        patch.setattr(VnodeTable, "__iter__", lambda table: pytest.fail("all were looked at"))
        assert cache.break_server(ELSEWHERE, UUID(int=99)) == []
    cache.compact()
    assert vnode.server is not None
    assert cache.break_server(vnode.server.addresses[0]) == [vnode]


async def test_a_forged_break_costs_one_question(autojump_clock: object) -> None:
    """Servers call from addresses that nobody registered, so the fid decides; it is the cost."""
    client = FakeClient(Line(rtt=0.002))
    client.put(FILE, b"data")
    cache = make_cache(client)
    vnode = await cache.status(VOLUME, FILE)
    calls = client.count("status")
    for _ in range(1000):
        cache.break_callback(ELSEWHERE, [FILE])
    assert not vnode.valid(trio.current_time())
    await cache.status(VOLUME, FILE)
    assert client.count("status") == calls + 1


def test_a_flood_of_breaks_during_a_fetch_is_bounded() -> None:
    log = BreakLog()
    ticket = log.begin()
    for number in range(100_000):
        log.note(fid(2 * number + 2))
    assert len(log._breaks) <= 4096
    assert log.broken_since(ticket, FILE), "what was forgotten counts against it"
    log.end()
    assert not log._breaks


async def test_an_impossible_size_is_not_kept_as_long_as_was_promised(
    autojump_clock: object,
) -> None:
    client = FakeClient(Line(rtt=0.002))
    where = client.put_directory(fid(5), [(b"name", 2, 1)])
    cache = make_cache(client)
    client.files[where].size = 1 << 33  # nobody tells when it is mended
    with pytest.raises(DataCorrupt):
        await cache.directory(VOLUME, where)
    client.files[where].size = None
    assert (await cache.directory(VOLUME, where)).find(b"name") == (2, 1)
