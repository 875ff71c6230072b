"""The facade: breaks of all kinds, giving up, what `cmdebug` is told, suspended machines."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING
from uuid import UUID

import pytest
import trio

from afsfuse.cell.servers import FileServer
from afsfuse.errors import AfsError, DataCorrupt, ServerUnreachable
from afsfuse.interfaces.fileserver import Fid
from afsfuse.model import FileKind, VolumeType
from tests.unit.afsfuse.cache.fakes import (
    ADDRESS,
    VOLUME_ID,
    FakeClient,
    Line,
    Listener,
    StoredFile,
    fid,
    make_cache,
    make_volume,
)
from tests.unit.afsfuse.cache.reads import BIG, FILE, running

if TYPE_CHECKING:
    from trio.testing import MockClock

    from afsfuse.cache import CacheManager, Vnode

VOLUME = make_volume()


async def filled(client: FakeClient, count: int = 5) -> tuple[CacheManager, Listener, list[Vnode]]:
    listener = Listener()
    cache = make_cache(client, listener=listener)
    vnodes = []
    for number in range(2, 2 + 2 * count, 2):
        client.put(fid(number), b"x" * number)
        vnodes.append(await cache.status(VOLUME, fid(number)))
    return cache, listener, vnodes


async def test_a_break_names_vnodes(autojump_clock: MockClock) -> None:
    cache, listener, vnodes = await filled(FakeClient())
    broken = cache.break_callback(ADDRESS, [fid(2), fid(6), fid(1000), Fid(99, 2, 1)])
    assert broken == [vnodes[0], vnodes[2]]
    assert listener.broken == broken
    assert cache.break_callback(ADDRESS, [fid(2)]) == []  # it had no promise any more
    assert vnodes[1].valid(trio.current_time())
    assert cache.statistics().breaks == 2


async def test_a_break_of_vnode_zero_is_one_of_the_volume(autojump_clock: MockClock) -> None:
    cache, _, vnodes = await filled(FakeClient())
    other = make_volume(77)
    vnodes.append(await cache.status(other, (await _put(cache, fid(2, volume=77)))))
    assert cache.break_callback(ADDRESS, [Fid(VOLUME_ID, 0, 0)]) == vnodes[:-1]
    assert vnodes[-1].valid(trio.current_time())


async def _put(cache: CacheManager, where: Fid) -> Fid:
    client = cache._client
    assert isinstance(client, FakeClient)
    client.put(where, b"x")
    return where


@pytest.mark.parametrize("by", ["address", "uuid", "stranger"])
async def test_a_server_s_restart_ends_its_promises(autojump_clock: MockClock, by: str) -> None:
    client = FakeClient()
    cache, _, vnodes = await filled(client)
    uuid = client.server.uuid if by == "uuid" else None
    address = ADDRESS if by == "address" else ("203.0.113.9", 7000)
    assert cache.break_server(address, uuid) == ([] if by == "stranger" else vnodes)
    assert cache.statistics().server_breaks == 1


async def test_another_server_of_a_volume_ends_the_promises_of_the_one_before(
    autojump_clock: MockClock,
) -> None:
    client = FakeClient()
    cache, _, vnodes = await filled(client)
    elsewhere = await cache.status(make_volume(77), await _put(cache, fid(2, volume=77)))
    cache.server_changed(VOLUME, FileServer("test.afs", UUID(int=9), 1, ()))
    assert all(vnode.valid(trio.current_time()) for vnode in vnodes)
    cache.server_changed(VOLUME, client.server)
    assert not any(vnode.valid(trio.current_time()) for vnode in vnodes)
    assert elsewhere.valid(trio.current_time())


REPLICA = make_volume(type=VolumeType.RO)


async def replica(
    client: FakeClient, count: int = 5, listener: Listener | None = None
) -> tuple[CacheManager, list[Vnode]]:
    """A read-only volume of which some files are known, one call for each."""
    cache = make_cache(client, listener=listener)
    vnodes = []
    for number in range(2, 2 + 2 * count, 2):
        client.put(fid(number), b"x" * number)
        vnodes.append(await cache.status(REPLICA, fid(number)))
    client.calls.clear()
    return cache, vnodes


@pytest.mark.parametrize("how", ["break", "restart", "moved", "end"])
async def test_one_call_revalidates_a_volume_that_is_the_same(
    autojump_clock: MockClock, how: str
) -> None:
    client = FakeClient()
    cache, vnodes = await replica(client)
    match how:
        case "break":
            cache.break_callback(ADDRESS, [Fid(VOLUME_ID, 0, 0)])
        case "restart":
            cache.break_server(ADDRESS)
        case "moved":
            cache.promises_lost(client.server)
        case "end":
            await trio.sleep(86400)
    assert not any(vnode.valid(trio.current_time()) for vnode in vnodes)
    for vnode in vnodes:
        assert (await cache.status(REPLICA, vnode.fid)).valid(trio.current_time())
    assert len(client.calls) == 1
    cache.break_callback(ADDRESS, [Fid(VOLUME_ID, 0, 0)])  # and all promises are broken together
    await cache.status(REPLICA, vnodes[3].fid)
    assert len(client.calls) == 2


async def test_after_a_release_each_file_is_asked_for(autojump_clock: MockClock) -> None:
    client = FakeClient()
    cache, vnodes = await replica(client)
    client.write(fid(4), b"of the release")
    client.creation_time += 100
    cache.break_callback(ADDRESS, [Fid(VOLUME_ID, 0, 0)])
    for vnode in vnodes:
        await cache.status(REPLICA, vnode.fid)
    assert len(client.calls) == len(vnodes)
    assert client.releases == [REPLICA]  # its record is asked for again, once
    assert vnodes[1].status.length == len(b"of the release")
    cache.break_all()
    for vnode in vnodes:
        await cache.status(REPLICA, vnode.fid)
    assert len(client.calls) == len(vnodes) + 1


async def test_of_a_young_instance_nothing_is_concluded(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its time is in seconds, and two releases may fall into one."""
    client = FakeClient()
    client.creation_time = int(time.time())
    cache, vnodes = await replica(client)
    cache.break_callback(ADDRESS, [Fid(VOLUME_ID, 0, 0)])
    for vnode in vnodes:
        await cache.status(REPLICA, vnode.fid)
    assert len(client.calls) == len(vnodes)


async def test_a_writable_volume_s_promises_are_for_one_file(autojump_clock: MockClock) -> None:
    client = FakeClient()
    cache, _, vnodes = await filled(client)
    client.calls.clear()
    cache.break_all()
    for vnode in vnodes:
        await cache.status(VOLUME, vnode.fid)
    assert len(client.calls) == len(vnodes)


async def test_a_file_that_is_gone_stays_gone(autojump_clock: MockClock) -> None:
    client = FakeClient()
    cache, vnodes = await replica(client)
    cache.break_all()
    del client.files[vnodes[0].fid]
    with pytest.raises(AfsError):
        await cache.status(REPLICA, vnodes[0].fid)
    await cache.status(REPLICA, vnodes[1].fid)
    with pytest.raises(AfsError):
        await cache.status(REPLICA, vnodes[0].fid)


async def test_all_promises_end_when_asked(autojump_clock: MockClock) -> None:
    cache, _, vnodes = await filled(FakeClient())
    assert cache.break_all() == vnodes


async def test_giving_up_tells_each_server_once(autojump_clock: MockClock) -> None:
    client = FakeClient(Line(rtt=0.01))
    cache, listener, vnodes = await filled(client)
    await cache.give_up_all()
    assert client.given_up == 1
    assert listener.broken == []
    assert cache.statistics().revalidation_queue == 0
    assert not any(vnode.valid(trio.current_time()) for vnode in vnodes)
    await cache.give_up_all()
    assert client.given_up == 1


@pytest.mark.parametrize("how", ["silent", "refuses"])
async def test_giving_up_does_not_wait_for_ever(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    client = FakeClient()
    cache, _, _ = await filled(client)

    async def fail(server: object) -> None:
        if how == "silent":
            await trio.sleep_forever()
        raise ServerUnreachable("no answer")

    monkeypatch.setattr(client, "give_up_all_callbacks", fail)
    began = trio.current_time()
    await cache.give_up_all()
    assert trio.current_time() - began <= 5.0


async def test_entries_for_cmdebug(autojump_clock: MockClock) -> None:
    client = FakeClient()
    cache, _listener, _vnodes = await filled(client, 3)
    entry = cache.entries(0)
    assert entry is not None
    assert (entry.fid, entry.cell, entry.length, entry.data_version) == (fid(2), "test.afs", 2, 1)
    assert entry.server == ADDRESS[0]
    assert entry.expires_in == pytest.approx(3600)
    assert entry.held
    assert not entry.read_only
    assert not entry.mount_point
    cache.break_callback(ADDRESS, [fid(2)])
    entry = cache.entries(0)
    assert entry is not None
    assert entry.server is None
    assert entry.expires_in == 0.0
    assert cache.entries(2) is not None
    assert cache.entries(3) is None
    assert cache.entries(-1) is None


async def test_entries_of_other_kinds(autojump_clock: MockClock) -> None:
    client = FakeClient()
    cache = make_cache(client)
    client.put(fid(2), b"#root.cell.", FileKind.MOUNTPOINT)
    await cache.status(make_volume(type=VolumeType.RO), fid(2))
    entry = cache.entries(0)
    assert entry is not None
    assert entry.read_only
    assert entry.mount_point
    assert not entry.held


async def test_a_walk_over_entries_sees_one_state(autojump_clock: MockClock) -> None:
    client = FakeClient()
    cache, _, _ = await filled(client, 3)
    assert cache.entries(0) is not None
    client.put(fid(100), b"")
    await cache.status(VOLUME, fid(100))
    assert cache.entries(3) is None  # it came after the walk began
    assert cache.entries(0) is not None
    assert cache.entries(3) is not None


async def test_dropped_vnodes_take_everything_with_them(autojump_clock: MockClock) -> None:
    client = FakeClient()
    listener = Listener(all=False)
    cache = make_cache(client, listener=listener, vnode_limit=10)
    for number in range(2, 102, 2):
        client.files[fid(number)] = StoredFile(size=100_000)
        stream = cache.open_stream(await cache.status(VOLUME, fid(number)))
        await cache.read(VOLUME, fid(number), 0, 100_000, stream)
        cache.close_stream(stream)
        client.put_directory(fid(number + 1), [])
        await cache.directory(VOLUME, fid(number + 1))
    statistics = cache.statistics()
    assert statistics.vnodes <= 11
    assert statistics.data_bytes <= 11 * 100_000
    assert statistics.directories <= 11
    assert len(listener.dropped) >= 89
    assert all(vnode.data is None and vnode.directory is None for vnode in listener.dropped)


async def test_promises_end_when_the_machine_has_slept(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = FakeClient()
    cache, _, vnodes = await filled(client)
    slept = 0.0
    boot_time = time.clock_gettime
    monkeypatch.setattr(time, "clock_gettime", lambda clock: boot_time(clock) + slept)
    async with trio.open_nursery() as nursery:
        await nursery.start(cache.run)
        await trio.sleep(30)
        assert all(vnode.valid(trio.current_time()) for vnode in vnodes)
        slept = 7200.0
        client.promising = False
        await trio.sleep(3)
        assert not any(vnode.valid(trio.current_time()) for vnode in vnodes)
        assert client.count("slept") == 1
        nursery.cancel_scope.cancel()


async def test_links_are_read_once_for_each_version(autojump_clock: MockClock) -> None:
    client = FakeClient(Line(rtt=0.01))
    client.put(FILE, b"target", FileKind.SYMLINK)
    client.put(BIG, b"#volume.", FileKind.MOUNTPOINT)
    async with running(client) as cache:
        for _ in range(3):
            assert await cache.readlink(VOLUME, FILE) == b"target"
            assert await cache.readlink(VOLUME, BIG) == b"#volume."
        assert client.count("data") == 2
        assert cache.statistics().data_bytes == 0
        client.write(FILE, b"other target")
        await trio.sleep(1)
        assert await cache.readlink(VOLUME, FILE) == b"other target"


async def test_an_endless_link_is_refused(autojump_clock: MockClock) -> None:
    client = FakeClient()
    client.put(FILE, b"x" * 1025, FileKind.SYMLINK)
    with pytest.raises(DataCorrupt, match="1025"):
        await make_cache(client).readlink(VOLUME, FILE)
