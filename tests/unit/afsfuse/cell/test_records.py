from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afsfuse.cell.records import (
    Preference,
    choose,
    read_entry,
    releasing,
    sites_of,
    split_suffix,
    type_of,
)
from afsfuse.errors import DataCorrupt, VolumeMissing
from afsfuse.interfaces import vldb
from afsfuse.model import SiteInfo, VolumeInfo, VolumeType
from rxrpc.xdr import decode
from tests.fuzz.xdr_strategies import values
from tests.unit.afsfuse.cell.fakevl import ALL, FS1, FS2, FS3, NEW, RO, RW, WAITING, entry, older
from tests.vectors.recorded import recorded


def near(site: SiteInfo) -> tuple[float, float]:
    return (float(site.server.int), 0.0)


def test_a_recorded_record_in_its_three_forms() -> None:
    new = read_entry(decode(vldb.EntryUReply, recorded("GetEntryByNameU")).entry)
    assert new.name == "root.cell"
    assert all(new.has(type) for type in VolumeType)
    assert [sorted(site.types) for site in new.sites] == [
        [VolumeType.RW, VolumeType.BACKUP],
        [VolumeType.RO],
        [VolumeType.RO],
    ]
    assert new.sites[0].address is None
    for reply in (
        decode(vldb.EntryNReply, recorded("GetEntryByNameN")),
        decode(vldb.EntryOReply, recorded("GetEntryByNameO")),
    ):
        old = read_entry(reply.entry)
        assert (old.name, old.ids) == (new.name, new.ids)
        assert [site.address for site in old.sites] == ["10.77.1.11", "10.77.1.11", "10.77.1.12"]
        assert [site.types for site in old.sites] == [site.types for site in new.sites]


def test_a_server_without_a_uuid_is_known_by_its_address() -> None:
    record = entry((UUID(int=0x0A000005 << 96), RW))
    flags = tuple(f & ~vldb.SiteFlag.UUID for f in record.server_flags)
    site = read_entry(record._replace(server_flags=flags)).sites[0]  # type: ignore[attr-defined]
    assert site.address == "10.0.0.5"
    assert site.server == UUID(int=0x0A000005 << 96)
    by_address = read_entry(older(vldb.GET_ENTRY_BY_NAME_N, entry((FS1, RW))).entry).sites[0]
    assert by_address.server == UUID(int=0x0A000001 << 96)


@pytest.mark.parametrize("count", [-1, 14, 2**31 - 1])
def test_an_impossible_number_of_sites(count: int) -> None:
    record = entry((FS1, RW))._replace(server_count=count)  # type: ignore[attr-defined]
    with pytest.raises(DataCorrupt):
        read_entry(record)


@given(st.one_of(values(vldb.EntryU), values(vldb.EntryN), values(vldb.EntryO)))
def test_any_record_is_read_or_corrupt(record: vldb.EntryU | vldb.EntryN | vldb.EntryO) -> None:
    try:
        info = read_entry(record)
    except DataCorrupt:
        return
    for type in VolumeType:
        assert len(sites_of(info, type, near)) <= len(info.sites)
    assert info.name.isascii()


def test_numbers_count_only_when_the_flags_say_that_the_volume_exists() -> None:
    assert read_entry(entry((FS1, RW), flags=0x1000)).ids == (100, 0, 0)
    assert read_entry(entry((FS1, RW), flags=ALL)).ids == (100, 101, 102)


@pytest.mark.parametrize(
    ("name", "stem", "type"),
    [
        ("root.cell", "root.cell", None),
        ("root.cell.readonly", "root.cell", VolumeType.RO),
        ("root.cell.backup", "root.cell", VolumeType.BACKUP),
        ("a.readonly.backup", "a.readonly", VolumeType.BACKUP),
        (".readonly", ".readonly", None),
        ("readonly", "readonly", None),
    ],
)
def test_suffixes(name: str, stem: str, type: VolumeType | None) -> None:
    assert split_suffix(name) == (stem, type)


REPLICATED = read_entry(entry((FS1, RW), (FS1, RO), (FS2, RO)))
RW_ONLY = read_entry(entry((FS1, RW), flags=0x1000))
RO_ONLY = read_entry(entry((FS1, RO), flags=0x2000))
NEVER_RELEASED = read_entry(entry((FS1, RW), (FS2, RO | WAITING), flags=0x3000))


@pytest.mark.parametrize(
    ("info", "want", "type"),
    [
        (REPLICATED, Preference.PREFER_RO, VolumeType.RO),
        (REPLICATED, Preference.FORCE_RW, VolumeType.RW),
        (REPLICATED, Preference.RO, VolumeType.RO),
        (REPLICATED, Preference.BACKUP, VolumeType.BACKUP),
        (RW_ONLY, Preference.PREFER_RO, VolumeType.RW),
        (RW_ONLY, Preference.FORCE_RW, VolumeType.RW),
        (RW_ONLY, Preference.RO, None),
        (RW_ONLY, Preference.BACKUP, None),
        (RO_ONLY, Preference.PREFER_RO, VolumeType.RO),
        (RO_ONLY, Preference.FORCE_RW, None),
        (NEVER_RELEASED, Preference.PREFER_RO, VolumeType.RW),
        (NEVER_RELEASED, Preference.RO, None),
    ],
)
def test_which_volume_is_chosen(
    info: VolumeInfo, want: Preference, type: VolumeType | None
) -> None:
    if type is not None:
        assert choose(info, want, cell="example.org") is type
        return
    with pytest.raises(VolumeMissing, match=r"root\.cell.*example\.org"):
        choose(info, want, cell="example.org")


def test_a_backup_is_beside_the_original_or_where_the_record_says() -> None:
    info = read_entry(entry((FS1, RW), (FS2, vldb.SiteFlag.BACKUP)))
    assert [site.server for site in sites_of(info, VolumeType.BACKUP, near)] == [FS1, FS2]


def test_numbers_tell_the_type() -> None:
    assert [type_of(REPLICATED, n) for n in (100, 101, 102, 103)] == [*VolumeType, None]


def test_near_sites_come_first() -> None:
    info = read_entry(entry((FS3, RO), (FS1, RO), (FS2, RO)))
    assert [site.server for site in sites_of(info, VolumeType.RO, near)] == [FS1, FS2, FS3]
    assert not releasing(info)


@pytest.mark.parametrize(
    ("sites", "order"),
    [
        # less than half of the replicas are new: stay with the old ones
        ([(FS1, RO | NEW), (FS2, RO), (FS3, RO)], [FS2, FS3, FS1]),
        # half or more are new: use those
        ([(FS1, RO), (FS2, RO | NEW)], [FS2, FS1]),
        ([(FS1, RO), (FS2, RO | NEW), (FS3, RO | NEW)], [FS2, FS3, FS1]),
        # the release has begun (the read/write site is marked), no replica is new
        ([(FS3, RW | NEW), (FS1, RO), (FS2, RO)], [FS1, FS2]),
        # a replica that was never released does not count
        ([(FS1, RO | WAITING), (FS2, RO), (FS3, RO | NEW)], [FS3, FS2]),
    ],
)
def test_while_a_release_is_under_way(sites: list[tuple[UUID, int]], order: list[UUID]) -> None:
    info = read_entry(entry(*sites))
    assert releasing(info)
    assert [site.server for site in sites_of(info, VolumeType.RO, near)] == order
