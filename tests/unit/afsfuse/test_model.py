from typing import Any
from uuid import UUID

import pytest
from hypothesis import given

from afsfuse.errors import DataCorrupt
from afsfuse.interfaces.fileserver import FetchStatus, FetchStatusReply, FileType
from afsfuse.model import FileKind, Rights, SiteInfo, Status, VolumeInfo, VolumeType
from rxrpc.xdr import decode
from tests.fuzz.xdr_strategies import values
from tests.vectors.recorded import recorded


def wire(**changes: int) -> FetchStatus:
    fields: dict[str, Any] = dict.fromkeys(FetchStatus.__annotations__, 0)
    fields |= {"interface_version": 1, "file_type": FileType.FILE}
    return FetchStatus(**{**fields, **changes})


def test_a_recorded_directory() -> None:
    status = Status.from_wire(decode(FetchStatusReply, recorded("FetchStatus")).status)
    assert status == Status(
        kind=FileKind.DIRECTORY,
        length=2048,
        data_version=1,
        mode=0o755,
        owner=0,
        group=0,
        links=2,
        mtime=1700000000,
        parent_vnode=1,
        parent_unique=1,
        caller_access=Rights(127),
        anonymous_access=Rights(127),
    )


@pytest.mark.parametrize(
    ("file_type", "mode", "kind"),
    [
        (FileType.FILE, 0o644, FileKind.FILE),
        (FileType.DIRECTORY, 0o755, FileKind.DIRECTORY),
        (FileType.SYMLINK, 0o777, FileKind.SYMLINK),
        (FileType.SYMLINK, 0o755, FileKind.SYMLINK),
        (FileType.SYMLINK, 0o644, FileKind.MOUNTPOINT),
        (FileType.SYMLINK, 0o600, FileKind.MOUNTPOINT),
    ],
)
def test_a_link_without_execute_bits_is_a_mount_point(
    file_type: FileType, mode: int, kind: FileKind
) -> None:
    assert Status.from_wire(wire(file_type=file_type, unix_mode_bits=mode)).kind is kind


def test_halves_of_numbers_are_put_together() -> None:
    status = Status.from_wire(
        wire(length_low=5, length_high=1, data_version_low=7, data_version_high=3)
    )
    assert status.length == 2**32 + 5
    assert status.data_version == 3 * 2**32 + 7


@pytest.mark.parametrize(
    "changes",
    [
        {"interface_version": 0},
        {"interface_version": 2},
        {"file_type": FileType.INVALID},
        {"file_type": 4},
        {"length_high": 0x80000000},
    ],
)
def test_nonsense_is_refused(changes: dict[str, int]) -> None:
    with pytest.raises(DataCorrupt):
        Status.from_wire(wire(**changes))


@given(values(FetchStatus))
def test_whatever_a_server_sends_is_a_status_or_corrupt(status: FetchStatus) -> None:
    try:
        Status.from_wire(status)
    except DataCorrupt:
        return
    model = Status.from_wire(status._replace(interface_version=1, file_type=1))  # type: ignore[attr-defined]
    assert 0 <= model.length < 2**63
    assert 0 <= model.mode <= 0o7777


def test_unknown_rights_are_left_out() -> None:
    status = Status.from_wire(wire(caller_access=0xFFFFFFFF, anonymous_access=0x80000009))
    assert status.caller_access == sum(Rights)
    assert status.anonymous_access == Rights.READ | Rights.LOOKUP | Rights.USR7


def site(*types: VolumeType, usable: bool = True) -> SiteInfo:
    return SiteInfo(UUID(int=1), None, 1, 0, frozenset(types), False, usable)


def test_a_volume_is_there_when_it_has_a_number_and_a_usable_site() -> None:
    info = VolumeInfo("v", (1, 2, 0), (site(VolumeType.RW, VolumeType.BACKUP), site(VolumeType.RO)))
    assert info.has(VolumeType.RW)
    assert info.has(VolumeType.RO)
    assert not info.has(VolumeType.BACKUP)
    waiting = VolumeInfo("v", (1, 2, 0), (site(VolumeType.RO, usable=False),))
    assert not waiting.has(VolumeType.RO)
