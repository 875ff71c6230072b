"""Statuses of many files at once, and what is asked about a volume and a server."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from afsfuse.errors import abort_name
from afsfuse.interfaces import fileserver as fs
from afsfuse.interfaces.common import Fid
from rxrpc import CallAborted
from rxrpc.rpc import Rpc, Void
from tests.cell.raw import code_name
from tests.cell.site import ROOT
from tests.realcell import seed

if TYPE_CHECKING:
    from tests.cell.raw import RawClient
    from tests.cell.site import Site


async def test_many_statuses_at_once(client: RawClient, folder: Fid) -> None:
    fids = [await client.create(folder, b"f%d" % n, b"x" * n) for n in range(1, 50)]
    asked = (folder, *fids)
    for rpc in (fs.BULK_STATUS, fs.INLINE_BULK_STATUS):
        reply = await client.call(rpc, fs.FidsArgs(asked))
        assert [status.length for status in reply.statuses[1:]] == list(range(1, 50))
        assert reply.statuses[0].file_type == fs.FileType.DIRECTORY
        assert all(promise.expiration > 60 for promise in reply.callbacks)
        assert reply.sync.creation_time > 0


async def test_each_file_has_an_error_of_its_own(client: RawClient, folder: Fid) -> None:
    file = await client.create(folder, b"file", b"data")
    gone = Fid(folder.volume, file.vnode, file.unique + 1)
    nowhere = Fid(4_000_000_000, ROOT, ROOT)
    reply = await client.call(fs.INLINE_BULK_STATUS, fs.FidsArgs((gone, file, nowhere)))
    codes = [abort_name(status.error_code) for status in reply.statuses]
    assert codes == ["102 VNOVNODE", "0", "103 VNOVOL"]
    assert reply.statuses[1].length == 4
    assert [bool(promise.expiration) for promise in reply.callbacks] == [False, True, False]
    assert await client.refusal(fs.BULK_STATUS, fs.FidsArgs((file, gone))) == "VNOVNODE"


async def test_nothing_is_no_question(client: RawClient) -> None:
    for rpc in (fs.BULK_STATUS, fs.INLINE_BULK_STATUS):
        assert await client.refusal(rpc, fs.FidsArgs(())) == "EINVAL"


async def test_a_volume_tells_its_use(client: RawClient, site: Site) -> None:
    number = site.volume_id("quota")
    reply = await client.call(fs.GET_VOLUME_STATUS, fs.GetVolumeStatusArgs(number))
    status = reply.status
    assert reply.name == b"quota"
    assert (status.volume, status.parent) == (number, number)
    assert (status.max_quota, status.type) == (seed.QUOTA_KIB, 1)
    assert (status.online, status.in_service, status.blessed) == (1, 1, 1)
    assert seed.HALF_OF_QUOTA.length >> 10 <= status.blocks_in_use < seed.QUOTA_KIB
    assert 0 < status.partition_blocks_available <= status.partition_blocks
    assert await client.refusal(fs.GET_VOLUME_STATUS, fs.GetVolumeStatusArgs(7)) == "VNOVOL"
    assert await client.refusal(fs.GET_VOLUME_STATUS, fs.GetVolumeStatusArgs(0)) == "UAEINVAL"


async def test_use_follows_what_is_stored(client: RawClient, folder: Fid) -> None:
    async def used() -> int:
        args = fs.GetVolumeStatusArgs(folder.volume)
        return (await client.call(fs.GET_VOLUME_STATUS, args)).status.blocks_in_use

    before = await used()
    file = await client.create(folder, b"file")
    assert await used() == before + 1
    await client.store(file, bytes(10_000))
    assert await used() == before + 10
    await client.make_dir(folder, b"directory")
    assert await used() == before + 12
    await client.call(fs.SYMLINK, fs.SymlinkArgs(folder, b"l", b"x" * 1024, fs.StoreStatus(0)))
    assert await used() == before + 13
    await client.remove(folder, b"file")
    await client.remove(folder, b"l")
    await client.remove_dir(folder, b"directory")
    assert await used() == before


async def test_only_administrators_set_quotas(client: RawClient, site: Site) -> None:
    status = fs.StoreVolumeStatus(fs.VolumeMask.MAX_QUOTA, 0, 1)
    args = fs.SetVolumeStatusArgs(site.volume_id("scratch"), status, b"", b"", b"")
    assert await client.refusal(fs.SET_VOLUME_STATUS, args) == "UAEACCES"


async def test_a_server_tells_about_itself(client: RawClient) -> None:
    words = (await client.call(fs.GET_CAPABILITIES, Void())).capabilities
    assert words[0] & fs.Capability.ERROR_TRANSLATION
    assert words[0] & fs.Capability.FILES_64BIT
    now = await client.call(fs.GET_TIME, Void())
    assert now.seconds == pytest.approx(time.time(), abs=5)
    statistics = await client.call(fs.GET_STATISTICS, Void())
    assert statistics.words[2] == pytest.approx(time.time(), abs=5)
    disk = statistics.disks[0]
    assert b"".join(word.to_bytes(4, "big") for word in disk.name).startswith(b"/vicepa\0")
    assert disk.total > 0
    numbers = (await client.call(fs.GET_STATISTICS64, fs.StatisticsVersionArgs(16))).numbers
    assert len(numbers) == 16
    assert await client.refusal(fs.FLUSH_CPS, fs.FlushCpsArgs((), (), 0)) == "EPERM"


async def test_what_servers_do_not_offer(client: RawClient, folder: Fid) -> None:
    assert await client.refusal(fs.LOOKUP, fs.NameArgs(folder, b"x")) == "EINVAL"
    with pytest.raises(CallAborted) as caught:
        await client.call(fs.GET_ROOT_VOLUME, Void())
    assert caught.value.code == 122
    with pytest.raises(CallAborted) as caught:
        await client.call(Rpc("Nothing", 4321, Void, Void), Void())
    assert code_name(caught.value) == "RXGEN_OPCODE"


async def test_a_read_only_volume_refuses_changes(client: RawClient, site: Site) -> None:
    root = Fid(site.volume_id("replicated.readonly"), ROOT, ROOT)
    create = fs.CreateArgs(root, b"new", fs.StoreStatus(0))
    assert await client.refusal(fs.CREATE_FILE, create) == "UAEROFS"
    assert await client.refusal(fs.MAKE_DIR, create) == "UAEROFS"
    assert await client.refusal(fs.REMOVE_FILE, fs.NameArgs(root, b"version")) == "UAEROFS"
    status = fs.StoreStatusArgs(root, fs.StoreStatus(fs.StoreMask.MODE, unix_mode_bits=0o700))
    assert await client.refusal(fs.STORE_STATUS, status) == "UAEROFS"
    assert await client.acl_refusal(root, b"1\n0\nsystem:anyuser 127\n\0") == "UAEROFS"
    reply = await client.call(fs.FETCH_STATUS, fs.FidArgs(root))
    assert reply.callback.expiration > 60
    volume = await client.call(fs.GET_VOLUME_STATUS, fs.GetVolumeStatusArgs(root.volume))
    assert (volume.status.type, volume.name) == (0, b"replicated.readonly")
    assert volume.status.parent == site.volume_id("replicated")


async def test_locks_of_a_read_only_volume(client: RawClient, site: Site) -> None:
    root = Fid(site.volume_id("replicated.readonly"), ROOT, ROOT)
    await client.call(fs.SET_LOCK, fs.SetLockArgs(root, fs.LockType.READ))
    write = fs.SetLockArgs(root, fs.LockType.WRITE)
    assert await client.refusal(fs.SET_LOCK, write) == "UAEROFS"
    await client.call(fs.EXTEND_LOCK, fs.FidArgs(root))
    await client.call(fs.RELEASE_LOCK, fs.FidArgs(root))
    assert (await client.status(root)).lock_count == 0
