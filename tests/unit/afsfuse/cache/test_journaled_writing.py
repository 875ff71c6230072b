"""What cannot be stored and does not fit into memory: left to the journal, or refused."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest
import trio

from afsfuse.cache.journal import JournalLost
from afsfuse.errors import AfsError, NotPermitted
from tests.unit.afsfuse.cache.fakes import fid
from tests.unit.afsfuse.cache.journals import MemoryJournal
from tests.unit.afsfuse.cache.reads import FILE, VOLUME, running
from tests.unit.afsfuse.cache.test_writeback import ALICE, BOB, MIB, Hand, client_with, hand

if TYPE_CHECKING:
    from trio.testing import MockClock

    from afsfuse.cache.journal import Buffer, DirtyKey
    from tests.conftest import ExpectedWarnings


async def test_what_waits_is_left_to_the_journal_when_memory_is_full(
    autojump_clock: MockClock, expected_warnings: ExpectedWarnings
) -> None:
    expected_warnings("cannot be stored, and are kept")
    client = client_with()
    other = fid(50)
    client.put(other, b"")
    client.changes.refuse = lambda store: NotPermitted("no") if store.who == BOB else None
    journal = MemoryJournal()
    async with running(client, dirty_bytes=4 * MIB, journal=journal) as cache:
        bob = await hand(cache, BOB)
        for number in range(4):
            bob.write(number * MIB, b"%d" % number * MIB)
        with pytest.raises(NotPermitted):
            await bob.settle()
        alice = Hand(cache, await cache.status(VOLUME, other))
        for number in range(6):
            await alice.wait_and_write(number * MIB, bytes(MIB))
        await alice.settle()
        assert cache.writes.used < MIB
        assert (await bob.read())[MIB - 1 : MIB + 1] == b"01"
        client.changes.refuse = lambda store: None
        await bob.settle()
        assert client.files[FILE].data == b"".join(b"%d" % n * MIB for n in range(4))
        assert journal.kept() == []


@pytest.mark.parametrize("lost", [False, True])
async def test_what_only_the_journal_had_is_read_as_it_was_stored(
    lost: bool, autojump_clock: MockClock, expected_warnings: ExpectedWarnings
) -> None:
    """What is stored out of the journal becomes part of the next version's chunks, too."""
    expected_warnings("cannot be stored, and are kept")
    expected_warnings("another client has changed the file")
    client = client_with(b"old" * (MIB // 2))
    other = fid(50)
    client.put(other, b"")
    client.changes.refuse = lambda store: NotPermitted("no") if store.who == ALICE else None
    journal = MemoryJournal()
    async with running(client, dirty_bytes=MIB, journal=journal) as cache:
        alice = await hand(cache)
        alice.write(100, b"new" * (MIB // 3))
        with pytest.raises(NotPermitted):
            await alice.settle()
        bob = Hand(cache, await cache.status(VOLUME, other), BOB)
        await bob.wait_and_write(0, bytes(MIB // 2))  # for which the other bytes make room
        await bob.settle()
        assert cache.writes.used == 0
        client.files[FILE].version += 1
        await cache.refetch(VOLUME, FILE)
        before = await alice.read()  # what lies around and below them is in chunks now
        client.changes.refuse = lambda store: None
        if lost:  # as soon as it is on its way
            client.changes.lose = lambda store: journal.records.__setitem__(0, b"")
        await alice.settle()
        assert client.files[FILE].data == before
        assert await alice.read() == before


async def test_without_a_journal_a_full_memory_is_said(
    autojump_clock: MockClock, expected_warnings: ExpectedWarnings
) -> None:
    expected_warnings("cannot be stored, and are kept")
    client = client_with()
    other = fid(50)
    client.put(other, b"")
    client.changes.refuse = lambda store: NotPermitted("no")
    async with running(client, dirty_bytes=4 * MIB) as cache:
        bob = await hand(cache, BOB)
        for number in range(4):
            bob.write(number * MIB, bytes(MIB))
        with pytest.raises(NotPermitted):
            await bob.settle()
        alice = Hand(cache, await cache.status(VOLUME, other))
        with pytest.raises(AfsError, match="too much data") as caught:
            await alice.wait_and_write(0, bytes(MIB))
        assert caught.value.errno == errno.ENOSPC


class SmallJournal(MemoryJournal):
    """Has room for one record."""

    def written(self, key: DirtyKey, offset: int, data: Buffer) -> int | None:
        return None if self.records else super().written(key, offset, data)


async def test_a_journal_with_room_for_a_part_is_waited_for_by_nobody(
    autojump_clock: MockClock, expected_warnings: ExpectedWarnings
) -> None:
    expected_warnings("cannot be stored, and are kept")
    client = client_with()
    other = fid(50)
    client.put(other, b"")
    client.changes.refuse = lambda store: NotPermitted("no") if store.who == BOB else None
    async with running(client, dirty_bytes=4 * MIB, journal=SmallJournal()) as cache:
        bob = await hand(cache, BOB)
        for number in range(4):
            bob.write(number * MIB, bytes(MIB))
        with pytest.raises(NotPermitted):
            await bob.settle()
        await trio.sleep(20)  # between two tries
        alice = Hand(cache, await cache.status(VOLUME, other))
        before = trio.current_time()
        with pytest.raises(AfsError) as caught:
            await alice.wait_and_write(0, bytes(2 * MIB))
        assert caught.value.errno == errno.ENOSPC
        assert trio.current_time() == before
        await alice.wait_and_write(0, bytes(MIB))


async def test_what_the_journal_has_lost_is_an_error_and_not_zeros(
    autojump_clock: MockClock, expected_warnings: ExpectedWarnings
) -> None:
    expected_warnings("cannot be stored, and are kept")
    client = client_with()
    other = fid(50)
    client.put(other, b"")
    client.changes.refuse = lambda store: NotPermitted("no") if store.who == BOB else None
    journal = MemoryJournal()
    async with running(client, dirty_bytes=4 * MIB, journal=journal) as cache:
        bob = await hand(cache, BOB)
        for number in range(4):
            bob.write(number * MIB, bytes(MIB))
        with pytest.raises(NotPermitted):
            await bob.settle()
        alice = Hand(cache, await cache.status(VOLUME, other))
        await alice.wait_and_write(0, b"alice")
        journal.records = [b""] * len(journal.records)
        client.changes.refuse = lambda store: None
        with pytest.raises(JournalLost):
            await bob.read()
        with pytest.raises(JournalLost):
            await bob.settle()
        assert client.files[FILE].data == b""
        assert cache.writes.discard("/file", BOB) == 4 * MIB
        assert cache.writes.unstored()[0].who == ALICE
