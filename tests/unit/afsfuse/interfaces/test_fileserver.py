from afsfuse.interfaces.fileserver import (
    BulkStatusReply,
    Capability,
    FetchAclReply,
    FetchStatus,
    FetchStatusReply,
    Fid,
    FileType,
    GetVolumeStatusReply,
)
from rxrpc.xdr import Reader, decode, encode
from tests.vectors.recorded import recorded


def test_a_fid_is_a_quick_key_with_a_dotted_form() -> None:
    fid = Fid(536870912, 1, 1)
    assert str(fid) == "536870912.1.1"
    assert {fid: 1}[Fid(536870912, 1, 1)] == 1
    assert fid != Fid(536870912, 1, 2)


def test_numbers_of_64_bits_are_put_together() -> None:
    words = [0] * 21
    words[3], words[4], words[17], words[19] = 5, 6, 2, 1
    status = FetchStatus(*words)
    assert status.length == 2**32 + 5
    assert status.data_version == 2 * 2**32 + 6
    assert len(encode(status)) == 84


def test_a_recorded_status_of_a_directory() -> None:
    reply = decode(FetchStatusReply, recorded("FetchStatus"))
    assert reply.status.file_type == FileType.DIRECTORY
    assert reply.status.length == 2048
    assert reply.status.unix_mode_bits == 0o755
    assert 0 < reply.callback.expiration <= 4 * 3600 + 60  # seconds that are left
    assert reply.sync.creation_time > 1_500_000_000


def test_a_recorded_bulk_reply_has_an_error_of_its_own_for_each_file() -> None:
    reply = decode(BulkStatusReply, recorded("InlineBulkStatus"))
    assert [status.error_code for status in reply.statuses] == [0, 102, 102]
    assert len(reply.callbacks) == 3


def test_older_servers_leave_everything_but_the_error_code_zero() -> None:
    raw = bytearray(recorded("InlineBulkStatus"))
    second = 4 + 84
    raw[second : second + 80] = bytes(80)
    reply = decode(BulkStatusReply, raw)
    assert reply.statuses[1] == FetchStatus(*[0] * 20, 102)  # type: ignore[call-arg]


def test_a_recorded_access_list_ends_with_a_nul() -> None:
    reply = decode(FetchAclReply, recorded("FetchACL"))
    assert reply.access_list == b"1\n0\nsystem:anyuser\t127\n\0"


def test_a_recorded_volume_status_has_a_word_for_each_char() -> None:
    reply = decode(GetVolumeStatusReply, recorded("GetVolumeStatus"))
    assert reply.name == b"root.cell"
    assert (reply.status.online, reply.status.needs_salvage) == (1, 0)
    assert reply.status.partition_blocks > reply.status.partition_blocks_available > 0


def test_recorded_capabilities() -> None:
    reader = Reader(recorded("GetCapabilities"))
    assert reader.u32() == 1
    assert Capability(reader.u32()) == (
        Capability.ERROR_TRANSLATION | Capability.FILES_64BIT | Capability.WRITE_LOCK_ACL
    )
