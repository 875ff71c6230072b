"""Access lists: their text, and what they permit."""

from __future__ import annotations

import pytest

from afsfuse.interfaces import fileserver as fs
from afsfuse.interfaces.common import Fid
from afsfuse.model import Rights
from tests.cell.raw import RawClient, mode
from tests.cell.site import ROOT, Site

LOOKUP_ADMINISTER = int(Rights.LOOKUP | Rights.ADMINISTER)


@pytest.fixture
async def closed(client: RawClient, folder: Fid) -> Fid:
    """A directory whose list can be changed; at the end it is open again."""
    return await client.make_dir(folder, b"closed")


async def acl(client: RawClient, fid: Fid) -> bytes:
    return (await client.call(fs.FETCH_ACL, fs.FidArgs(fid))).access_list


async def set_acl(client: RawClient, fid: Fid, text: bytes) -> fs.FetchStatus:
    return await client.set_acl(fid, text + b"\0")


async def test_a_new_directory_has_its_parents_list(
    client: RawClient, folder: Fid, closed: Fid
) -> None:
    assert await acl(client, folder) == b"1\n0\nsystem:anyuser\t127\n\0"
    assert await acl(client, closed) == await acl(client, folder)
    file = await client.create(closed, b"file")
    assert await acl(client, file) == await acl(client, folder)


async def test_a_list_is_stored(client: RawClient, closed: Fid) -> None:
    before = await client.status(closed)
    text = b"2\n1\nsystem:anyuser 127\nsystem:administrators 127\nsystem:authuser 2\n"
    status = await set_acl(client, closed, text)
    assert status.data_version == before.data_version
    assert await acl(client, closed) == (
        b"2\n1\nsystem:administrators\t127\nsystem:anyuser\t127\nsystem:authuser\t2\n\0"
    )
    await set_acl(client, closed, b"1\n0\nsystem:anyuser\t127\n")
    assert await acl(client, closed) == b"1\n0\nsystem:anyuser\t127\n\0"


async def test_the_reply_tells_of_the_rights_before(client: RawClient, closed: Fid) -> None:
    """So whoever changes a list has to ask again."""
    status = await set_acl(client, closed, b"1\n0\nsystem:anyuser\t%d\n" % LOOKUP_ADMINISTER)
    assert (status.caller_access, status.anonymous_access) == (127, 127)
    status = await set_acl(client, closed, b"1\n0\nsystem:anyuser\t127\n")
    assert (status.caller_access, status.anonymous_access) == (72, 72)
    assert (await client.status(closed)).caller_access == 127


async def test_rights_decide(client: RawClient, closed: Fid) -> None:
    file = await client.create(closed, b"file", b"data")
    await set_acl(client, closed, b"1\n0\nsystem:anyuser %d\n" % LOOKUP_ADMINISTER)
    try:
        status = await client.status(closed)
        assert (status.caller_access, status.anonymous_access) == (72, 72)
        assert await client.refusal(fs.FETCH_DATA64, fs.FetchData64Args(file, 0, 9)) == "UAEACCES"
        assert await client.refusal(fs.FETCH_STATUS, fs.FidArgs(file)) == "UAEACCES"
        args = fs.CreateArgs(closed, b"new", mode(0o644))
        assert await client.refusal(fs.CREATE_FILE, args) == "UAEACCES"
        assert await client.refusal(fs.MAKE_DIR, args) == "UAEACCES"
        gone = fs.NameArgs(closed, b"file")
        assert await client.refusal(fs.REMOVE_FILE, gone) == "UAEACCES"
        store = fs.StoreData64Args(file, mode(0o644), 0, 0, 0)
        assert await client.refusal(fs.STORE_DATA64, store) == "UAEACCES"
        store_status = fs.StoreStatusArgs(closed, mode(0o700))
        assert await client.refusal(fs.STORE_STATUS, store_status) == "UAEACCES"
        renaming = fs.RenameArgs(closed, b"file", closed, b"x")
        assert await client.refusal(fs.RENAME, renaming) == "UAEACCES"
        assert len(await client.fetch(closed)) == 2048
    finally:
        await set_acl(client, closed, b"1\n0\nsystem:anyuser 127\n")


async def test_negative_rights_win(client: RawClient, closed: Fid) -> None:
    await set_acl(client, closed, b"1\n1\nsystem:anyuser 127\nsystem:anyuser 4\n")
    assert (await client.status(closed)).caller_access == 127 & ~4
    args = fs.CreateArgs(closed, b"new", mode(0o644))
    assert await client.refusal(fs.CREATE_FILE, args) == "UAEACCES"


async def test_a_mount_point_needs_the_right_to_administer(
    client: RawClient, folder: Fid, closed: Fid
) -> None:
    await set_acl(client, closed, b"1\n1\nsystem:anyuser 127\nsystem:anyuser 64\n")
    # Nobody can undo that, but who may delete can remove the directory.
    point = fs.SymlinkArgs(closed, b"point", b"#x.", mode(0o644))
    assert await client.refusal(fs.SYMLINK, point) == "UAEACCES"
    await client.call(fs.SYMLINK, fs.SymlinkArgs(closed, b"link", b"x", mode(0o755)))
    assert await client.acl_refusal(closed, b"1\n0\nsystem:anyuser 127\n\0") == "UAEACCES"
    await client.remove(closed, b"link")
    await client.remove_dir(folder, b"closed")


@pytest.mark.parametrize(
    "text",
    [
        b"nonsense\0",
        b"1\n0\nnobody-has-this-name 127\n\0",
        b"1\n0\n\0",
        b"2\n0\nsystem:anyuser 127\n\0",
        b"21\n0\n" + b"system:anyuser 1\n" * 21 + b"\0",
        b"-1\n0\n\0",
        b"1\n0\nsystem:anyuser\n\0",
    ],
)
async def test_lists_that_make_no_sense(client: RawClient, closed: Fid, text: bytes) -> None:
    assert await client.acl_refusal(closed, text) == "UAEINVAL"
    assert await acl(client, closed) == b"1\n0\nsystem:anyuser\t127\n\0"


async def test_only_directories_have_a_list_of_their_own(client: RawClient, folder: Fid) -> None:
    file = await client.create(folder, b"file")
    assert await client.acl_refusal(file, b"1\n0\nsystem:anyuser 127\n\0") == "UAENOTDIR"


async def test_rights_of_the_prepared_directories(client: RawClient, site: Site) -> None:
    from afsfuse.cache.directories import Directory

    volume = site.volume_id("rights")
    root = Directory.parse(await client.fetch(Fid(volume, ROOT, ROOT)))
    rights = {}
    for entry in root:
        fid = Fid(volume, entry.vnode, entry.unique)
        rights[entry.name] = (await client.status(fid)).caller_access
    assert rights[b"all"] == 127
    assert rights[b"read"] == 9
    assert rights[b"lookup"] == 8
    assert rights[b"none"] == 0
    assert rights[b"negative"] == 126
