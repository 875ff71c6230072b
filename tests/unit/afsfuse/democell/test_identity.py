"""Who calls is decided in one place; what follows from it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from afsfuse.democell import DemoCell
from afsfuse.democell.acl import ALL_RIGHTS, AccessList
from afsfuse.democell.fileservice import server
from afsfuse.democell.people import ANYBODY, Identity
from afsfuse.democell.trees import plant
from afsfuse.interfaces import fileserver as fs
from afsfuse.interfaces import protection as pr
from afsfuse.interfaces.common import Fid
from afsfuse.model import Rights
from tests.cell.raw import NOTHING, mode
from tests.cell.site import ROOT, InProcess, in_process, raw_client

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

ALICE, BOB, ADMIN = 501, 502, 503


@pytest.fixture
async def site() -> AsyncIterator[InProcess]:
    cell = DemoCell("test.afs", ["192.0.2.11"])
    for name, number in (("alice", ALICE), ("bob", BOB), ("admin", ADMIN)):
        cell.people.add_user(name, number)
    cell.people.add_member(pr.ADMINISTRATORS, ADMIN)
    rights = int(Rights.LOOKUP | Rights.INSERT)
    volume = cell.create_volume("data", acl=AccessList({ALICE: ALL_RIGHTS, BOB: rights}))
    plant(volume, {b"file": b"data"})
    async with in_process(cell) as started:
        yield started


@pytest.fixture
def become(site: InProcess, monkeypatch: pytest.MonkeyPatch) -> Callable[[int | None], None]:
    """All calls are made by this user from now on."""

    def to(user: int | None) -> None:
        who = ANYBODY
        if user is not None:
            who = Identity(user, frozenset(site.cell.people.groups_of(user)))
        monkeypatch.setattr(server, "identity_of", lambda call, people: who)

    return to


def root(site: InProcess) -> Fid:
    return Fid(site.cell.volume("data").id, ROOT, ROOT)


async def test_each_has_the_rights_of_his_own(
    site: InProcess, become: Callable[[int | None], None]
) -> None:
    async with raw_client(site) as client:
        for user, rights in ((ALICE, 127), (BOB, 12), (ADMIN, 8), (None, 0)):
            become(user)
            status = await client.status(root(site))
            assert (status.caller_access, status.anonymous_access) == (rights, 0)


async def test_who_may_insert_writes_what_he_made(
    site: InProcess, become: Callable[[int | None], None]
) -> None:
    async with raw_client(site) as client:
        become(BOB)
        reply = await client.call(fs.CREATE_FILE, fs.CreateArgs(root(site), b"bobs", mode(0o400)))
        assert (reply.status.owner, reply.status.author) == (BOB, BOB)
        assert reply.status.caller_access == 12 | int(Rights.ADMINISTER)
        await client.store(reply.fid, b"his own")
        assert await client.fetch(reply.fid) == b"his own"
        assert await client.refusal(fs.REMOVE_FILE, fs.NameArgs(root(site), b"bobs")) == "UAEACCES"
        give = fs.StoreStatusArgs(reply.fid, fs.StoreStatus(fs.StoreMask.OWNER, owner=ALICE))
        assert await client.refusal(fs.STORE_STATUS, give) == "UAEPERM"
        become(None)
        fetch = fs.FetchData64Args(reply.fid, 0, 9)
        assert await client.refusal(fs.FETCH_DATA64, fetch) == "UAEACCES"


async def test_set_user_id_bits_are_for_administrators(
    site: InProcess, become: Callable[[int | None], None]
) -> None:
    volume = site.cell.volume("data")
    found = volume.root.directory.find(b"file")
    assert found is not None
    file = Fid(volume.id, *found)
    async with raw_client(site) as client:
        become(ALICE)
        args = fs.StoreStatusArgs(file, mode(0o4755))
        assert await client.refusal(fs.STORE_STATUS, args) == "UAEACCES"
        become(ADMIN)
        assert (await client.call(fs.STORE_STATUS, args)).status.unix_mode_bits == 0o4755
        become(ALICE)
        assert (await client.store(file, b"changed")).unix_mode_bits == 0o755


async def test_what_administrators_may(
    site: InProcess, become: Callable[[int | None], None]
) -> None:
    async with raw_client(site) as client:
        become(ADMIN)
        create = fs.CreateArgs(root(site), b"new", NOTHING)
        assert await client.refusal(fs.CREATE_FILE, create) == "UAEACCES"
        await client.set_acl(root(site), b"1\n0\nsystem:administrators 127\n\0")
        file = await client.create(root(site), b"new", b"data")
        give = fs.StoreStatusArgs(file, fs.StoreStatus(fs.StoreMask.OWNER, owner=ALICE))
        assert (await client.call(fs.STORE_STATUS, give)).status.owner == ALICE
        quota = fs.StoreVolumeStatus(fs.VolumeMask.MAX_QUOTA | fs.VolumeMask.MIN_QUOTA, 1, 777)
        args = fs.SetVolumeStatusArgs(file.volume, quota, b"", b"back soon", b"")
        await client.call(fs.SET_VOLUME_STATUS, args)
        told = await client.call(fs.GET_VOLUME_STATUS, fs.GetVolumeStatusArgs(file.volume))
        assert (told.status.max_quota, told.status.min_quota) == (777, 1)
        assert told.offline_message == b"back soon"
        flushed = await client.call(fs.FLUSH_CPS, fs.FlushCpsArgs((ALICE,), (), 0))
        assert flushed == fs.FlushCpsReply(0, 0)


async def test_names_in_access_lists(site: InProcess, become: Callable[[int | None], None]) -> None:
    async with raw_client(site) as client:
        become(ALICE)
        reply = await client.call(fs.FETCH_ACL, fs.FidArgs(root(site)))
        assert reply.access_list == b"2\n0\nalice\t127\nbob\t12\n\0"
        for text in (b"", b"1\n0\nalice 127\n", b"1\n0\nanonymous 127\n\0", b"1\n0\n503 1\n\0"):
            assert await client.acl_refusal(root(site), text) == "UAEINVAL"
