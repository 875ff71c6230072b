"""Clients as a server knows them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from afsfuse.democell import DemoCell, hosts
from afsfuse.democell.trees import plant
from afsfuse.interfaces import fileserver as fs
from afsfuse.interfaces.common import Fid
from rxrpc import Endpoint
from tests.cell.raw import RawClient
from tests.cell.site import InProcess, in_process, raw_client

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from trio.testing import MockClock


@pytest.fixture
async def site() -> AsyncIterator[InProcess]:
    cell = DemoCell("test.afs", ["192.0.2.11"])
    plant(cell.create_volume("data"), {b"%d" % n: b"" for n in range(60)})
    async with in_process(cell) as started:
        yield started


def fids(site: InProcess) -> list[Fid]:
    volume = site.cell.volume("data")
    return [
        Fid(volume.id, vnode, unique)
        for name, vnode, unique in volume.root.directory
        if name not in (b".", b"..")
    ]


async def test_a_client_without_a_callback_service_is_promised_nothing(
    site: InProcess, autojump_clock: MockClock
) -> None:
    endpoint = site.endpoint()
    async with trio.open_nursery() as nursery:
        await nursery.start(endpoint.run)
        server = endpoint.connect(site.server(1), fs.SERVICE_ID)
        reply = await server.call(fs.FETCH_STATUS, fs.FidArgs(fids(site)[0]))
        assert reply.callback.type == fs.CallBackType.DROPPED
        nursery.cancel_scope.cancel()


async def test_a_client_that_was_started_anew_has_no_promises(
    site: InProcess, autojump_clock: MockClock
) -> None:
    network, table = site.network, site.cell.servers["fs1"].hosts
    address = ("192.0.2.77", 7001)
    for expected in (1, 1):
        async with trio.open_nursery() as nursery:
            client = RawClient(Endpoint(socket=network.socket(address)))
            await nursery.start(client.endpoint.run)
            client.use(site.server(1))
            await client.status(fids(site)[0])
            assert (client.resets, table.promises, len(table)) == (1, expected, 1)
            nursery.cancel_scope.cancel()


async def test_a_client_that_has_moved_is_known_by_its_uuid(
    site: InProcess, autojump_clock: MockClock
) -> None:
    table = site.cell.servers["fs1"].hosts
    async with raw_client(site) as before, raw_client(site) as after:
        await before.status(fids(site)[0])
        after.uuid = before.uuid
        await after.status(fids(site)[1])
        assert (table.promises, len(table)) == (1, 1)


async def test_many_breaks_go_in_parts(site: InProcess, autojump_clock: MockClock) -> None:
    async with raw_client(site) as client:
        every = fids(site)
        for at in range(0, len(every), 30):
            await client.call(fs.INLINE_BULK_STATUS, fs.FidsArgs(tuple(every[at : at + 30])))
        await site.cell.servers["fs1"].hosts.break_promises(every)
        assert set(client.broken) == set(every)
        assert len(client.broken) == len(every)


async def test_a_client_that_does_not_answer_is_reset_when_it_calls(
    site: InProcess, autojump_clock: MockClock
) -> None:
    async with raw_client(site) as silent, raw_client(site) as writer:
        file = fids(site)[0]
        await silent.status(file)
        address = silent.endpoint.local_address
        site.network.partition(address, site.server(1))
        begin = trio.current_time()
        await writer.store(file, b"x")
        assert trio.current_time() - begin < hosts.CALL_SECONDS + 1
        site.network.heal()
        assert (silent.resets, silent.broken) == (1, [])
        await silent.status(file)
        assert silent.resets == 2


async def test_promises_end_by_themselves(site: InProcess, autojump_clock: MockClock) -> None:
    async with raw_client(site) as writer, raw_client(site) as reader:
        file = fids(site)[0]
        reply = await reader.call(fs.FETCH_STATUS, fs.FidArgs(file))
        assert reply.callback.expiration == 14_400
        await trio.sleep(reply.callback.expiration + 1)
        await writer.store(file, b"x")
        assert reader.broken == []


async def test_there_is_a_bound_on_clients_and_promises(
    site: InProcess, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hosts, "MAX_PROMISES", 5)
    monkeypatch.setattr(hosts, "MAX_HOSTS", 2)
    table = site.cell.servers["fs1"].hosts
    async with raw_client(site) as first, raw_client(site) as second, raw_client(site) as third:
        replies = [await first.call(fs.FETCH_STATUS, fs.FidArgs(fid)) for fid in fids(site)[:7]]
        assert all(reply.callback.expiration for reply in replies)
        assert (first.resets, table.promises) == (2, 2)
        await second.status(fids(site)[0])
        await third.status(fids(site)[0])
        assert len(table) == 2
        assert table.promises == 2


async def test_promises_that_ended_make_room(
    site: InProcess, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hosts, "MAX_PROMISES", 5)
    table = site.cell.servers["fs1"].hosts
    async with raw_client(site) as client:
        *old, young, last = fids(site)[:6]
        for fid in old:
            reply = await client.call(fs.FETCH_STATUS, fs.FidArgs(fid))
        await trio.sleep(reply.callback.expiration)
        await client.status(young)
        await client.status(last)
        assert (client.resets, table.promises) == (1, 2)


async def test_a_client_that_misses_its_reset_has_another(
    site: InProcess, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hosts, "MAX_PROMISES", 5)
    table = site.cell.servers["fs1"].hosts
    async with raw_client(site) as client:
        for fid in fids(site)[:5]:
            await client.status(fid)
        monkeypatch.setattr(hosts, "CALL_SECONDS", 0.0)
        await client.status(fids(site)[5])
        assert client.resets == 1
        monkeypatch.undo()
        await client.status(fids(site)[6])
        assert (client.resets, table.promises) == (2, 1)


async def test_a_lock_ends_by_itself(site: InProcess, autojump_clock: MockClock) -> None:
    async with raw_client(site) as client:
        file = fids(site)[0]
        lock = fs.SetLockArgs(file, fs.LockType.WRITE)
        await client.call(fs.SET_LOCK, lock)
        await trio.sleep(fs.LOCK_SECONDS - 10)
        assert await client.refusal(fs.SET_LOCK, lock) == "UAEAGAIN"
        await client.call(fs.EXTEND_LOCK, fs.FidArgs(file))
        await trio.sleep(fs.LOCK_SECONDS - 10)
        assert await client.refusal(fs.SET_LOCK, lock) == "UAEAGAIN"
        await trio.sleep(20)
        assert (await client.status(file)).lock_count == 0
        await client.call(fs.SET_LOCK, lock)
