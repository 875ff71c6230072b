"""Keytab files, as MIT Kerberos writes them. Source: doc/formats/keytab_file_format."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

AFS = "afs/test.afs@TEST.AFS"


def build_keytab(entries: Iterable[tuple[str, int, int, bytes]]) -> bytes:
    """A keytab of principals, key versions, types and keys."""
    return b"\x05\x02" + b"".join(build_entry(*each) for each in entries)


def build_entry(
    name: str, kvno: int, enctype: int, key: bytes, full_kvno: int | None = None
) -> bytes:
    """One entry; ``full_kvno`` is the version of 32 bits that newer files have."""
    parts, realm = name.split("@")
    names = [realm, *parts.split("/")]
    body = struct.pack("!H", len(names) - 1) + b"".join(_counted(n.encode()) for n in names)
    body += struct.pack("!IIBH", 1, 1_700_000_000, kvno & 0xFF, enctype) + _counted(key)
    if full_kvno is not None:
        body += struct.pack("!I", full_kvno)
    return struct.pack("!i", len(body)) + body


def _counted(data: bytes) -> bytes:
    return struct.pack("!H", len(data)) + data
