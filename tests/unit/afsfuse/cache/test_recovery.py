"""What a daemon left that died is stored by the next one, or put where people find it."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio

from afsfuse.auth.identity import NOBODY, Identity
from afsfuse.cache.disk import NoDisk
from afsfuse.cache.disk import journal as disk_journal
from afsfuse.cache.disk.budget import Budget
from afsfuse.cache.disk.journal import DiskJournal
from afsfuse.cache.readahead import ReadState
from afsfuse.cache.recovery import Recovery
from afsfuse.cache.writeback import Writer
from afsfuse.errors import AfsError, NotPermitted, StaleInode
from afsfuse.model import Rights
from tests.unit.afsfuse.cache.fakes import Line, fid, make_cache, make_volume
from tests.unit.afsfuse.cache.storage import WritableClient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from trio.testing import MockClock

    from afsfuse.cache import CacheManager
    from afsfuse.cache.journal import DirtyKey
    from afsfuse.cell.volumes import Volume
    from tests.conftest import ExpectedWarnings

FILE = fid(4)
VOLUME = make_volume()
ALICE, BOB = Identity(uid=1000), Identity(uid=1001)
PATH = "/test.afs/file"


class JournalOnly(NoDisk):
    """A cache folder of which only the journal is used."""

    def __init__(self, folder: Path) -> None:
        (folder / "journal").mkdir(parents=True, exist_ok=True)
        self.journal = DiskJournal(folder / "journal", Budget(64 << 20, 1 << 20))
        self.aside = folder / "recovered"


class Daemon:
    """A cache and its recovery."""

    def __init__(self, cache: CacheManager, recovery: Recovery) -> None:
        self.cache = cache
        self.recovery = recovery
        self.writer = Writer(ALICE)

    async def write(
        self, offset: int, data: bytes, who: Identity = ALICE, path: str = PATH
    ) -> None:
        vnode = await self.cache.status(VOLUME, FILE, who)
        await self.cache.writes.make_room(vnode, len(data), who)
        writer = self.writer if who is ALICE else Writer(who)
        self.cache.writes.write(vnode, offset, data, writer, lambda: path)

    async def truncate(self, length: int) -> None:
        vnode = await self.cache.status(VOLUME, FILE, ALICE)
        self.cache.writes.truncate(vnode, length, self.writer, lambda: PATH)

    async def settle(self) -> None:
        vnode = await self.cache.status(VOLUME, FILE, ALICE)
        await self.cache.writes.settle(vnode, self.writer)

    async def read(self) -> bytes:
        return bytes(await self.cache.read(VOLUME, FILE, 0, 1 << 20, ReadState(ALICE)))


async def find(key: DirtyKey) -> Volume:
    assert (key.cell, key.volume) == ("test.afs", VOLUME.id)
    return VOLUME


@asynccontextmanager
async def daemon(
    client: WritableClient,
    folder: Path,
    find: Callable[[DirtyKey], Awaitable[Volume]] = find,
) -> AsyncIterator[Daemon]:
    """One that dies at the end, of which nothing is stored that is not stored by then."""
    disk = JournalOnly(folder)
    cache = make_cache(client, disk=disk)
    async with trio.open_nursery() as nursery:
        client.nursery = nursery
        await nursery.start(cache.run)
        recovery = Recovery(cache, find)
        await nursery.start(recovery.run)
        yield Daemon(cache, recovery)
        nursery.cancel_scope.cancel()
    disk.journal.close()


def make_client(data: bytes) -> WritableClient:
    client = WritableClient(Line(rtt=0.01))
    client.tokens.add(ALICE)
    client.put(FILE, data)
    return client


def held(client: WritableClient) -> bytes:
    return client.files[FILE].data


async def leave(client: WritableClient, folder: Path) -> None:
    """Write something, and die."""
    async with daemon(client, folder) as first:
        await first.write(2, b"mine")
        await first.truncate(8)
        await first.write(9, b"!")


LEFT = b"01mine67\0!"


async def test_what_was_left_is_stored(autojump_clock: MockClock, tmp_path: Path) -> None:
    client = make_client(b"0123456789")
    await leave(client, tmp_path)
    assert held(client) == b"0123456789"
    async with daemon(client, tmp_path) as second:
        assert await second.read() == LEFT, "at once, stored or not"
        assert not second.recovery.unstored()
        await second.settle()
        await trio.sleep(1)
        assert held(client) == LEFT
        assert {store.who for store in client.changes.stores} == {ALICE}
    async with daemon(client, tmp_path):
        pass
    assert not list((tmp_path / "journal").iterdir())


async def test_what_was_stored_is_not_stored_again(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    client = make_client(b"0123456789")
    async with daemon(client, tmp_path) as first:
        await first.write(2, b"mine")
        await first.settle()
    stores = len(client.changes.stores)
    async with daemon(client, tmp_path):
        await trio.sleep(60)
    assert len(client.changes.stores) == stores


async def test_what_was_cut_and_is_longer_than_on_the_server_keeps_its_length(
    autojump_clock: MockClock, tmp_path: Path, expected_warnings: ExpectedWarnings
) -> None:
    """The bytes are stored, and the daemon dies before the length is, which needs another call."""
    expected_warnings("cannot be stored, and are kept")
    client = make_client(b"0123456789")
    client.changes.refuse = lambda store: None if store.size else NotPermitted("no")
    async with daemon(client, tmp_path) as first:
        await first.write(0, b"mine")
        await first.write(20, b"too far")
        await first.truncate(15)
        with pytest.raises(NotPermitted):
            await first.settle()
        assert held(client) == b"mine456789"
    client.changes.refuse = lambda store: None
    async with daemon(client, tmp_path) as second:
        assert await second.read() == b"mine456789" + bytes(5)
        await trio.sleep(60)
    assert held(client) == b"mine456789" + bytes(5)


async def test_it_waits_for_a_token(
    autojump_clock: MockClock, tmp_path: Path, expected_warnings: ExpectedWarnings
) -> None:
    expected_warnings("left unstored, and cannot be stored yet: the access list")
    client = make_client(b"0123456789")
    await leave(client, tmp_path)
    client.set_rights({ALICE: Rights.READ | Rights.LOOKUP, NOBODY: Rights.NONE})
    client.tokens.clear()
    async with daemon(client, tmp_path) as second:
        (waiting,) = second.recovery.unstored()
        assert (waiting.path, waiting.who, waiting.size) == (PATH, ALICE, 5)
        assert waiting.error is not None
        assert "the access list" in waiting.error
        await trio.sleep(600)
        assert held(client) == b"0123456789"
        client.tokens.add(ALICE)
        second.cache.token_changed(ALICE, "test.afs")
        second.recovery.token_changed(ALICE, "test.afs")
        await trio.sleep(1)
        assert held(client) == LEFT


async def test_a_store_that_is_refused_is_tried_again(
    autojump_clock: MockClock, tmp_path: Path, expected_warnings: ExpectedWarnings
) -> None:
    expected_warnings("cannot be stored, and are kept")
    client = make_client(b"0123456789")
    await leave(client, tmp_path)
    client.changes.refuse = lambda store: NotPermitted("no")
    for _ in range(2):  # and if this one dies, too, nothing is lost
        async with daemon(client, tmp_path) as next_one:
            await trio.sleep(10)
            assert [one.path for one in next_one.cache.writes.unstored()] == [PATH]
            assert held(client) == b"0123456789"
    client.changes.refuse = lambda store: None
    async with daemon(client, tmp_path):
        await trio.sleep(100)
    assert held(client) == LEFT


async def test_a_file_that_moved_on_is_not_touched(
    autojump_clock: MockClock, tmp_path: Path, expected_warnings: ExpectedWarnings
) -> None:
    expected_warnings("the file was changed since: what was left unstored is in")
    client = make_client(b"0123456789")
    await leave(client, tmp_path)
    client.files[FILE].version += 5
    async with daemon(client, tmp_path) as second:
        assert await second.read() == b"0123456789"
    (aside,) = (tmp_path / "recovered").glob("*-file")
    assert aside.read_bytes() == b"\0\0mine\0\0\0!"
    told = json.loads(aside.with_name(f"{aside.name}.json").read_text())
    assert told["identity"] == "uid-1000"
    assert told["cut to"] == 8
    assert told["written"] == [[2, 6], [9, 10]]
    assert not list((tmp_path / "journal").iterdir())


async def test_a_store_of_ones_own_that_nobody_heard_of_is_none_of_anothers(
    autojump_clock: MockClock, tmp_path: Path, expected_warnings: ExpectedWarnings
) -> None:
    expected_warnings("may have been changed since it was written here")
    client = make_client(b"0123456789")
    await leave(client, tmp_path)
    client.files[FILE].version += 1
    async with daemon(client, tmp_path):
        await trio.sleep(1)
    assert held(client) == LEFT


@pytest.mark.parametrize("boot", ["another", ""])
async def test_what_was_stored_after_what_a_loss_of_power_has_left_is_not_undone(
    autojump_clock: MockClock,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    expected_warnings: ExpectedWarnings,
    boot: str,
) -> None:
    """Of the journal the disk has what it had been given a while before the machine died."""
    expected_warnings("the file was changed since: what was left unstored is in")
    client = make_client(b"0123456789")
    async with daemon(client, tmp_path / "lived") as first:
        await first.write(2, b"mine")
        shutil.copytree(tmp_path / "lived", tmp_path / "left")
        await first.settle()
        await first.write(2, b"anew")
        await first.settle()  # as close() and fsync() do: this is what the server has
    assert held(client) == b"01anew6789"
    monkeypatch.setattr(disk_journal, "this_boot", lambda: boot)
    async with daemon(client, tmp_path / "left"):
        await trio.sleep(60)
    assert held(client) == b"01anew6789"
    (aside,) = (tmp_path / "left" / "recovered").glob("*-file")
    assert aside.read_bytes()[2:6] == b"mine"


async def test_what_a_loss_of_power_has_left_is_stored_if_nothing_came_after_it(
    autojump_clock: MockClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = make_client(b"0123456789")
    await leave(client, tmp_path)
    monkeypatch.setattr(disk_journal, "this_boot", lambda: "another")
    async with daemon(client, tmp_path):
        await trio.sleep(1)
    assert held(client) == LEFT


async def test_a_file_that_is_gone_is_put_aside(
    autojump_clock: MockClock, tmp_path: Path, expected_warnings: ExpectedWarnings
) -> None:
    expected_warnings("the file is gone: what was left unstored is in")
    client = make_client(b"0123456789")
    await leave(client, tmp_path)
    client.failures[FILE] = StaleInode("the file does not exist any more")
    async with daemon(client, tmp_path) as second:
        assert not second.recovery.unstored()
    assert len(list((tmp_path / "recovered").iterdir())) == 2


async def test_what_is_damaged_is_put_aside(
    autojump_clock: MockClock, tmp_path: Path, expected_warnings: ExpectedWarnings
) -> None:
    expected_warnings("the journal is damaged: what was left unstored is in")
    client = make_client(b"0123456789")
    await leave(client, tmp_path)
    (path,) = (tmp_path / "journal").iterdir()
    data = path.read_bytes()
    path.write_bytes(data.replace(b"mine", b"mire"))
    async with daemon(client, tmp_path):
        await trio.sleep(1)
    assert held(client) == b"0123456789"


async def test_what_is_written_meanwhile_is_another_matter(
    autojump_clock: MockClock, tmp_path: Path, expected_warnings: ExpectedWarnings
) -> None:
    """What was left waits, and its file is written to: neither takes the other along."""
    expected_warnings("left unstored, and cannot be stored yet")
    expected_warnings("the file was changed since: what was left unstored is in")
    client = make_client(b"0123456789")
    await leave(client, tmp_path)
    client.failures[FILE] = AfsError("the server is away")
    async with daemon(client, tmp_path) as second:
        del client.failures[FILE]
        await second.write(0, b"new")
        await second.settle()
        await second.write(4, b"and more")
        await second.settle()
    # That one died before it had looked at what was left once more.
    client.failures[FILE] = AfsError("the server is away")
    async with daemon(client, tmp_path) as third:
        assert [one.size for one in third.recovery.unstored()] == [5]
        del client.failures[FILE]
        await third.write(0, b"NEW")
        await trio.sleep(60)  # what was left is put aside
        assert not third.recovery.unstored()
        await third.write(1, b"e")
        await third.settle()
        assert held(client) == b"NeW3and more"
    assert len(list((tmp_path / "recovered").iterdir())) == 2
    async with daemon(client, tmp_path):
        pass
    assert not list((tmp_path / "journal").iterdir())


async def test_what_is_left_twice_is_not_mixed(
    autojump_clock: MockClock, tmp_path: Path, expected_warnings: ExpectedWarnings
) -> None:
    """Two daemons left something of a file, and something else was stored in between."""
    expected_warnings("left unstored, and cannot be stored yet")
    expected_warnings("the file was changed since: what was left unstored is in")
    client = make_client(b"0123456789")
    await leave(client, tmp_path)
    client.failures[FILE] = AfsError("the server is away")
    async with daemon(client, tmp_path) as second:
        del client.failures[FILE]
        await second.write(0, b"a new file")
        await second.settle()
        await second.write(6, b"book")
    async with daemon(client, tmp_path):
        await trio.sleep(1)
        assert held(client) == b"a new book"
    (aside,) = (tmp_path / "recovered").glob("*-file")
    assert aside.read_bytes() == b"\0\0mine\0\0\0!"
    assert not list((tmp_path / "journal").iterdir())


async def test_it_can_be_given_up(
    autojump_clock: MockClock, tmp_path: Path, expected_warnings: ExpectedWarnings
) -> None:
    expected_warnings("left unstored, and cannot be stored yet")
    client = make_client(b"0123456789")
    await leave(client, tmp_path)
    client.failures[FILE] = AfsError("the server is away")
    async with daemon(client, tmp_path) as second:
        assert second.recovery.discard("/other", None) == 0
        assert second.recovery.discard(PATH, NOBODY) == 0
        assert second.recovery.discard(PATH, ALICE) == 5
        assert not second.recovery.unstored()
    del client.failures[FILE]
    async with daemon(client, tmp_path):
        await trio.sleep(60)
    assert held(client) == b"0123456789"


async def test_what_is_given_up_while_its_server_is_asked_is_not_stored(
    autojump_clock: MockClock, tmp_path: Path, expected_warnings: ExpectedWarnings
) -> None:
    expected_warnings("left unstored, and cannot be stored yet")
    client = make_client(b"0123456789")
    await leave(client, tmp_path)
    client.failures[FILE] = AfsError("the server is away")
    async with daemon(client, tmp_path) as second:
        del client.failures[FILE]
        client.delay = lambda: 3.0
        await trio.sleep(6)  # it is being asked
        assert second.recovery.discard(PATH, ALICE) == 5
        await trio.sleep(60)
        assert held(client) == b"0123456789"
        assert not list((tmp_path / "journal").iterdir())


async def test_what_is_given_up_while_another_file_is_asked_for_ends_nothing(
    autojump_clock: MockClock, tmp_path: Path, expected_warnings: ExpectedWarnings
) -> None:
    expected_warnings("left unstored, and cannot be stored yet")
    client = make_client(b"0123456789")
    client.tokens.add(BOB)
    async with daemon(client, tmp_path) as first:
        await first.write(2, b"mine")
        await first.write(6, b"his", BOB)
    client.failures[FILE] = AfsError("the server is away")
    async with daemon(client, tmp_path) as second:
        client.delay = lambda: 3.0
        await trio.sleep(6)  # the first of the two is being asked for
        assert second.recovery.discard(PATH, None) == 7
        await trio.sleep(60)
        assert not second.recovery.unstored()


async def test_what_two_users_left_of_one_file_is_put_aside_twice(
    autojump_clock: MockClock, tmp_path: Path, expected_warnings: ExpectedWarnings
) -> None:
    expected_warnings("the file was changed since: what was left unstored is in")
    client = make_client(b"0123456789")
    client.tokens.add(BOB)
    async with daemon(client, tmp_path) as first:
        await first.write(2, b"mine")
        await first.write(6, b"his", BOB)
    client.files[FILE].version += 5
    async with daemon(client, tmp_path):
        pass
    aside = [path for path in (tmp_path / "recovered").iterdir() if path.suffix != ".json"]
    told = {json.loads(path.with_name(f"{path.name}.json").read_text())["identity"]: path
            for path in aside}  # fmt: skip
    assert {who: path.read_bytes().strip(b"\0") for who, path in told.items()} == {
        "uid-1000": b"mine", "uid-1001": b"his",
    }  # fmt: skip


async def test_what_two_users_left_of_one_file_is_stored_for_both(
    autojump_clock: MockClock, tmp_path: Path, expected_warnings: ExpectedWarnings
) -> None:
    """What is stored for the first one makes versions; they are none of another client's."""
    client = make_client(b"0123456789")
    client.tokens.add(BOB)
    async with daemon(client, tmp_path) as first:
        await first.write(0, b"A")
        await first.write(2, b"B")
        await first.write(4, b"C")
        await first.write(6, b"his", BOB)

    async def find_late(key: DirtyKey) -> Volume:
        if key.who == BOB.text:
            await trio.sleep(5)
        return VOLUME

    async with daemon(client, tmp_path, find_late):
        await trio.sleep(60)
    assert held(client) == b"A1B3C5his9"
    assert not (tmp_path / "recovered").exists()


async def test_what_two_users_left_is_done_in_the_order_in_which_they_did_it(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    client = make_client(b"0123456789")
    client.tokens.add(BOB)
    async with daemon(client, tmp_path) as first:
        await first.write(10, b"mine", ALICE)
        await first.write(14, b"his", BOB)
        await first.write(17, b"mine again", ALICE)
        await first.write(0, b"mine", ALICE)
        await first.write(0, b"his.", BOB)
        await first.write(0, b"me", ALICE)
    async with daemon(client, tmp_path):
        await trio.sleep(60)
    assert held(client) == b"mes.456789minehismine again"


async def test_what_one_user_has_stored_is_not_undone_by_what_another_left_below_it(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    client = make_client(b"0123456789")
    client.tokens.add(BOB)
    async with daemon(client, tmp_path) as first:
        await first.write(0, b"mine is it", ALICE)
        await first.write(3, b"his", BOB)
        vnode = await first.cache.status(VOLUME, FILE, BOB)
        await first.cache.writes.settle(vnode, Writer(BOB))
        assert held(client)[3:6] == b"his"
        vnode = await first.cache.status(VOLUME, FILE, ALICE)
        assert vnode.dirty is not None
    async with daemon(client, tmp_path):
        await trio.sleep(60)
    assert held(client) == b"minhiss it"


@pytest.mark.parametrize("moment", range(16))
async def test_who_dies_while_he_takes_over_what_was_left_loses_nothing_of_it(
    autojump_clock: MockClock,
    tmp_path: Path,
    moment: int,
    monkeypatch: pytest.MonkeyPatch,
    expected_warnings: ExpectedWarnings,
) -> None:
    expected_warnings("cannot be stored, and are kept")
    client = make_client(b"0123456789")
    async with daemon(client, tmp_path / "1") as first:
        await first.write(2, b"mine")
        await first.truncate(8)
        await first.write(9, b"!")
        await first.write(12, b"mine")
    calls = 0

    def dying(real: Callable[..., int]) -> Callable[..., int]:
        def call(*args: object) -> int:
            nonlocal calls
            if calls == moment:
                shutil.copytree(tmp_path / "1", tmp_path / "2")
            calls += 1
            return real(*args)

        return call

    client.changes.refuse = lambda store: NotPermitted("no")
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", dying(os.pwrite))
        patch.setattr(os, "pwritev", dying(os.pwritev))
        async with daemon(client, tmp_path / "1"):
            pass
    assert calls > 3
    client.changes.refuse = lambda store: None
    async with daemon(client, tmp_path / ("2" if calls > moment else "1")):
        await trio.sleep(60)
    assert held(client) == b"01mine67\0!\0\0mine"


async def test_a_file_with_the_longest_of_names_is_put_aside(
    autojump_clock: MockClock, tmp_path: Path, expected_warnings: ExpectedWarnings
) -> None:
    expected_warnings("the file is gone: what was left unstored is in")
    client = make_client(b"0123456789")
    async with daemon(client, tmp_path) as first:
        await first.write(2, b"mine", path="/test.afs/" + "\N{EURO SIGN}" * 85)
    client.failures[FILE] = StaleInode("the file does not exist any more")
    async with daemon(client, tmp_path) as second:
        assert not second.recovery.unstored()
    assert len(list((tmp_path / "recovered").iterdir())) == 2


async def test_nothing_is_left_of_what_could_not_be_put_aside_whole(
    autojump_clock: MockClock,
    tmp_path: Path,
    expected_warnings: ExpectedWarnings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected_warnings("cannot be put aside: No space left on device")
    expected_warnings("the file is gone: what was left unstored is in")
    client = make_client(b"0123456789")
    await leave(client, tmp_path)
    client.failures[FILE] = StaleInode("the file does not exist any more")

    def full(*_: object, **more: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(json, "dump", full)
        async with daemon(client, tmp_path) as second:
            await trio.sleep(300)
            assert [one.size for one in second.recovery.unstored()] == [5]
            assert not list((tmp_path / "recovered").iterdir())
    async with daemon(client, tmp_path):
        pass
    assert len(list((tmp_path / "recovered").iterdir())) == 2


@pytest.mark.parametrize("seed", range(60))
async def test_a_writer_loses_nothing_whenever_the_daemon_dies(
    autojump_clock: MockClock,
    tmp_path: Path,
    seed: int,
    expected_warnings: ExpectedWarnings,
) -> None:
    """Daemons that write, store and die at any moment; at last all that was written is there."""
    print(f"seed {seed}")
    expected_warnings("may have been changed since it was written here")
    rng = random.Random(seed)
    mine = bytearray(rng.randbytes(rng.randrange(80)))
    client = make_client(bytes(mine))
    folder = tmp_path / "0"
    for number in range(1, 5):
        async with daemon(client, folder) as one:
            assert await one.read() == mine
            for _ in range(rng.randrange(25)):
                match rng.choice([*(["write", "send", "wait"] * 4), "truncate", "settle"]):
                    case "write":
                        offset, data = rng.randrange(1500), rng.randbytes(rng.randrange(1, 700))
                        await one.write(offset, data)
                        mine[len(mine) :] = bytes(max(0, offset - len(mine)))
                        mine[offset : offset + len(data)] = data
                    case "truncate":
                        length = rng.randrange(1500)
                        await one.truncate(length)
                        mine[length:] = b""
                        mine[len(mine) :] = bytes(length - len(mine))
                    case "settle":
                        await one.settle()
                        assert held(client) == mine
                    case "send":
                        vnode = await one.cache.status(VOLUME, FILE, ALICE)
                        if vnode.dirty is not None:
                            one.cache.writes.rush(vnode.dirty)
                    case "wait":
                        await trio.sleep(rng.choice((0.001, 0.006, 0.011)))
            there = tmp_path / str(number)  # what a kill leaves now
            shutil.copytree(folder, there)
        folder = there
    async with daemon(client, folder):
        await trio.sleep(100)
    assert held(client) == mine
    assert not list((folder / "journal").iterdir())
