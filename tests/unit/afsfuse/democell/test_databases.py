"""The location and the protection service."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
import trio

from afsfuse.democell import DemoCell
from afsfuse.errors import VlCode
from afsfuse.interfaces import protection as pr
from afsfuse.interfaces import vldb
from afsfuse.model import VolumeType
from rxrpc import CallAborted
from rxrpc.rpc import Rpc, Void
from tests.cell.site import InProcess, in_process

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


FS1, FS2 = 0xC000020B, 0xC000020C


@pytest.fixture
async def site() -> AsyncIterator[InProcess]:
    cell = DemoCell("test.afs", ["192.0.2.11", "192.0.2.12"])
    cell.people.add_user("alice", 501)
    cell.people.add_member(pr.ADMINISTRATORS, 501)
    cell.create_volume("plain")
    cell.create_volume("copied", server="fs2")
    async with in_process(cell) as started:
        await cell.replicate("copied", ["fs1", "fs2"])
        await cell.backup("copied")
        yield started


Ask = Callable[[Rpc[Any, Any], Any], Awaitable[Any]]


@pytest.fixture
async def ask(site: InProcess) -> AsyncIterator[Ask]:
    """Call one of the databases, by the procedure's interface."""
    endpoint = site.endpoint()
    async with trio.open_nursery() as nursery:
        await nursery.start(endpoint.run)

        async def call(rpc: Rpc[Any, Any], args: Any) -> Any:
            port, service = (
                (vldb.PORT, vldb.SERVICE_ID) if rpc in vldb.VL.rpcs else (pr.PORT, pr.SERVICE_ID)
            )
            address = (site.cell.addresses[0], port)
            return await endpoint.connect(address, service).call(rpc, args)

        yield call
        nursery.cancel_scope.cancel()


async def test_records_in_all_forms(site: InProcess, ask: Ask) -> None:
    number = site.cell.volume("copied").id
    by_name = vldb.VolumeNameArgs
    new = (await ask(vldb.GET_ENTRY_BY_NAME_U, by_name(b"copied"))).entry
    assert new.name == b"copied"
    assert new.server_count == 3
    assert new.volume_ids == (number, number + 1, number + 2)
    exists = vldb.EntryFlag
    assert new.flags == exists.RW_EXISTS | exists.RO_EXISTS | exists.BACKUP_EXISTS
    uuids = [site.cell.servers[name].uuid for name in ("fs2", "fs1", "fs2")]
    assert list(new.servers[:3]) == uuids
    assert all(flags & vldb.SiteFlag.UUID for flags in new.server_flags[:3])
    for rpc in (vldb.GET_ENTRY_BY_NAME_N, vldb.GET_ENTRY_BY_NAME_O):
        entry = (await ask(rpc, by_name(b"%d" % (number + 1)))).entry
        assert entry.servers[:4] == (FS2, FS1, FS2, 0)
        assert entry.server_flags[0] == vldb.SiteFlag.READ_WRITE
    for by_id in (vldb.GET_ENTRY_BY_ID_U, vldb.GET_ENTRY_BY_ID_N, vldb.GET_ENTRY_BY_ID_O):
        assert (await ask(by_id, vldb.VolumeIdArgs(number + 2, -1))).entry.name == b"copied"
    entry = (await ask(vldb.GET_ENTRY_BY_NAME_U, by_name(b"copied.backup"))).entry
    assert entry.name == b"copied"


async def test_what_is_not_there(ask: Ask) -> None:
    for rpc, args in (
        (vldb.GET_ENTRY_BY_NAME_U, vldb.VolumeNameArgs(b"missing")),
        (vldb.GET_ENTRY_BY_NAME_U, vldb.VolumeNameArgs(b"99")),
        (vldb.GET_ENTRY_BY_ID_N, vldb.VolumeIdArgs(0, -1)),
        (vldb.GET_ADDRS_U, vldb.GetAddrsUArgs(vldb.AddressMask.UUID, 0, 0, 0, UUID(int=5))),
        (vldb.GET_ADDRS_U, vldb.GetAddrsUArgs(vldb.AddressMask.INDEX, 0, 9, 0, UUID(int=0))),
    ):
        with pytest.raises(CallAborted) as caught:
            await ask(rpc, args)
        assert caught.value.code == VlCode.NOENT


async def test_servers_and_their_addresses(site: InProcess, ask: Ask) -> None:
    await ask(vldb.PROBE_SERVER, Void())
    everything = await ask(vldb.GET_ADDRS, vldb.GetAddrsArgs(0, 0))
    assert everything.addresses == (0xFF000001, 0xFF000002)
    nobody, mask = UUID(int=0), vldb.AddressMask
    uuid = site.cell.servers["fs2"].uuid
    for args in (
        vldb.GetAddrsUArgs(mask.INDEX, 0, 2, 0, nobody),
        vldb.GetAddrsUArgs(mask.ADDRESS, FS2, 0, 0, nobody),
        vldb.GetAddrsUArgs(mask.UUID, 0, 0, 0, uuid),
    ):
        reply = await ask(vldb.GET_ADDRS_U, args)
        assert (reply.uuid, reply.addresses) == (uuid, (FS2,))


async def test_lists_of_records(ask: Ask) -> None:
    async def names(mask: int, server: int = 0, volume: int = 0, name: bytes = b"") -> list[bytes]:
        wanted = vldb.ListAttributes(mask, server, 0, 0, volume, 0)
        args = vldb.ListAttributesN2Args(wanted, name, 0)
        reply = await ask(vldb.LIST_ATTRIBUTES_N2, args)
        assert reply.count == len(reply.entries)
        return [entry.name for entry in reply.entries]

    assert await names(0) == [b"plain", b"copied"]
    assert await names(0, name=b".*") == [b"plain", b"copied"]
    assert await names(0, name=b"plain") == [b"plain"]
    assert await names(vldb.ListMask.SERVER, FS2 - (1 << 32)) == [b"copied"]
    assert await names(vldb.ListMask.VOLUME_ID, volume=536870913) == [b"plain"]


async def test_who_is_who(ask: Ask) -> None:
    names = pr.NamesMessage((b"alice", b"system:anyuser", b"nobody"))
    assert (await ask(pr.NAME_TO_ID, names)).ids == (501, -101, 32766)
    reply = await ask(pr.ID_TO_NAME, pr.IdsMessage((501, -204, 7)))
    assert reply.names == (b"alice", b"system:administrators", b"7")
    assert (await ask(pr.GET_CPS, pr.IdArgs(501))).ids == (-204, -102, -101, 501)
    assert (await ask(pr.GET_CPS, pr.IdArgs(32766))).ids == (-101, 32766)
    assert (await ask(pr.LIST_ELEMENTS, pr.IdArgs(-204))).ids == (501,)
    assert (await ask(pr.LIST_ELEMENTS, pr.IdArgs(501))).ids == (-204,)
    assert (await ask(pr.IS_A_MEMBER_OF, pr.MemberArgs(501, -204))).flag == 1
    entry = (await ask(pr.LIST_ENTRY, pr.IdArgs(501))).entry
    assert (entry.name, entry.count) == (b"alice", 1)
    assert await ask(pr.LIST_MAX_IDS, Void()) == pr.ListMaxReply(501, -204)
    assert (await ask(pr.GET_HOST_CPS, pr.IdArgs(1))).ids == ()
    with pytest.raises(CallAborted):
        await ask(pr.GET_CPS, pr.IdArgs(9))


def test_volumes_have_three_numbers() -> None:
    cell = DemoCell("test.afs", ["192.0.2.11"])
    first, second = cell.create_volume("a"), cell.create_volume("b")
    assert second.id == first.id + len(VolumeType)
