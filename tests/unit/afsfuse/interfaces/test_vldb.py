from uuid import UUID

import pytest

from afsfuse.interfaces.vldb import (
    EntryFlag,
    EntryNReply,
    EntryOReply,
    EntryUReply,
    GetAddrsReply,
    GetAddrsUReply,
    SiteFlag,
)
from rxrpc.xdr import decode
from tests.vectors.recorded import recorded

FS1 = 0x0A4D010B  # 10.77.1.11


def test_a_recorded_entry_names_servers_by_uuid() -> None:
    entry = decode(EntryUReply, recorded("GetEntryByNameU")).entry
    assert entry.name == b"root.cell"
    assert entry.server_count == 3
    assert entry.servers[0] == UUID("005b351a-8503-1b03-95b3-0100007faa77")
    assert SiteFlag(entry.server_flags[0]) == SiteFlag.UUID | SiteFlag.READ_WRITE
    assert SiteFlag(entry.server_flags[1]) == SiteFlag.UUID | SiteFlag.READ_ONLY
    exists = EntryFlag.RW_EXISTS | EntryFlag.RO_EXISTS | EntryFlag.BACKUP_EXISTS
    assert entry.flags == exists


@pytest.mark.parametrize(
    ("name", "cls"), [("GetEntryByNameN", EntryNReply), ("GetEntryByNameO", EntryOReply)]
)
def test_recorded_older_entries_name_servers_by_address(
    name: str, cls: type[EntryNReply] | type[EntryOReply]
) -> None:
    entry = decode(cls, recorded(name)).entry
    assert entry.name == b"root.cell"
    assert entry.servers[0] == FS1


def test_recorded_addresses() -> None:
    reply = decode(GetAddrsUReply, recorded("GetAddrsU"))
    assert reply.uuid == UUID("005b351a-8503-1b03-95b3-0100007faa77")
    assert reply.addresses == (FS1,)
    everything = decode(GetAddrsReply, recorded("GetAddrs"))
    assert [address >> 16 for address in everything.addresses] == [0xFF00, 0xFF00]
