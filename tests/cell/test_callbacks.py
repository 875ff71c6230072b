"""Promises, and who hears when they are broken."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from afsfuse.interfaces import fileserver as fs
from afsfuse.interfaces.common import Fid
from rxrpc.rpc import Rpc, Void
from tests.cell.raw import RawClient, mode
from tests.cell.site import ROOT

if TYPE_CHECKING:
    from tests.cell.site import Site


@pytest.fixture
async def file(client: RawClient, folder: Fid) -> Fid:
    """A file, of which the client holds a promise."""
    return await client.create(folder, b"file", b"data")


async def test_a_server_makes_itself_known(client: RawClient, folder: Fid) -> None:
    assert client.resets == 1


async def test_others_hear_of_changes(
    client: RawClient, other: RawClient, folder: Fid, file: Fid
) -> None:
    async def seen(fid: Fid) -> None:
        assert (await other.call(fs.FETCH_STATUS, fs.FidArgs(fid))).callback.expiration > 60

    await seen(file)
    await client.store(file, b"more")
    assert await other.broken_within_moments(file)
    await seen(file)
    await client.call(fs.STORE_STATUS, fs.StoreStatusArgs(file, mode(0o600)))
    assert await other.broken_within_moments(file)
    changes: list[tuple[Rpc[Any, Any], object]] = [
        (fs.CREATE_FILE, fs.CreateArgs(folder, b"new", mode(0o644))),
        (fs.MAKE_DIR, fs.CreateArgs(folder, b"sub", mode(0o755))),
        (fs.SYMLINK, fs.SymlinkArgs(folder, b"link", b"x", mode(0o755))),
        (fs.RENAME, fs.RenameArgs(folder, b"new", folder, b"newer")),
        (fs.REMOVE_FILE, fs.NameArgs(folder, b"newer")),
        (fs.REMOVE_DIR, fs.NameArgs(folder, b"sub")),
        (fs.LINK, fs.LinkArgs(folder, b"hard", file)),
    ]
    for rpc, args in changes:
        await seen(folder)
        await client.call(rpc, args)
        assert await other.broken_within_moments(folder), rpc
    await seen(folder)
    await client.set_acl(folder, b"1\n0\nsystem:anyuser 127\n\0")
    assert await other.broken_within_moments(folder)


async def test_a_break_has_been_heard_when_the_change_is_answered(
    client: RawClient, other: RawClient, file: Fid
) -> None:
    await other.status(file)
    await client.store(file, b"more")
    assert file in other.broken


async def test_who_changes_something_keeps_his_promises(
    client: RawClient, folder: Fid, file: Fid
) -> None:
    await client.status(folder)
    await client.store(file, b"more")
    await client.create(folder, b"new")
    assert client.broken == []


async def test_a_promise_is_broken_once(client: RawClient, other: RawClient, file: Fid) -> None:
    await other.status(file)
    await client.store(file, b"one")
    await client.store(file, b"two")
    assert other.broken == [file]


async def test_promises_that_were_given_up(
    client: RawClient, other: RawClient, folder: Fid, file: Fid
) -> None:
    await other.status(file)
    await other.status(folder)
    await other.call(fs.GIVE_UP_CALLBACKS, fs.GiveUpCallBacksArgs((file,), ()))
    await client.store(file, b"more")
    await client.create(folder, b"new")
    assert await other.broken_within_moments(folder)
    assert other.broken == []
    await other.status(folder)
    await other.call(fs.GIVE_UP_ALL_CALLBACKS, Void())
    await client.create(folder, b"newer")
    assert other.broken == []


async def test_everybody_hears_that_a_file_lost_a_name(
    client: RawClient, other: RawClient, folder: Fid, file: Fid
) -> None:
    await client.call(fs.LINK, fs.LinkArgs(folder, b"two", file))
    await client.status(file)
    await other.status(file)
    await client.remove(folder, b"two")
    assert await other.broken_within_moments(file)
    assert await client.broken_within_moments(file)


async def test_nobody_hears_of_a_file_that_is_gone(
    client: RawClient, other: RawClient, folder: Fid, file: Fid
) -> None:
    await other.status(file)
    await other.status(folder)
    await client.remove(folder, b"file")
    assert await other.broken_within_moments(folder)
    assert file not in other.broken


async def test_a_moved_directory_is_told_to_everybody(
    client: RawClient, other: RawClient, folder: Fid
) -> None:
    there = await client.make_dir(folder, b"there")
    moved = await client.make_dir(folder, b"moved")
    await other.status(moved)
    await client.call(fs.RENAME, fs.RenameArgs(folder, b"moved", there, b"moved"))
    assert await other.broken_within_moments(moved)
    assert await client.broken_within_moments(moved)


async def test_a_release_is_told_for_the_whole_volume(
    client: RawClient, other: RawClient, site: Site
) -> None:
    volume = site.volume_id("replicated.readonly")
    root = Fid(volume, ROOT, ROOT)
    before = await other.call(fs.FETCH_STATUS, fs.FidArgs(root))
    await site.release("replicated")
    assert await other.broken_within_moments(Fid(volume, 0, 0))
    after = await other.call(fs.FETCH_STATUS, fs.FidArgs(root))
    assert after.sync.creation_time > before.sync.creation_time
    assert client.broken == []
