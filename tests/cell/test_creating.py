"""Names are made and removed: what is told of it, and what is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from afsfuse.interfaces import fileserver as fs
from afsfuse.interfaces.common import Fid
from tests.cell.raw import NOTHING, RawClient, mode
from tests.cell.site import ROOT, Site

if TYPE_CHECKING:
    from rxrpc.rpc import Rpc
    from tests.cell.conftest import Caller


async def test_a_file_is_created(client: RawClient, folder: Fid, caller: Caller) -> None:
    before = await client.status(folder)
    reply = await client.call(fs.CREATE_FILE, fs.CreateArgs(folder, b"file", mode(0o640)))
    made, directory = reply.status, reply.directory_status
    assert made.file_type == fs.FileType.FILE
    assert (made.unix_mode_bits, made.link_count, made.length) == (0o640, 1, 0)
    assert made.data_version == 0
    assert (made.parent_vnode, made.parent_unique) == (folder.vnode, folder.unique)
    assert made.owner == made.author == caller.number
    assert reply.fid.vnode % 2 == 0
    assert directory.data_version == before.data_version + 1
    assert directory.link_count == before.link_count == 2
    assert reply.callback.type == fs.CallBackType.SHARED
    assert reply.callback.expiration > 60
    assert (await client.status(reply.fid)).data_version == 0
    assert await client.fetch(reply.fid) == b""


async def test_a_file_has_the_mode_and_time_that_were_asked_for(
    client: RawClient, folder: Fid
) -> None:
    plain = await client.call(fs.CREATE_FILE, fs.CreateArgs(folder, b"plain", NOTHING))
    assert plain.status.unix_mode_bits == 0o777
    assert plain.status.client_mod_time == pytest.approx(plain.status.server_mod_time, abs=2)
    status = fs.StoreStatus(
        fs.StoreMask.MODE | fs.StoreMask.MODIFICATION_TIME | fs.StoreMask.GROUP,
        client_mod_time=1_000_000_000, group=77, unix_mode_bits=0o600,
    )  # fmt: skip
    reply = await client.call(fs.CREATE_FILE, fs.CreateArgs(folder, b"file", status))
    made = reply.status
    assert (made.unix_mode_bits, made.client_mod_time, made.group) == (0o600, 1_000_000_000, 77)


async def test_rights_of_what_was_made(client: RawClient, folder: Fid) -> None:
    """Who makes a file administers it; of a directory the access list alone counts."""
    file = await client.call(fs.CREATE_FILE, fs.CreateArgs(folder, b"file", mode(0o644)))
    assert (file.status.caller_access, file.status.anonymous_access) == (127, 127)
    directory = await client.call(fs.MAKE_DIR, fs.CreateArgs(folder, b"d", mode(0o755)))
    assert (directory.status.caller_access, directory.status.anonymous_access) == (127, 127)


async def test_a_directory_is_made(client: RawClient, folder: Fid) -> None:
    before = await client.status(folder)
    reply = await client.call(fs.MAKE_DIR, fs.CreateArgs(folder, b"sub", mode(0o755)))
    made = reply.status
    assert made.file_type == fs.FileType.DIRECTORY
    assert (made.unix_mode_bits, made.link_count, made.length) == (0o755, 2, 2048)
    assert made.data_version == 0
    assert reply.fid.vnode % 2 == 1
    assert (made.parent_vnode, made.parent_unique) == (reply.fid.vnode, reply.fid.unique)
    assert reply.directory_status.link_count == before.link_count + 1
    assert reply.directory_status.data_version == before.data_version + 1
    assert reply.callback.expiration > 60
    after = await client.remove_dir(folder, b"sub")
    assert after.link_count == before.link_count
    assert after.data_version == before.data_version + 2
    assert await client.refusal(fs.FETCH_STATUS, fs.FidArgs(reply.fid)) == "VNOVNODE"


async def test_a_link_is_made(client: RawClient, folder: Fid) -> None:
    reply = await client.call(
        fs.SYMLINK, fs.SymlinkArgs(folder, b"link", b"to/somewhere", mode(0o755))
    )
    made = reply.status
    assert made.file_type == fs.FileType.SYMLINK
    assert (made.unix_mode_bits, made.link_count, made.length) == (0o755, 1, 12)
    assert made.data_version == 0
    assert await client.fetch(reply.fid) == b"to/somewhere"
    point = await client.call(
        fs.SYMLINK, fs.SymlinkArgs(folder, b"point", b"#root.cell.", mode(0o644))
    )
    assert point.status.unix_mode_bits == 0o644
    assert await client.fetch(point.fid) == b"#root.cell."


@pytest.mark.parametrize("rpc", [fs.CREATE_FILE, fs.MAKE_DIR], ids=lambda rpc: rpc.name)
async def test_names_that_cannot_be_made(
    client: RawClient, folder: Fid, rpc: Rpc[fs.CreateArgs, fs.CreateReply]
) -> None:
    await client.create(folder, b"there")

    async def refused(name: bytes) -> str:
        return await client.refusal(rpc, fs.CreateArgs(folder, name, NOTHING))

    before = await client.status(folder)
    assert await refused(b"there") == "UAEEXIST"
    assert await refused(b".") == "UAEEXIST"
    assert await refused(b"a/b") == "UAEINVAL"
    assert await refused(b"name@sys") == "UAEINVAL"
    assert await refused(b"") == "UAEINVAL"
    assert await client.status(folder) == before
    await client.call(rpc, fs.CreateArgs(folder, b"x" * 255, NOTHING))


async def test_where_nothing_can_be_made(client: RawClient, folder: Fid, site: Site) -> None:
    file = await client.create(folder, b"file")

    async def refused(directory: Fid) -> str:
        return await client.refusal(fs.CREATE_FILE, fs.CreateArgs(directory, b"x", NOTHING))

    assert await refused(file) == "UAENOTDIR"
    assert await refused(folder._replace(unique=folder.unique + 1)) == "VNOVNODE"  # type: ignore[attr-defined]
    assert await refused(Fid(folder.volume, 99_999, 1)) == "VNOVNODE"
    assert await refused(Fid(folder.volume, 0, 1)) == "UAEINVAL"
    assert await refused(Fid(0, ROOT, ROOT)) == "UAEINVAL"
    assert await refused(Fid(4_000_000_000, ROOT, ROOT)) == "VNOVOL"
    there = Fid(site.volume_id("scratch2"), ROOT, ROOT)
    assert await refused(there) == "VNOVOL"  # it is at the other server


async def test_a_file_is_removed(client: RawClient, folder: Fid) -> None:
    file = await client.create(folder, b"file", b"contents")
    before = await client.status(folder)
    after = await client.remove(folder, b"file")
    assert after.data_version == before.data_version + 1
    assert after.link_count == before.link_count
    assert await client.refusal(fs.FETCH_STATUS, fs.FidArgs(file)) == "VNOVNODE"


async def test_what_cannot_be_removed(client: RawClient, folder: Fid) -> None:
    await client.create(folder, b"file")
    inner = await client.make_dir(folder, b"directory")
    await client.create(inner, b"file")
    file = await client.create(folder, b"other")

    async def refused(rpc: Rpc[fs.NameArgs, fs.StatusReply], name: bytes) -> str:
        return await client.refusal(rpc, fs.NameArgs(folder, name))

    before = await client.status(folder)
    assert await refused(fs.REMOVE_FILE, b"missing") == "UAENOENT"
    assert await refused(fs.REMOVE_DIR, b"missing") == "UAENOENT"
    assert await refused(fs.REMOVE_FILE, b"directory") == "UAEISDIR"
    assert await refused(fs.REMOVE_DIR, b"file") == "UAENOTDIR"
    assert await refused(fs.REMOVE_DIR, b"directory") == "UAEEXIST"
    assert await refused(fs.REMOVE_DIR, b".") == "UAEINVAL"
    assert await refused(fs.REMOVE_FILE, b"..") == "UAEINVAL"
    assert await client.status(folder) == before
    assert await client.refusal(fs.REMOVE_FILE, fs.NameArgs(file, b"x")) == "UAENOTDIR"


async def test_a_number_that_was_used_before_is_another_file(
    client: RawClient, folder: Fid
) -> None:
    first = await client.create(folder, b"file")
    await client.remove(folder, b"file")
    second = await client.create(folder, b"file")
    assert second.unique > first.unique
    assert await client.refusal(fs.FETCH_STATUS, fs.FidArgs(first)) == "VNOVNODE"
