"""Names move; files have several."""

from __future__ import annotations

from typing import TYPE_CHECKING

from afsfuse.cache.directories import Directory
from afsfuse.interfaces import fileserver as fs
from afsfuse.interfaces.common import Fid
from tests.cell.site import ROOT

if TYPE_CHECKING:
    from tests.cell.raw import RawClient
    from tests.cell.site import Site


async def rename(
    client: RawClient, old: Fid, old_name: bytes, new: Fid, new_name: bytes
) -> fs.RenameReply:
    return await client.call(fs.RENAME, fs.RenameArgs(old, old_name, new, new_name))


async def refused(client: RawClient, old: Fid, old_name: bytes, new: Fid, new_name: bytes) -> str:
    return await client.refusal(fs.RENAME, fs.RenameArgs(old, old_name, new, new_name))


async def names(client: RawClient, directory: Fid) -> dict[bytes, tuple[int, int]]:
    """What is in a directory, as this project's parser sees it."""
    found = Directory.parse(await client.fetch(directory))
    return {entry.name: (entry.vnode, entry.unique) for entry in found}


async def test_a_name_moves_within_a_directory(client: RawClient, folder: Fid) -> None:
    file = await client.create(folder, b"old", b"data")
    before, status = await client.status(folder), await client.status(file)
    reply = await rename(client, folder, b"old", folder, b"new")
    assert reply.old_status == reply.new_status
    assert reply.old_status.data_version == before.data_version + 1
    found = await names(client, folder)
    assert b"old" not in found
    assert found[b"new"] == (file.vnode, file.unique)
    assert (await client.status(file)).data_version == status.data_version


async def test_a_file_moves_to_another_directory(client: RawClient, folder: Fid) -> None:
    there = await client.make_dir(folder, b"there")
    file = await client.create(folder, b"file", b"data")
    before = await client.status(folder), await client.status(there)
    reply = await rename(client, folder, b"file", there, b"moved")
    assert reply.old_status.data_version == before[0].data_version + 1
    assert reply.new_status.data_version == before[1].data_version + 1
    assert (await names(client, there))[b"moved"] == (file.vnode, file.unique)
    status = await client.status(file)
    assert (status.parent_vnode, status.parent_unique) == (there.vnode, there.unique)


async def test_a_directory_moves_and_knows_where_it_is(client: RawClient, folder: Fid) -> None:
    there = await client.make_dir(folder, b"there")
    moved = await client.make_dir(folder, b"moved")
    before = [await client.status(fid) for fid in (folder, there, moved)]
    reply = await rename(client, folder, b"moved", there, b"moved")
    assert reply.old_status.link_count == before[0].link_count - 1
    assert reply.new_status.link_count == before[1].link_count + 1
    assert (await names(client, moved))[b".."] == (there.vnode, there.unique)
    assert (await client.status(moved)).data_version == before[2].data_version + 1


async def test_a_file_replaces_another(client: RawClient, folder: Fid) -> None:
    first = await client.create(folder, b"first", b"1")
    second = await client.create(folder, b"second", b"2")
    before = await client.status(folder)
    reply = await rename(client, folder, b"first", folder, b"second")
    assert reply.new_status.data_version == before.data_version + 1
    assert (await names(client, folder))[b"second"] == (first.vnode, first.unique)
    assert await client.refusal(fs.FETCH_STATUS, fs.FidArgs(second)) == "VNOVNODE"


async def test_what_may_not_replace_what(client: RawClient, folder: Fid) -> None:
    await client.create(folder, b"file")
    directory = await client.make_dir(folder, b"directory")
    empty = await client.make_dir(folder, b"empty")
    await client.create(directory, b"inner")
    assert await refused(client, folder, b"file", folder, b"empty") == "UAEISDIR"
    assert await refused(client, folder, b"empty", folder, b"file") == "UAENOTDIR"
    assert await refused(client, folder, b"empty", folder, b"directory") == "UAEEXIST"
    assert await refused(client, folder, b"missing", folder, b"x") == "UAENOENT"
    assert await refused(client, folder, b"file", folder, b"a/b") == "UAEINVAL"
    assert await refused(client, folder, b"file", folder, b"..") == "UAEINVAL"
    assert await refused(client, folder, b".", folder, b"x") == "UAEINVAL"
    assert await refused(client, folder, b"file", folder, b"file") == "UAEINVAL"
    other = Fid(folder.volume + 3000, ROOT, ROOT)
    assert await refused(client, folder, b"file", other, b"x") == "UAEXDEV"
    assert len(await names(client, empty)) == 2


async def test_a_directory_does_not_move_below_itself(client: RawClient, folder: Fid) -> None:
    top = await client.make_dir(folder, b"top")
    middle = await client.make_dir(top, b"middle")
    bottom = await client.make_dir(middle, b"bottom")
    # The code is 90 on the server, which is EMSGSIZE on Linux. Source: FSERR_ELOOP.
    for below in (top, middle, bottom):
        assert await refused(client, folder, b"top", below, b"x") == "UAEMSGSIZE"
    assert (await names(client, bottom))[b".."] == (middle.vnode, middle.unique)


async def test_a_file_has_two_names(client: RawClient, folder: Fid) -> None:
    file = await client.create(folder, b"one", b"data")
    before, parent = await client.status(file), await client.status(folder)
    reply = await client.call(fs.LINK, fs.LinkArgs(folder, b"two", file))
    assert reply.status.link_count == 2
    assert reply.status.data_version == before.data_version
    assert reply.directory_status.data_version == parent.data_version + 1
    assert (await names(client, folder))[b"two"] == (file.vnode, file.unique)
    await client.remove(folder, b"one")
    assert (await client.status(file)).link_count == 1
    assert await client.fetch(file) == b"data"
    await client.remove(folder, b"two")
    assert await client.refusal(fs.FETCH_STATUS, fs.FidArgs(file)) == "VNOVNODE"


async def test_names_of_a_file_stay_in_one_directory(client: RawClient, folder: Fid) -> None:
    there = await client.make_dir(folder, b"there")
    file = await client.create(folder, b"one")

    async def link(directory: Fid, name: bytes, existing: Fid) -> str:
        return await client.refusal(fs.LINK, fs.LinkArgs(directory, name, existing))

    assert await link(there, b"two", file) == "UAEXDEV"
    assert await link(folder, b"one", file) == "UAEEXIST"
    assert await link(folder, b"a/b", file) == "UAEINVAL"
    assert await link(folder, b"d", there) == "UAEISDIR"
    assert await link(folder, b"x", file._replace(volume=1)) == "UAEXDEV"  # type: ignore[attr-defined]
    assert await link(folder, b"x", file._replace(unique=99_999)) == "VNOVNODE"  # type: ignore[attr-defined]
    await client.call(fs.LINK, fs.LinkArgs(folder, b"two", file))
    assert await refused(client, folder, b"two", there, b"two") == "UAEXDEV"
    await rename(client, folder, b"two", folder, b"three")


async def test_one_of_two_names_is_replaced(client: RawClient, folder: Fid, site: Site) -> None:
    file = await client.create(folder, b"one", b"data")
    await client.call(fs.LINK, fs.LinkArgs(folder, b"two", file))
    await client.create(folder, b"new")
    await rename(client, folder, b"new", folder, b"one")
    assert (await client.status(file)).link_count == 1
    assert await client.fetch(file) == b"data"
