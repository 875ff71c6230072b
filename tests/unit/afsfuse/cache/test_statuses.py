"""Statuses: sharing, bulk, order of replies, nonsense from servers, volumes replaced."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest
import trio

from afsfuse.cache import CacheManager, Vnode
from afsfuse.errors import AfsError, DataCorrupt, ServerUnreachable, StaleInode
from afsfuse.fileserver.replies import ChangeReply, Promise, StatusReply
from afsfuse.interfaces.fileserver import Fid, VolSync
from afsfuse.model import FileKind, Status, VolumeType
from tests.unit.afsfuse.cache.fakes import (
    ADDRESS,
    VOLUME_ID,
    FakeClient,
    Line,
    Listener,
    fid,
    make_cache,
    make_status,
    make_volume,
)

if TYPE_CHECKING:
    from trio.testing import MockClock

VOLUME = make_volume()
ROOT = fid(1)


@pytest.fixture
def client() -> FakeClient:
    """A server that is 10 ms away."""
    client = FakeClient(Line(rtt=0.01))
    client.put_directory(ROOT, [])
    for number in range(2, 300, 2):
        client.put(fid(number), b"x" * number)
    return client


async def test_a_valid_promise_saves_the_call(
    autojump_clock: MockClock, client: FakeClient
) -> None:
    cache = make_cache(client)
    vnode = await cache.status(VOLUME, fid(2))
    assert vnode.status.length == 2
    assert await cache.status(VOLUME, fid(2)) is vnode
    assert cache.peek(VOLUME, fid(2)) is vnode
    assert client.count("status") == 1


async def test_a_promise_that_ends_soon_does_not(
    autojump_clock: MockClock, client: FakeClient
) -> None:
    cache = make_cache(client)
    await cache.status(VOLUME, fid(2))
    await trio.sleep(3600 - 10.02)
    await cache.status(VOLUME, fid(2))
    assert client.count("status") == 1
    await trio.sleep(0.02)
    await cache.status(VOLUME, fid(2))
    assert client.count("status") == 2


async def test_a_promise_counts_from_before_the_call(
    autojump_clock: MockClock, client: FakeClient
) -> None:
    cache = make_cache(client)
    began = trio.current_time()
    vnode = await cache.status(VOLUME, fid(2))
    assert vnode.expires == pytest.approx(began + 3600)


async def test_callers_at_the_same_time_share_one_call(
    autojump_clock: MockClock, client: FakeClient
) -> None:
    cache = make_cache(client)
    found = []

    async def ask() -> None:
        found.append(await cache.status(VOLUME, fid(2)))

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(ask)
    assert client.count("status") == 1
    assert len(set(map(id, found))) == 1
    assert cache.statistics().status_shared == 19


async def test_callers_at_the_same_time_share_one_error(
    autojump_clock: MockClock, client: FakeClient
) -> None:
    client.failures[fid(2)] = ServerUnreachable("no answer", server="192.0.2.1")
    cache = make_cache(client)
    errors = []

    async def ask() -> None:
        try:
            await cache.status(VOLUME, fid(2))
        except AfsError as exc:
            errors.append(exc)

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(ask)
    assert client.count("status") == 1
    assert [exc.errno for exc in errors] == [errno.ETIMEDOUT] * 5
    assert len(set(map(id, errors))) == 5  # each has a traceback of its own


async def test_a_cancelled_leader_does_not_hurt_those_who_joined(
    autojump_clock: MockClock, client: FakeClient
) -> None:
    cache = make_cache(client)
    found: list[Vnode] = []

    async def leader(task_status: trio.TaskStatus[trio.CancelScope]) -> None:
        with trio.CancelScope() as scope:
            task_status.started(scope)
            await cache.status(VOLUME, fid(2))

    async def follower() -> None:
        found.append(await cache.status(VOLUME, fid(2)))

    async with trio.open_nursery() as nursery:
        scope = await nursery.start(leader)
        nursery.start_soon(follower)
        nursery.start_soon(follower)
        await trio.sleep(0.005)
        scope.cancel()
    assert len(found) == 2
    assert client.count("status") == 2


async def test_who_asks_after_a_break_is_not_answered_from_before_it(
    autojump_clock: MockClock, client: FakeClient
) -> None:
    cache = make_cache(client)
    lengths: list[int] = []

    async def ask() -> None:
        lengths.append((await cache.status(VOLUME, fid(2))).status.length)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)  # the server answers after 5 ms, the answer is here after 10 ms
        await trio.sleep(0.006)
        client.files[fid(2)].data = b"longer than it was"
        client.files[fid(2)].version += 1
        cache.break_callback(ADDRESS, [fid(2)])
        nursery.start_soon(ask)
    assert sorted(lengths) == [2, 18]
    assert client.count("status") == 2


async def test_a_break_in_flight_voids_the_promise(
    autojump_clock: MockClock, client: FakeClient
) -> None:
    for target in (fid(2), Fid(VOLUME_ID, 0, 0)):
        cache = make_cache(client)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cache.status, VOLUME, fid(2))
            await trio.sleep(0.001)
            cache.break_callback(ADDRESS, [target])
        vnode = cache.peek(VOLUME, fid(2))
        assert vnode is not None
        assert not vnode.valid(trio.current_time())
        vnode = await cache.status(VOLUME, fid(2))
        assert vnode.valid(trio.current_time())


async def test_a_server_s_restart_in_flight_voids_the_promise(
    autojump_clock: MockClock, client: FakeClient
) -> None:
    for name in ("address", "uuid"):
        cache = make_cache(client)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cache.status, VOLUME, fid(2))
            await trio.sleep(0.001)
            if name == "uuid":
                cache.break_server(("203.0.113.1", 7000), client.server.uuid)
            else:
                cache.break_server(ADDRESS)
        assert not (await _peek(cache)).valid(trio.current_time())


async def _peek(cache: CacheManager) -> Vnode:
    vnode = cache.peek(VOLUME, fid(2))
    assert vnode is not None
    return vnode


async def test_bulk_status_asks_for_fifty_with_the_directory_first(
    autojump_clock: MockClock, client: FakeClient
) -> None:
    cache = make_cache(client)
    await cache.status(VOLUME, fid(4))
    fids = [fid(number) for number in range(2, 300, 2)]
    vnodes = await cache.statuses(VOLUME, ROOT, fids)
    assert [vnode.fid for vnode in vnodes if isinstance(vnode, Vnode)] == fids
    batches = [call[1] for call in client.calls if call[0] == "bulk"]
    assert [len(batch) for batch in batches] == [50, 50, 50, 2]
    assert all(batch[0] == ROOT for batch in batches)
    assert all(fid(4) not in batch for batch in batches)
    assert client.most_in_flight == 4
    assert all(isinstance(v, Vnode) and v.valid(trio.current_time()) for v in vnodes)


async def test_bulk_status_of_what_is_known_costs_nothing(
    autojump_clock: MockClock, client: FakeClient
) -> None:
    cache = make_cache(client)
    fids = [fid(2), fid(4), fid(2)]
    first = await cache.statuses(VOLUME, ROOT, fids)
    assert first[0] is first[2]
    assert await cache.statuses(VOLUME, ROOT, fids) == first
    assert await cache.statuses(VOLUME, ROOT, []) == []
    assert client.count("bulk") == 1


async def test_one_bad_file_does_not_spoil_the_batch(
    autojump_clock: MockClock, client: FakeClient
) -> None:
    cache = make_cache(client)
    del client.files[fid(4)]
    client.files[fid(6)].kind = FileKind.DIRECTORY  # with an even vnode number
    outcomes = await cache.statuses(VOLUME, ROOT, [fid(2), fid(4), fid(6), fid(8)])
    assert isinstance(outcomes[0], Vnode)
    assert isinstance(outcomes[1], StaleInode)
    assert isinstance(outcomes[2], DataCorrupt)
    assert isinstance(outcomes[3], Vnode)


async def test_a_bulk_call_that_fails_is_an_outcome_for_each_file(
    autojump_clock: MockClock, client: FakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*args: object) -> list[StatusReply | AfsError]:
        raise ServerUnreachable("no answer")

    monkeypatch.setattr(client, "bulk_status", fail)
    cache = make_cache(client)
    outcomes = await cache.statuses(VOLUME, ROOT, [fid(2), fid(4)])
    assert all(isinstance(outcome, ServerUnreachable) for outcome in outcomes)


async def test_a_missed_break_of_the_directory_is_noticed_by_a_bulk(
    autojump_clock: MockClock, client: FakeClient
) -> None:
    cache = make_cache(client, listener=Listener())
    root = await cache.status(VOLUME, ROOT)
    client.promised.clear()  # the break gets lost
    client.put_directory(ROOT, [(b"new", 2, 1)])
    await cache.statuses(VOLUME, ROOT, [fid(2)])
    assert root.data_version == 2


async def test_no_promise_means_a_call_each_time_but_never_a_loop(
    autojump_clock: MockClock, client: FakeClient
) -> None:
    client.promising = False
    cache = make_cache(client)
    for _ in range(3):
        vnode = await cache.status(VOLUME, fid(2))
        assert not vnode.valid(trio.current_time())
    assert client.count("status") == 3


class Replies:
    """Applies statuses by hand, to choose their order."""

    def __init__(self, client: FakeClient, type: VolumeType = VolumeType.RW) -> None:
        self.listener = Listener()
        self.cache = make_cache(client, listener=self.listener)
        self.keeper = self.cache._statuses
        self.log = self.cache._log
        self.volume = make_volume(type=type)
        self.server = client.server

    def apply(self, status: Status, ticket: int, created: int = 1000, number: int = 2) -> Vnode:
        promise = Promise(trio.current_time() + 3600, self.server)
        reply = StatusReply(status, promise, VolSync(created), self.server)
        return self.keeper.apply(self.volume, fid(number), reply, ticket)


async def test_late_replies_do_not_move_a_version_back(
    autojump_clock: MockClock, client: FakeClient
) -> None:
    replies = Replies(client)
    older, newer = replies.log.begin(), replies.log.begin()
    vnode = replies.apply(make_status(version=5, length=50), newer)
    replies.apply(make_status(version=4, length=40), older)
    assert vnode.status.length == 50
    assert replies.listener.data == []


async def test_a_version_moves_back_when_the_server_insists(
    autojump_clock: MockClock, client: FakeClient
) -> None:
    replies = Replies(client)
    vnode = replies.apply(make_status(version=5), replies.log.begin())
    replies.apply(make_status(version=4), replies.log.begin())
    assert vnode.data_version == 4
    assert replies.listener.data == [vnode]


async def test_attributes_of_one_version_are_those_asked_for_last(
    autojump_clock: MockClock, client: FakeClient
) -> None:
    replies = Replies(client)
    older, newer = replies.log.begin(), replies.log.begin()
    vnode = replies.apply(make_status()._replace(mode=0o600), newer)
    replies.apply(make_status()._replace(mode=0o644), older)
    assert vnode.status.mode == 0o600
    replies.apply(make_status()._replace(mode=0o640), replies.log.begin())
    assert vnode.status.mode == 0o640
    assert replies.listener.data == []


@pytest.mark.parametrize(("number", "kind"), [(2, FileKind.DIRECTORY), (3, FileKind.FILE)])
async def test_a_kind_that_the_vnode_number_forbids(
    autojump_clock: MockClock, client: FakeClient, number: int, kind: FileKind
) -> None:
    replies = Replies(client)
    with pytest.raises(DataCorrupt, match="a server says"):
        replies.apply(make_status(kind), replies.log.begin(), number=number)
    assert len(replies.cache._table) == 0


async def test_a_file_does_not_become_a_symlink(
    autojump_clock: MockClock, client: FakeClient
) -> None:
    replies = Replies(client)
    vnode = replies.apply(make_status(), replies.log.begin())
    with pytest.raises(DataCorrupt, match="another kind"):
        replies.apply(make_status(FileKind.SYMLINK), replies.log.begin())
    assert vnode.status.kind is FileKind.FILE
    link = replies.apply(make_status(FileKind.SYMLINK), replies.log.begin(), number=4)
    replies.apply(make_status(FileKind.MOUNTPOINT), replies.log.begin(), number=4)
    assert link.status.kind is FileKind.MOUNTPOINT  # a matter of its mode only


async def test_a_release_ends_promises_but_keeps_data(
    autojump_clock: MockClock, client: FakeClient
) -> None:
    replies = Replies(client, VolumeType.RO)
    vnode = replies.apply(make_status(), replies.log.begin())
    vnode.link = (1, b"kept")
    replies.apply(make_status(), replies.log.begin(), created=2000, number=4)
    assert not vnode.valid(trio.current_time())
    assert vnode.link == (1, b"kept")
    assert replies.listener.broken == [vnode]
    assert replies.listener.data == []


@pytest.mark.parametrize(("type", "kept"), [(VolumeType.RO, False), (VolumeType.RW, True)])
async def test_a_replica_of_another_time_is_of_a_volume_that_was_restored(
    autojump_clock: MockClock, client: FakeClient, type: VolumeType, kept: bool
) -> None:
    """Nobody can set a time there. In a read-write volume that is what `touch` does."""
    replies = Replies(client, type)
    vnode = replies.apply(make_status(), replies.log.begin())
    vnode.link = (1, b"older")
    status = make_status()
    replies.apply(status._replace(mtime=status.mtime + 1), replies.log.begin())
    assert (vnode.link is not None) is kept
    assert replies.listener.data == ([] if kept else [vnode])
    assert vnode.valid(trio.current_time())


@pytest.mark.parametrize(
    ("type", "created"), [(VolumeType.RW, 2000), (VolumeType.RW, 500), (VolumeType.RO, 500)]
)
async def test_a_replaced_volume_loses_its_data(
    autojump_clock: MockClock, client: FakeClient, type: VolumeType, created: int
) -> None:
    replies = Replies(client, type)
    vnode = replies.apply(make_status(), replies.log.begin())
    vnode.link = (1, b"gone")
    replies.apply(make_status(), replies.log.begin(), created=created, number=4)
    assert not vnode.valid(trio.current_time())
    assert vnode.link is None
    assert replies.listener.data == [vnode]


async def test_a_late_reply_from_before_a_release_scrubs_nothing(
    autojump_clock: MockClock, client: FakeClient
) -> None:
    replies = Replies(client, VolumeType.RO)
    early, later = replies.log.begin(), replies.log.begin()
    vnode = replies.apply(make_status(), later, created=2000)
    replies.apply(make_status(), early, created=1000, number=4)
    assert vnode.valid(trio.current_time())
    replies.apply(make_status(), replies.log.begin(), created=0, number=4)
    assert vnode.valid(trio.current_time())


@pytest.mark.parametrize("type", [VolumeType.RO, VolumeType.RW])
async def test_a_late_reply_from_before_a_release_is_not_believed_beside_what_is_new(
    autojump_clock: MockClock, client: FakeClient, type: VolumeType
) -> None:
    """Of files that were not known, and with versions that had been counted further."""
    replies = Replies(client, type)
    early, later = replies.log.begin(), replies.log.begin()
    known = replies.apply(make_status(version=3), later, created=2000)
    replies.apply(make_status(version=7), early, created=1000)
    assert known.data_version == 3
    assert known.valid(trio.current_time())
    other = replies.apply(make_status(version=7), early, created=1000, number=4)
    assert not other.valid(trio.current_time())
    replies.apply(make_status(version=2), replies.log.begin(), created=2000, number=4)
    assert other.data_version == 2
    assert other.valid(trio.current_time())


async def test_a_file_that_is_gone_is_valid_no_more(
    autojump_clock: MockClock, client: FakeClient
) -> None:
    cache = make_cache(client)
    vnode = await cache.status(VOLUME, fid(2))
    await trio.sleep(3600)
    del client.files[fid(2)]
    with pytest.raises(StaleInode):
        await cache.status(VOLUME, fid(2))
    assert not vnode.valid(trio.current_time())


def changed(cache: CacheManager, vnode: Vnode, version: int, ticket: int | None = None) -> Vnode:
    """A reply to a change of ours says that the file has this version."""
    log = cache._log
    ticket = log.begin() if ticket is None else ticket
    status = vnode.status._replace(data_version=version)
    assert vnode.server is not None
    sync = VolSync(cache._table.shelf(VOLUME).created)
    reply = ChangeReply(status, sync, vnode.server)
    try:
        return cache._statuses.changed(VOLUME, vnode.fid, reply, ticket)
    finally:
        log.end()


async def test_our_own_change_keeps_our_promise_and_tells_nobody(
    autojump_clock: MockClock, client: FakeClient
) -> None:
    listener = Listener()
    cache = make_cache(client, listener=listener)
    vnode = await cache.status(VOLUME, fid(2))
    version, expires = vnode.data_version, vnode.expires
    assert changed(cache, vnode, version + 1) is vnode
    assert (vnode.data_version, vnode.expires) == (version + 1, expires)
    assert (listener.broken, listener.data, listener.names) == ([], [], [])


async def test_our_own_change_gives_no_promise_back(
    autojump_clock: MockClock, client: FakeClient
) -> None:
    cache = make_cache(client)
    vnode = await cache.status(VOLUME, fid(2))
    cache.break_callback(ADDRESS, [vnode.fid])
    changed(cache, vnode, vnode.data_version + 1)
    assert not vnode.valid(trio.current_time())


async def test_a_late_reply_to_a_change_does_not_undo_a_newer_status(
    autojump_clock: MockClock, client: FakeClient
) -> None:
    cache = make_cache(client)
    vnode = await cache.status(VOLUME, fid(2))
    ticket = cache._log.begin()
    changed(cache, vnode, vnode.data_version + 5)
    newest = vnode.data_version
    changed(cache, vnode, newest - 3, ticket)
    assert vnode.data_version == newest


async def test_a_change_of_what_is_not_in_the_table_brings_no_promise(
    autojump_clock: MockClock, client: FakeClient
) -> None:
    cache = make_cache(client)
    known = await cache.status(VOLUME, fid(2))
    cache._table.remove(known)
    vnode = changed(cache, known, 7)
    assert vnode is cache.peek(VOLUME, fid(2))
    assert (vnode.data_version, vnode.valid(trio.current_time())) == (7, False)


async def test_a_change_that_makes_a_directory_of_a_file_is_refused(
    autojump_clock: MockClock, client: FakeClient
) -> None:
    cache = make_cache(client)
    vnode = await cache.status(VOLUME, fid(2))
    vnode.status = vnode.status._replace(kind=FileKind.DIRECTORY)
    with pytest.raises(DataCorrupt):
        changed(cache, vnode, 2)
