"""Data and statuses are stored."""

from __future__ import annotations

import pytest

from afsfuse.cache.dirty import NO_END, OLD_END
from afsfuse.interfaces import fileserver as fs
from afsfuse.interfaces.common import Fid
from tests.cell.raw import RawClient, mode, same_but
from tests.cell.site import ROOT, Site

GIB = 1 << 30


@pytest.fixture
async def file(client: RawClient, folder: Fid) -> Fid:
    """An empty file."""
    return await client.create(folder, b"file")


async def test_what_is_stored_is_there(client: RawClient, file: Fid) -> None:
    data = bytes(range(256)) * 1000
    status = await client.store(file, data)
    assert (status.length, status.data_version) == (len(data), 1)
    assert await client.fetch(file) == data
    assert await client.fetch(file, 1000, 100) == data[1000:1100]
    assert await client.fetch(file, len(data) - 5, 100) == data[-5:]
    assert await client.fetch(file, len(data), 100) == b""
    assert await client.fetch(file, len(data) + 1000, 100) == b""
    assert await client.status(file) == status


async def test_a_part_is_overwritten(client: RawClient, file: Fid) -> None:
    await client.store(file, b"0123456789")
    status = await client.store(file, b"ab", 4, length=10)
    assert (status.length, status.data_version) == (10, 2)
    assert await client.fetch(file) == b"0123ab6789"


async def test_a_file_grows_and_is_cut(client: RawClient, file: Fid) -> None:
    await client.store(file, b"0123456789")
    await client.store(file, b"xyz", 8, length=11)
    assert await client.fetch(file) == b"01234567xyz"
    status = await client.store(file, b"", 0, length=4)
    assert status.length == 4
    assert await client.fetch(file) == b"0123"
    await client.store(file, b"!", 6, length=2)  # cut to 2, then written behind the end
    assert await client.fetch(file) == b"01\0\0\0\0!"


async def test_a_file_is_only_made_longer_by_what_is_written(client: RawClient, file: Fid) -> None:
    await client.store(file, b"0123456789")
    status = await client.store(file, b"", 0, length=100)
    assert status.length == 10
    status = await client.store(file, b"", 30, length=30)
    assert status.length == 30
    assert await client.fetch(file) == b"0123456789" + bytes(20)


@pytest.mark.parametrize("length", [OLD_END, NO_END])
async def test_a_length_that_no_file_has_cuts_nothing(
    client: RawClient, file: Fid, length: int
) -> None:
    """What stores say that are under way side by side."""
    await client.store(file, b"0123456789")
    assert (await client.store(file, b"ab", 2, length=length)).length == 10
    assert (await client.store(file, b"xyz", 20, length=length)).length == 23
    assert (await client.store(file, b"", 30, length=length)).length == 30
    assert (await client.store(file, b"", 5, length=length)).length == 30
    assert await client.fetch(file) == b"01ab456789" + bytes(10) + b"xyz" + bytes(7)


async def test_a_store_can_cut_and_write_in_one(client: RawClient, file: Fid) -> None:
    await client.store(file, b"0123456789" * 10_000)
    status = await client.store(file, b"new", 0, length=0)
    assert (status.length, status.data_version) == (3, 2)
    assert await client.fetch(file) == b"new"


async def test_holes_read_as_zeros_beyond_four_gibibytes(client: RawClient, file: Fid) -> None:
    for position in (2 * GIB - 2, 4 * GIB + 5):
        status = await client.store(file, b"marks", position)
        assert status.length == position + 5
        assert (status.length_high, status.length_low) == divmod(position + 5, 1 << 32)
    assert await client.fetch(file, 2 * GIB - 4, 9) == b"\0\0marks\0\0"
    assert await client.fetch(file, 4 * GIB, 100) == bytes(5) + b"marks"
    assert (await client.store(file, b"", 0, length=2 * GIB)).length == 2 * GIB
    assert await client.fetch(file, 2 * GIB - 2, 9) == b"ma"


async def test_the_old_store_ends_at_two_gibibytes(client: RawClient, file: Fid) -> None:
    args = fs.StoreDataArgs(file, mode(0o644), 0, 0, 1 << 31)
    assert await client.refusal(fs.STORE_DATA, args) == "EFBIG"  # before it asks who calls
    reply = await client.call(fs.STORE_DATA, fs.StoreDataArgs(file, mode(0o600), 5, 0, 5))
    assert (reply.status.length, reply.status.unix_mode_bits) == (5, 0o600)


async def test_time_and_mode_that_come_with_data(client: RawClient, file: Fid) -> None:
    mask = fs.StoreMask.MODIFICATION_TIME | fs.StoreMask.MODE | fs.StoreMask.FSYNC
    given = fs.StoreStatus(mask, client_mod_time=1_234_567_890, unix_mode_bits=0o600)
    status = await client.store(file, b"data", status=given)
    assert (status.client_mod_time, status.unix_mode_bits) == (1_234_567_890, 0o600)
    status = await client.store(file, b"data")
    assert status.client_mod_time == pytest.approx(status.server_mod_time, abs=2)


async def test_only_files_take_data(client: RawClient, folder: Fid) -> None:
    args = fs.StoreData64Args(folder, mode(0o644), 0, 0, 0)
    assert await client.refusal(fs.STORE_DATA64, args) == "UAEISDIR"
    link = await client.call(fs.SYMLINK, fs.SymlinkArgs(folder, b"link", b"x", mode(0o755)))
    args = fs.StoreData64Args(link.fid, mode(0o644), 0, 0, 0)
    assert await client.refusal(fs.STORE_DATA64, args) == "UAEISDIR"


async def test_status_is_stored(client: RawClient, file: Fid) -> None:
    await client.store(file, b"data")
    before = await client.status(file)
    mask = fs.StoreMask.MODE | fs.StoreMask.MODIFICATION_TIME
    given = fs.StoreStatus(mask, client_mod_time=1_111_111_111, unix_mode_bits=0o400)
    reply = await client.call(fs.STORE_STATUS, fs.StoreStatusArgs(file, given))
    after = reply.status._replace(server_mod_time=before.server_mod_time)  # type: ignore[attr-defined]
    assert same_but(before, after, "unix_mode_bits", "client_mod_time")
    assert after.data_version == before.data_version
    assert await client.status(file) == reply.status


async def test_files_are_not_given_away(client: RawClient, file: Fid) -> None:
    args = fs.StoreStatusArgs(file, fs.StoreStatus(fs.StoreMask.OWNER, owner=1234))
    assert await client.refusal(fs.STORE_STATUS, args) == "UAEPERM"
    args = fs.StoreStatusArgs(file, fs.StoreStatus(fs.StoreMask.GROUP, group=1234))
    assert await client.refusal(fs.STORE_STATUS, args) == "UAEPERM"
    same = await client.status(file)
    args = fs.StoreStatusArgs(file, fs.StoreStatus(fs.StoreMask.OWNER, owner=same.owner))
    assert (await client.call(fs.STORE_STATUS, args)).status.owner == same.owner


async def test_a_link_keeps_its_mode(client: RawClient, folder: Fid) -> None:
    link = await client.call(fs.SYMLINK, fs.SymlinkArgs(folder, b"link", b"x", mode(0o755)))
    args = fs.StoreStatusArgs(link.fid, mode(0o644))
    assert await client.refusal(fs.STORE_STATUS, args) == "UAEINVAL"


async def test_a_directory_has_a_mode_and_a_time(client: RawClient, folder: Fid) -> None:
    mask = fs.StoreMask.MODE | fs.StoreMask.MODIFICATION_TIME
    given = fs.StoreStatus(mask, client_mod_time=1_111_111_111, unix_mode_bits=0o700)
    status = (await client.call(fs.STORE_STATUS, fs.StoreStatusArgs(folder, given))).status
    assert (status.unix_mode_bits, status.client_mod_time) == (0o700, 1_111_111_111)


async def test_a_file_that_its_owner_made_read_only_can_be_stored_by_him(
    client: RawClient, folder: Fid
) -> None:
    reply = await client.call(fs.CREATE_FILE, fs.CreateArgs(folder, b"file", mode(0o444)))
    assert (await client.store(reply.fid, b"data")).length == 4
    # By anybody else the mode would count: that file is root's.
    slot = Fid(folder.volume, 2, (await _slot(client, folder)).unique)
    before = await client.status(slot)
    await client.call(fs.STORE_STATUS, fs.StoreStatusArgs(slot, mode(0o444)))
    args = fs.StoreData64Args(slot, fs.StoreStatus(0), 0, 0, 1000)
    assert await client.refusal(fs.STORE_DATA64, args) == "UAEACCES"
    restored = fs.StoreStatusArgs(slot, mode(before.unix_mode_bits))
    await client.call(fs.STORE_STATUS, restored)


async def _slot(client: RawClient, folder: Fid) -> Fid:
    """The file `slot00` of the volume."""
    from afsfuse.cache.directories import Directory

    root = Directory.parse(await client.fetch(Fid(folder.volume, ROOT, ROOT)))
    found = root.find(b"slot00")
    assert found is not None
    return Fid(folder.volume, *found)


async def test_a_quota_is_kept(client: RawClient, site: Site) -> None:
    root = Fid(site.volume_id("quota"), ROOT, ROOT)
    before = (await client.call(fs.GET_VOLUME_STATUS, fs.GetVolumeStatusArgs(root.volume))).status
    file = await client.create(root, b"more")
    try:
        # Data may exceed the quota by 1 MiB, and no more.
        too_much = (before.max_quota - before.blocks_in_use + 1024 + 8) << 10
        args = fs.StoreData64Args(file, mode(0o644), 0, too_much, too_much)
        assert await client.refusal(fs.STORE_DATA64, args) == "VOVERQUOTA"
        assert (await client.status(file)).length == 0
        await client.store(file, b"", (before.max_quota - before.blocks_in_use + 512) << 10)
        args2 = fs.CreateArgs(root, b"another", mode(0o644))
        assert await client.refusal(fs.CREATE_FILE, args2) == "VOVERQUOTA"
        args2 = fs.CreateArgs(root, b"directory", mode(0o644))
        assert await client.refusal(fs.MAKE_DIR, args2) == "VOVERQUOTA"
    finally:
        await client.remove(root, b"more")
    after = (await client.call(fs.GET_VOLUME_STATUS, fs.GetVolumeStatusArgs(root.volume))).status
    assert after.blocks_in_use == before.blocks_in_use
