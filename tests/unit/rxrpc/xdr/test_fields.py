from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxrpc.errors import LocalError
from rxrpc.xdr import AfsUuid, CharVector

# What OpenAFS 1.8.9 sent for a server's UUID in a GetAddrsU reply: time_low, time_mid,
# time_hi_and_version, then eight sign-extended char.
RECORDED_UUID = bytes.fromhex(
    "005b351a 00008503 00001b03 ffffff95 ffffffb3 00000001 00000000 00000000 0000007f ffffffaa"
    "00000077"
)


def test_a_recorded_uuid() -> None:
    uuid = UUID("005b351a-8503-1b03-95b3-0100007faa77")
    assert AfsUuid().from_bytes(RECORDED_UUID) == uuid
    assert AfsUuid().to_bytes(uuid) == RECORDED_UUID


@given(st.uuids())
def test_every_uuid_survives(uuid: UUID) -> None:
    assert AfsUuid().from_bytes(AfsUuid().to_bytes(uuid)) == uuid


def test_a_name_ends_at_its_nul_whatever_stands_behind() -> None:
    field = CharVector(4)
    raw = bytearray(field.to_bytes(b"ab"))
    raw[15] = ord("x")
    assert field.from_bytes(bytes(raw)) == b"ab"


def test_a_name_may_fill_its_field() -> None:
    field = CharVector(4)
    assert field.from_bytes(field.to_bytes(b"abcd")) == b"abcd"
    with pytest.raises(LocalError):
        field.to_bytes(b"abcde")
