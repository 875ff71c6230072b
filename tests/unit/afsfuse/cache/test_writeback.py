"""Writing and storing: what is called when, and who is told what."""

from __future__ import annotations

import errno
import itertools
from typing import TYPE_CHECKING

import pytest
import trio

from afsfuse.auth.identity import Identity
from afsfuse.cache import ReadState, Vnode
from afsfuse.cache.storing import CALL_SIZE, IN_FLIGHT
from afsfuse.cache.writeback import Writer
from afsfuse.errors import AfsError, NotPermitted, ServerUnreachable
from afsfuse.fileserver.changes import StatusChange
from tests.unit.afsfuse.cache.fakes import Line, Listener, fid
from tests.unit.afsfuse.cache.reads import FILE, VOLUME, pattern, running
from tests.unit.afsfuse.cache.storage import Store, WritableClient

if TYPE_CHECKING:
    from trio.testing import MockClock

    from afsfuse.cache import CacheManager
    from tests.conftest import ExpectedWarnings

ALICE, BOB = Identity(uid=1), Identity(uid=2)
MIB = 1 << 20


def client_with(data: bytes = b"") -> WritableClient:
    client = WritableClient(Line(rtt=0.002))
    client.put(FILE, data)
    return client


class Hand:
    """Somebody who has the file open."""

    def __init__(self, cache: CacheManager, vnode: Vnode, who: Identity = ALICE) -> None:
        self.cache = cache
        self.vnode = vnode
        self.writer = Writer(who)

    def write(self, offset: int, data: bytes) -> None:
        self.cache.writes.write(self.vnode, offset, data, self.writer, lambda: "/file")

    async def wait_and_write(self, offset: int, data: bytes) -> None:
        await self.cache.writes.make_room(self.vnode, len(data), self.writer.who)
        self.write(offset, data)

    def truncate(self, length: int) -> None:
        self.cache.writes.truncate(self.vnode, length, self.writer, lambda: "/file")

    async def settle(self, *, safe: bool = False) -> None:
        await self.cache.writes.settle(self.vnode, self.writer, safe=safe)

    async def read(self) -> bytes:
        return bytes(await self.cache.read(VOLUME, FILE, 0, 1 << 30, ReadState()))


async def hand(cache: CacheManager, who: Identity = ALICE) -> Hand:
    return Hand(cache, await cache.status(VOLUME, FILE), who)


async def test_a_small_file_takes_one_call(autojump_clock: MockClock) -> None:
    client = client_with(b"something longer")
    async with running(client) as cache:
        cache.listener = listener = Listener()
        one = await hand(cache)
        one.truncate(0)
        one.write(0, b"new")
        await one.settle()
        assert client.files[FILE].data == b"new"
        (store,) = client.changes.stores
        assert (store.position, store.size, store.file_length, store.who) == (0, 3, 0, ALICE)
        assert client.changes.statuses == []
        assert one.vnode.dirty is None
        calls = len(client.calls)
        assert await one.read() == b"new"  # what was stored is cached
        assert len(client.calls) == calls
        assert listener.data == []
        assert listener.stored == [(one.vnode, 1)]


async def test_much_data_is_stored_behind_the_writer(autojump_clock: MockClock) -> None:
    client = client_with()
    client.line.rtt = 0.05
    async with running(client, dirty_bytes=64 * MIB, data_bytes=64 * MIB) as cache:
        one = await hand(cache)
        data = pattern(MIB)
        for number in range(20):
            one.write(number * MIB, data)
            await trio.sleep(0.001)
        assert client.changes.stores, "nothing was stored before the end"
        await one.settle()
        assert client.files[FILE].data == data * 20
        assert client.changes.most_in_flight == IN_FLIGHT
        assert {store.size for store in client.changes.stores} == {CALL_SIZE}
        # No store may cut what another one that is served before it has written.
        assert {store.file_length for store in client.changes.stores} == {2**31 - 1}
        assert cache.statistics().store_conflicts == 0
        calls = client.count("data")
        assert await one.read() == data * 20
        assert client.count("data") == calls


async def test_writers_wait_while_too_much_is_not_stored(autojump_clock: MockClock) -> None:
    client = client_with()
    async with running(client, dirty_bytes=8 * MIB) as cache:
        one = await hand(cache)
        most = 0
        for number in range(40):
            await one.wait_and_write(number * MIB, bytes(MIB))
            most = max(most, cache.writes.used)
        await one.settle()
        assert most <= 8 * MIB
        assert len(client.files[FILE].data) == 40 * MIB
        assert cache.writes.used == 0


@pytest.mark.parametrize("then", ["append", "overwrite", "cut"])
async def test_what_others_do_meanwhile_does_not_end_a_wait(
    then: str, autojump_clock: MockClock
) -> None:
    """Bytes that were written over, or to, before they were stored are still waited for."""
    client = client_with(b"x" * 100)
    client.line.rtt = 1.0
    async with running(client) as cache, trio.open_nursery() as nursery:
        one, two = await hand(cache), await hand(cache)
        one.truncate(0)
        one.write(0, b"0" * 10)
        nursery.start_soon(two.settle)  # cuts the file: nothing else is sent meanwhile
        await trio.sleep(0.1)
        one.write(10, b"1" * 10)

        async def change() -> None:
            await trio.sleep(0.1)
            if then == "append":
                two.write(20, b"2" * 10)
            elif then == "overwrite":
                two.write(5, b"2" * 70_000)
            else:
                two.truncate(5)

        nursery.start_soon(change)
        await one.settle()
        expected = {
            "append": b"0" * 10 + b"1" * 10 + b"2" * 10,
            "overwrite": b"0" * 5 + b"2" * 70_000,
            "cut": b"0" * 5,
        }
        assert client.files[FILE].data == expected[then]


async def test_bytes_on_their_way_that_were_written_over_are_waited_for(
    autojump_clock: MockClock, expected_warnings: ExpectedWarnings
) -> None:
    expected_warnings("cannot be stored, and are kept")
    client = client_with()
    client.line.rtt = 1.0
    client.changes.lose = lambda store: ServerUnreachable("lost") if store.position else None
    async with running(client) as cache:
        one, two = await hand(cache), await hand(cache)
        for offset in (0, 100):  # the second one ends later
            one.write(offset, b"on its way")
            assert one.vnode.dirty is not None
            cache.writes.rush(one.vnode.dirty)
            await trio.sleep(0.1)

        async def write_over() -> None:
            await trio.sleep(0.1)
            two.write(100, b"written over it")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(write_over)
            with pytest.raises(ServerUnreachable):
                await one.settle()
        client.changes.lose = lambda store: None
        await two.settle()
        assert client.files[FILE].data[100:] == b"written over it"


async def test_each_is_told_of_his_own_data(
    autojump_clock: MockClock, expected_warnings: ExpectedWarnings
) -> None:
    expected_warnings("cannot be stored, and are kept")
    client = client_with(bytes(100))

    def refuse(store: Store) -> AfsError | None:
        return NotPermitted("no") if store.who == BOB else None

    client.changes.refuse = refuse
    async with running(client) as cache:
        alice, bob = await hand(cache), await hand(cache, BOB)
        bob.write(10, b"bob")
        alice.write(0, b"alice")
        await alice.settle()
        with pytest.raises(NotPermitted):
            await bob.settle()
        assert client.files[FILE].data[:13] == b"alice" + bytes(8)
        assert (await alice.read())[:13] == b"alice" + bytes(5) + b"bob"
        (left,) = cache.writes.unstored()
        assert (left.who, left.size, left.error) == (BOB, 3, "no")
        with pytest.raises(NotPermitted):  # once more, and at once
            await bob.settle()
        assert not cache.writes.has_room(bob.vnode, 1, BOB)
        assert cache.writes.has_room(alice.vnode, 1, ALICE)
        client.changes.refuse = lambda store: None
        cache.token_changed(BOB, "test.afs")
        await trio.sleep(0.1)
        assert cache.writes.unstored() == []
        assert client.files[FILE].data[10:13] == b"bob"


async def test_what_failed_is_tried_again_less_and_less_often(
    autojump_clock: MockClock, expected_warnings: ExpectedWarnings
) -> None:
    expected_warnings("cannot be stored, and are kept")
    client = client_with()
    times = []

    def refuse(store: Store) -> AfsError:
        times.append(trio.current_time())
        return AfsError("full", errno=errno.ENOSPC)

    client.changes.refuse = refuse
    async with running(client) as cache:
        one = await hand(cache)
        one.write(0, b"data")
        with pytest.raises(AfsError, match="full"):
            await one.settle()
        await trio.sleep(300)
        pauses = [round(later - before) for before, later in itertools.pairwise(times)]
        assert pauses[:8] == [1, 2, 4, 8, 16, 32, 60, 60]
        client.changes.refuse = lambda store: None
        await trio.sleep(61)
        assert client.files[FILE].data == b"data"
        assert cache.writes.unstored() == []


async def write_much(one: Hand) -> None:
    for number in range(100):
        await one.wait_and_write(number * MIB, bytes(MIB))


@pytest.mark.parametrize("passing", [True, False])
async def test_memory_full_of_what_cannot_be_stored_may_pass(
    passing: bool, autojump_clock: MockClock, expected_warnings: ExpectedWarnings
) -> None:
    """If all of it is there for want of a server, a mount with `hard` waits for that."""
    expected_warnings("cannot be stored, and are kept")
    client = client_with()
    other = fid(10)
    client.put(other, b"")
    error = ServerUnreachable("down") if passing else AfsError("quota", errno=errno.EDQUOT)
    client.changes.refuse = lambda store: error.again()
    async with running(client, dirty_bytes=16 * MIB) as cache:
        one = await hand(cache)
        with pytest.raises(AfsError, match=str(error)):
            await write_much(one)
        two = Hand(cache, await cache.status(VOLUME, other), ALICE)
        with pytest.raises(AfsError, match="too much data") as caught:
            await write_much(two)
        assert (caught.value.errno, caught.value.passing) == (errno.ENOSPC, passing)


async def test_a_writer_gets_the_error_of_what_cannot_be_stored(
    autojump_clock: MockClock, expected_warnings: ExpectedWarnings
) -> None:
    expected_warnings("cannot be stored, and are kept")
    client = client_with()
    client.changes.refuse = lambda store: AfsError("quota", errno=errno.EDQUOT)
    async with running(client, dirty_bytes=16 * MIB) as cache:
        one = await hand(cache)
        with pytest.raises(AfsError, match="quota"):
            await write_much(one)
        kept = cache.writes.used
        with pytest.raises(AfsError, match="quota"):
            await one.wait_and_write(200 * MIB, b"more")
        assert cache.writes.used == kept
        client.changes.refuse = lambda store: None
        await trio.sleep(2)
        await one.wait_and_write(0, b"more")
        await one.settle()
        assert client.files[FILE].data[:4] == b"more"


async def test_who_is_interrupted_leaves_the_rest_to_the_background(
    autojump_clock: MockClock,
) -> None:
    client = client_with()
    client.delay = lambda: 5.0
    async with running(client) as cache:
        one = await hand(cache)
        one.write(0, b"data")
        with trio.move_on_after(1) as scope:
            await one.settle()
        assert scope.cancelled_caught
        assert one.writer.wrote
        assert (await one.read()) == b"data"
        await trio.sleep(60)
        assert client.files[FILE].data == b"data"
        assert one.vnode.dirty is None


async def test_fsync_asks_for_the_disk_once(autojump_clock: MockClock) -> None:
    client = client_with()
    async with running(client) as cache:
        one = await hand(cache)
        await one.settle(safe=True)
        assert client.changes.statuses == []  # nothing was ever written
        one.write(0, b"data")
        await one.settle(safe=True)
        assert [store.change.safe for store in client.changes.stores] == [True]
        assert client.changes.statuses == []
        one.write(0, b"more")
        await one.settle()
        await one.settle(safe=True)
        await one.settle(safe=True)
        assert client.changes.statuses == [StatusChange(safe=True)]


async def test_fsync_tells_nothing_of_what_is_stored_meanwhile(autojump_clock: MockClock) -> None:
    client = client_with()
    async with running(client) as cache:
        one = await hand(cache)
        one.write(0, b"data")
        await one.settle()
        client.line.rtt = 5.0
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: one.settle(safe=True))
            await trio.sleep(1)
            client.line.rtt = 0.002
            bob = await hand(cache, BOB)
            bob.write(4, b"more")
            await bob.settle()
            await bob.settle(safe=True)
            assert [change.safe for change in client.changes.statuses] == [True, True]
        await one.settle(safe=True)
        assert len(client.changes.statuses) == 2, "all is on the disk"
        one.write(8, b"!")
        await one.settle()
        client.line.rtt = 5.0
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: one.settle(safe=True))
            await trio.sleep(1)
            client.line.rtt = 0.002
            bob.write(9, b"last")
            await bob.settle()
        await bob.settle(safe=True)
        assert len(client.changes.statuses) == 4


async def test_a_time_goes_along_with_the_data(autojump_clock: MockClock) -> None:
    client = client_with()
    async with running(client) as cache:
        one, bob = await hand(cache), await hand(cache, BOB)
        assert not cache.writes.stamp(one.vnode, 1_000_000_000, ALICE)  # nothing else to store
        one.write(0, b"data")
        assert cache.writes.stamp(one.vnode, 1_000_000_000, ALICE)
        assert one.vnode.dirty is not None
        assert one.vnode.dirty.mtime == 1_000_000_000
        await one.settle()
        assert client.files[FILE].mtime == 1_000_000_000
        assert client.changes.statuses == []
        bob.write(0, b"bob")
        assert not cache.writes.stamp(one.vnode, 1_000_000_000, ALICE)


async def test_another_client_that_writes_in_between_is_named(
    autojump_clock: MockClock, expected_warnings: ExpectedWarnings
) -> None:
    expected_warnings("another client has changed the file while it is being written here")
    client = client_with(b"." * 100)
    async with running(client) as cache:
        cache.listener = listener = Listener()
        one = await hand(cache)
        assert await one.read() == b"." * 100
        one.write(50, b"mine")
        client.write(FILE, b"theirs" * 30)
        await one.settle()
        expected = (b"theirs" * 30)[:50] + b"mine" + (b"theirs" * 30)[54:]
        assert client.files[FILE].data == expected
        assert await one.read() == expected
        assert listener.data == [one.vnode]
        assert cache.statistics().store_conflicts == 1


async def test_another_client_that_writes_other_chunks_is_no_matter(
    autojump_clock: MockClock,
) -> None:
    client = client_with(b"." * 8192)
    async with running(client, chunk_size=4096) as cache:
        one = await hand(cache)
        one.write(4096, b"m" * 4096)
        client.write(FILE, b"t" * 8192)
        await trio.sleep(1)
        await cache.refetch(VOLUME, FILE)
        await one.settle()
        assert await one.read() == b"t" * 4096 + b"m" * 4096


async def test_what_is_given_up_is_told_once(
    autojump_clock: MockClock, expected_warnings: ExpectedWarnings
) -> None:
    expected_warnings("cannot be stored, and are kept")
    client = client_with(b"before")
    client.changes.refuse = lambda store: ServerUnreachable("down")
    async with running(client) as cache:
        cache.listener = listener = Listener()
        one = await hand(cache)
        one.write(0, b"after!")
        with pytest.raises(ServerUnreachable):
            await one.settle()
        listener.data.clear()
        assert cache.writes.discard("/other", None) == 0
        assert cache.writes.discard("/file", BOB) == 0
        assert cache.writes.discard("/file", ALICE) == 6
        assert listener.data == [one.vnode]  # the kernel has pages of it
        with pytest.raises(AfsError, match="given up"):
            await one.settle()
        await one.settle()
        client.changes.refuse = lambda store: None
        assert await one.read() == b"before"
        assert cache.writes.used == 0


async def test_a_store_that_fails_after_its_file_was_removed_is_nobody_s_trouble(
    autojump_clock: MockClock,
) -> None:
    client = client_with(b"something longer")
    client.changes.refuse = lambda store: AfsError("no room", errno=errno.ENOSPC)
    async with running(client) as cache:
        one = await hand(cache)
        one.truncate(0)
        one.write(0, b"new")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cache.writes.store, one.vnode)
            await trio.sleep(0.001)
            assert client.changes.in_flight == 1
            cache.writes.removed(one.vnode)
        await trio.sleep(100)
        assert one.vnode.dirty is None
        assert cache.writes.unstored() == []
        assert len(client.changes.stores) == 1


async def test_what_is_removed_is_no_loss(autojump_clock: MockClock) -> None:
    client = client_with()
    async with running(client) as cache:
        one = await hand(cache)
        one.write(0, b"data")
        cache.writes.removed(one.vnode)
        assert one.vnode.dirty is None
        assert client.changes.stores == []


async def test_a_dirty_vnode_stays_in_the_table(autojump_clock: MockClock) -> None:
    client = client_with()
    async with running(client, vnode_limit=1) as cache:
        cache.listener = Listener(all=False)
        one = await hand(cache)
        one.write(0, b"data")
        for number in range(10, 60, 2):
            where = fid(number)
            client.put(where, b"")
            await cache.status(VOLUME, where)
        assert cache.peek(VOLUME, FILE) is one.vnode


async def test_the_end_stores_what_it_can_and_names_the_rest(
    autojump_clock: MockClock, expected_warnings: ExpectedWarnings
) -> None:
    expected_warnings("cannot be stored|are not stored")
    client = client_with()
    client.changes.refuse = lambda store: NotPermitted("no") if store.who == BOB else None
    async with running(client) as cache:
        alice, bob = await hand(cache), await hand(cache, BOB)
        alice.write(0, b"alice")
        bob.write(10, b"bob")
        (left,) = await cache.writes.finish(10)
        assert (left.who, left.size) == (BOB, 3)
        assert client.files[FILE].data == b"alice"


async def test_the_end_waits_for_a_server_that_is_silent(
    autojump_clock: MockClock, expected_warnings: ExpectedWarnings
) -> None:
    expected_warnings("cannot be stored|are not stored")
    client = client_with()
    back = trio.current_time() + 25
    client.changes.refuse = lambda store: (
        ServerUnreachable("silent") if trio.current_time() < back else None
    )
    async with running(client) as cache:
        alice = await hand(cache)
        alice.write(0, b"alice")
        begin = trio.current_time()
        (left,) = await cache.writes.finish(10)
        assert (left.size, trio.current_time() - begin) == (5, 10)
        assert await cache.writes.finish(60) == []
        assert 25 <= trio.current_time() - begin < 30
        assert client.files[FILE].data[:5] == b"alice"
