"""Keys of a service, from a keytab or by hand."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxrpc.errors import ParseError
from rxrpc.security.servicekeys import ServiceKeys, read_keytab

AFS = "afs/test.afs@TEST.AFS"


def counted(data: bytes) -> bytes:
    return struct.pack("!H", len(data)) + data


def entry(
    kvno: int, enctype: int, key: bytes, *, full: int | None = None, name: str = AFS
) -> bytes:
    """One entry of a keytab."""
    parts, realm = name.split("@")
    names = [realm, *parts.split("/")]
    body = struct.pack("!H", len(names) - 1) + b"".join(counted(n.encode()) for n in names)
    body += struct.pack("!IIBH", 1, 1_700_000_000, kvno & 0xFF, enctype) + counted(key)
    if full is not None:
        body += struct.pack("!I", full)
    return struct.pack("!i", len(body)) + body


HOLE = struct.pack("!i", -12) + b"x" * 12
KEYTAB = b"\x05\x02" + b"".join(
    [
        entry(3, 18, bytes(range(32))),
        HOLE,
        entry(300, 17, bytes(16), full=300),
        entry(4, 18, bytes(32), full=0),
        entry(4, 18, b"another's" * 3 + b"keys.", name="host/x@TEST.AFS"),
        entry(5, 1, b"12345678"),
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
