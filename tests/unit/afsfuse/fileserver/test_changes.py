"""Changes: what goes over the wire, and what is never sent twice or in a wrong name."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

import pytest
import trio

from afsfuse.auth.identity import NOBODY, Identity
from afsfuse.auth.security import TokenCredentials
from afsfuse.auth.store import TokenStore
from afsfuse.errors import (
    AfsError,
    DataCorrupt,
    OutcomeUnknown,
    ReadOnlyVolume,
    ServerUnreachable,
    TokenExpired,
)
from afsfuse.fileserver import StatusChange
from afsfuse.interfaces import fileserver as fs
from afsfuse.model import FileKind, VolumeType
from tests.unit.afsfuse.auth.realm import Clock, Realm
from tests.unit.afsfuse.fileserver.servers import (
    CHANGES,
    FILE,
    VOLUME_ID,
    World,
    wire_status,
    world,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from trio.testing import MockClock

    from afsfuse.fileserver import Changes
    from rxrpc.rpc import Rpc

    Change = Callable[[Changes, World], Awaitable[Any]]

ALICE = Identity(uid=1000)
FOLDER = fs.Fid(VOLUME_ID, 1, 1)
NEW = fs.Fid(VOLUME_ID, 4, 9)
PLAIN = StatusChange(mode=0o644, mtime=1_700_000_000)
UAEAGAIN = 49733376 + 10

ONCE: dict[str, Change] = {
    "CreateFile": lambda c, w: c.create_file(w.volume, FOLDER, b"f", PLAIN, NOBODY),
    "MakeDir": lambda c, w: c.make_dir(w.volume, FOLDER, b"f", PLAIN, NOBODY),
    "Symlink": lambda c, w: c.symlink(w.volume, FOLDER, b"f", b"to", PLAIN, NOBODY),
    "Link": lambda c, w: c.link(w.volume, FOLDER, b"f", FILE, NOBODY),
    "RemoveFile": lambda c, w: c.remove_file(w.volume, FOLDER, b"f", NOBODY),
    "RemoveDir": lambda c, w: c.remove_dir(w.volume, FOLDER, b"f", NOBODY),
    "Rename": lambda c, w: c.rename(w.volume, FOLDER, b"f", FOLDER, b"g", NOBODY),
    "SetLock": lambda c, w: c.set_lock(w.volume, FILE, fs.LockType.READ, NOBODY),
    "ReleaseLock": lambda c, w: c.release_lock(w.volume, FILE, NOBODY),
}
AGAIN: dict[str, Change] = {
    "StoreStatus": lambda c, w: c.store_status(w.volume, FILE, PLAIN, NOBODY),
    "StoreData64": lambda c, w: c.store_data(w.volume, FILE, 5, [b"abc", b"de"], 10, NOBODY),
    "StoreACL": lambda c, w: c.store_acl(w.volume, FOLDER, b"0\n0\n\0", NOBODY),
    "ExtendLock": lambda c, w: c.extend_lock(w.volume, FILE, NOBODY),
}
ALL = ONCE | AGAIN


@pytest.mark.parametrize("name", ALL)
async def test_each_change_is_one_call(name: str, autojump_clock: MockClock) -> None:
    async with world() as w:
        await ALL[name](w.client.changes, w)
        assert w.hosts[0].calls == {name: 1}


@pytest.mark.parametrize("kind", [VolumeType.RO, VolumeType.BACKUP])
@pytest.mark.parametrize("name", ALL)
async def test_nothing_is_changed_in_a_volume_that_nobody_can_write_to(
    name: str, kind: VolumeType, autojump_clock: MockClock
) -> None:
    async with world() as w:
        w.volume.type = kind
        with pytest.raises(ReadOnlyVolume) as caught:
            await ALL[name](w.client.changes, w)
        assert caught.value.errno == errno.EROFS
        assert not w.hosts[0].calls


async def test_what_was_made_comes_back_with_its_promise(autojump_clock: MockClock) -> None:
    async with world() as w:
        now = trio.current_time()
        made = await w.client.changes.create_file(w.volume, FOLDER, b"f", PLAIN, NOBODY)
        assert (made.fid, made.status.kind) == (NEW, FileKind.FILE)
        assert made.directory.kind is FileKind.DIRECTORY
        assert made.promise is not None
        assert made.promise.expires == pytest.approx(now + 1800, abs=0.1)
        link = await w.client.changes.symlink(w.volume, FOLDER, b"l", b"to", PLAIN, NOBODY)
        assert link.promise is None  # servers give none for a symbolic link
        sent = w.hosts[0].arguments
        assert sent[0].name == b"f"
        assert sent[0].status == fs.StoreStatus(
            fs.StoreMask.MODIFICATION_TIME | fs.StoreMask.MODE,
            client_mod_time=1_700_000_000,
            unix_mode_bits=0o644,
        )
        assert sent[1].target == b"to"


async def test_data_goes_behind_its_place_and_the_length_of_the_file(
    autojump_clock: MockClock,
) -> None:
    async with world() as w:
        w.hosts[0].data = b"0123456789abcdef"
        reply = await w.client.changes.store_data(
            w.volume, FILE, 5, [b"abc", memoryview(b"de")], 12, NOBODY
        )
        assert w.hosts[0].data == b"01234abcdeab"
        assert reply.status.length == 12


@pytest.mark.parametrize(("position", "ok"), [(2**31 - 6, True), (2**31 - 5, False)])
async def test_an_old_server_takes_data_up_to_two_gib(
    position: int, ok: bool, autojump_clock: MockClock
) -> None:
    async with world() as w:
        w.hosts[0].lacks = {"StoreData64"}
        w.hosts[0].keeps = False

        async def store() -> None:
            await w.client.changes.store_data(
                w.volume, FILE, position, [b"abcde"], position + 5, NOBODY
            )

        if ok:
            await store()
            await store()
            assert w.hosts[0].calls == {"StoreData64": 1, "StoreData": 2}  # it is remembered
        else:
            with pytest.raises(AfsError, match="too old") as caught:
                await store()
            assert caught.value.errno == errno.EFBIG


async def test_the_old_way_to_store_an_access_list_is_for_old_servers_only(
    autojump_clock: MockClock,
) -> None:
    async with world() as w:
        host = w.hosts[0]
        host.abort = lambda: errno.EACCES
        with pytest.raises(AfsError):
            await AGAIN["StoreACL"](w.client.changes, w)
        assert host.calls == {"StoreACL": 1}
        host.abort = lambda: 0
        host.lacks = {"StoreACL"}
        await AGAIN["StoreACL"](w.client.changes, w)
        assert host.calls == {"StoreACL": 2, "OldStoreACL": 1}


@pytest.mark.parametrize("name", ALL)
async def test_only_what_may_be_done_twice_is_sent_again_after_silence(
    name: str, autojump_clock: MockClock
) -> None:
    """The server did it, and was gone before anybody heard."""
    async with world() as w:
        host = w.hosts[0]
        host.delay = 1.0
        address = host.listening[0]
        async with trio.open_nursery() as nursery:
            failed: list[AfsError] = []

            async def change() -> None:
                try:
                    await ALL[name](w.client.changes, w)
                except AfsError as exc:
                    failed.append(exc)

            nursery.start_soon(change)
            await trio.sleep(0.5)
            w.network.partition(("192.0.2.250", 7001), address)
            await trio.sleep(10)
            host.delay = 0.0
            await trio.sleep(11)
            w.network.heal()
        if name in ONCE:
            assert [type(exc) for exc in failed] == [OutcomeUnknown]
            assert isinstance(failed[0], ServerUnreachable)
            assert name in str(failed[0])
            assert failed[0].errno == errno.ETIMEDOUT
            assert host.calls[name] == 1
        else:
            assert not failed
            assert host.calls[name] == 2


async def test_a_change_under_way_is_not_sent_again_when_another_one_finds_the_server_down(
    autojump_clock: MockClock,
) -> None:
    async with world() as w:
        host = w.hosts[0]
        await w.client.fetch_status(w.volume, FILE)  # so that neither waits for the connection
        host.delay = 1.0
        outcomes: list[type[AfsError]] = []

        async def create(after: float) -> None:
            await trio.sleep(after)
            try:
                await ONCE["CreateFile"](w.client.changes, w)
            except AfsError as exc:
                outcomes.append(type(exc))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(create, 0.0)
            nursery.start_soon(create, 0.4)
            await trio.sleep(0.6)
            w.network.partition(("192.0.2.250", 7001), host.listening[0])
            await trio.sleep(19.6)
            w.network.heal()  # a probe, were there one, would find the server again
        assert outcomes == [OutcomeUnknown] * 2
        assert host.calls["CreateFile"] == 2


async def test_a_busy_volume_is_waited_for(autojump_clock: MockClock) -> None:
    """An abort says that nothing was changed."""
    async with world() as w:
        codes = iter([110, 110, 0])
        w.hosts[0].abort = lambda: next(codes)
        await ONCE["CreateFile"](w.client.changes, w)
        assert w.hosts[0].calls["CreateFile"] == 3


async def test_nothing_is_sent_to_a_server_that_is_known_to_be_down(
    autojump_clock: MockClock,
) -> None:
    async with world() as w:
        w.network.partition(("192.0.2.250", 7001), w.hosts[0].listening[0])
        with pytest.raises(OutcomeUnknown):
            await ONCE["RemoveFile"](w.client.changes, w)
        with pytest.raises(ServerUnreachable) as caught:
            await ONCE["RemoveFile"](w.client.changes, w)
        assert type(caught.value) is ServerUnreachable
        assert not w.hosts[0].calls


@pytest.mark.parametrize("by", ["our clock", "the server's"])
async def test_nothing_is_changed_in_nobodys_name_when_a_token_has_expired(
    by: str, tmp_path: Path, autojump_clock: MockClock
) -> None:
    clock, realm = Clock(), Realm()
    store = TokenStore(tmp_path / "run", clock)
    store.load()
    try:
        credentials = TokenCredentials(store, clock=clock)
        async with world(credentials=credentials, securities=[realm.server()]) as w:
            store.set(ALICE, realm.token(life=100))
            changes = w.client.changes
            await changes.create_file(w.volume, FOLDER, b"f", PLAIN, ALICE)
            (clock if by == "our clock" else realm.clock).now += 200
            with pytest.raises(TokenExpired) as caught:
                await changes.create_file(w.volume, FOLDER, b"g", PLAIN, ALICE)
            assert caught.value.errno == errno.EACCES
            assert w.hosts[0].callers == ["alice@TEST.AFS CRYPT"]
            await w.client.fetch_status(w.volume, FILE, ALICE)  # reading goes on as nobody
            assert w.hosts[0].callers[-1] == "anonymous"
    finally:
        store.close()


async def test_a_lock_that_another_one_has_is_refused_as_servers_say_it(
    autojump_clock: MockClock,
) -> None:
    async with world() as w:
        w.hosts[0].abort = lambda: UAEAGAIN
        with pytest.raises(AfsError) as caught:
            await ONCE["SetLock"](w.client.changes, w)
        assert caught.value.errno == errno.EAGAIN


@pytest.mark.parametrize(
    ("rpc", "wrong"),
    [
        (fs.CREATE_FILE, {"fid": fs.Fid(VOLUME_ID + 1, 4, 9)}),
        (fs.CREATE_FILE, {"fid": FOLDER}),
        (fs.CREATE_FILE, {"status": wire_status(file_type=3)}),
        (fs.CREATE_FILE, {"status": wire_status(file_type=2)}),
        (fs.MAKE_DIR, {"status": wire_status()}),
        (fs.SYMLINK, {"status": wire_status()}),
        (fs.SYMLINK, {"fid": fs.Fid(0, 4, 9)}),
    ],
)
async def test_what_cannot_have_been_made_is_refused(
    autojump_clock: MockClock,
    monkeypatch: pytest.MonkeyPatch,
    rpc: Rpc[Any, Any],
    wrong: dict[str, Any],
) -> None:
    """A fid of another volume, or of the directory itself, or another thing than was asked for."""
    monkeypatch.setitem(CHANGES, rpc, CHANGES[rpc]._replace(**wrong))
    async with world() as here:
        with pytest.raises(DataCorrupt, match="a server"):
            await ONCE[rpc.name](here.client.changes, here)
