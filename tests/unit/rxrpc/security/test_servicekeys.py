"""Keys of a service, from a keytab or by hand."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxrpc.errors import ParseError
from rxrpc.security.servicekeys import ServiceKeys, read_keytab
from tests.tools.keytab import AFS, build_entry

HOLE = struct.pack("!i", -12) + b"x" * 12
KEYTAB = b"\x05\x02" + b"".join(
    [
        build_entry(AFS, 3, 18, bytes(range(32))),
        HOLE,
        build_entry(AFS, 300, 17, bytes(16), 300),
        build_entry(AFS, 4, 18, bytes(32), 0),
        build_entry("host/x@TEST.AFS", 6, 18, bytes(32)),
        build_entry(AFS, 5, 1, b"12345678"),
    ]
)


def test_keytab() -> None:
    keys = ServiceKeys.from_keytab(KEYTAB, AFS)
    assert keys.find(3, 18) == bytes(range(32))
    assert keys.find(300, 17) == bytes(16)
    assert keys.find(44, 17) is None
    assert keys.find_des(5) is None
    assert keys.latest((16, 18, 17)) == (4, 18, bytes(32))
    assert keys.latest((17, 18)) == (300, 17, bytes(16))
    assert keys.latest((19,)) is None
    assert ServiceKeys.from_keytab(KEYTAB).names == [(3, 18), (4, 18), (6, 18), (300, 17)]


def test_des_only_for_who_asks() -> None:
    assert ServiceKeys.from_keytab(KEYTAB, AFS, des=True).find_des(5) == b"12345678"
    assert ServiceKeys().find_des(5) is None


def test_no_key_is_shown_and_wiping_forgets_them() -> None:
    keys = ServiceKeys({(3, 18): b"secret" * 5 + b"!!"})
    assert repr(keys) == "<ServiceKeys [(3, 18)]>"
    held = keys._keys[3, 18]
    keys.wipe()
    assert held == bytes(32)
    assert keys.find(3, 18) is None


@pytest.mark.parametrize("data", [b"", b"\x05\x01", KEYTAB[:10], KEYTAB[:-1], b"\x05\x02\0\0\0\1x"])
def test_what_is_no_keytab(data: bytes) -> None:
    with pytest.raises(ParseError):
        list(read_keytab(data))


@given(st.binary(max_size=80))
def test_any_bytes(data: bytes) -> None:
    with contextlib.suppress(ParseError):
        list(read_keytab(b"\x05\x02" + data))
