"""A directory as the file server keeps it: 2048-byte pages of 32-byte blobs, a hash table.

Built here to make directories with no client, and parsed here to judge what came back; neither
shares a line with the project's own parser, so that each can judge the other.
Source of all numbers: OpenAFS src/dir/dir.h and dir.c.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

PAGE_BYTES = 2048
BLOB_BYTES = 32
BLOBS_PER_PAGE = 64
MAX_PAGES = 1023
MAPPED_PAGES = 128  # the allocation map has a byte for each of the first 128 pages only
HASH_BUCKETS = 128
HEADER_BLOBS = 13  # of page 0: page header 1, allocation map 4, hash table 8
MAX_NAME_BYTES = 255
_TAG = 1234
_USED = 1
_NAME_IN_FIRST_BLOB = 16

_ENTRY = struct.Struct("!BBHII")  # flag, unused, next in the chain, vnode, unique


class DirectoryFull(Exception):
    """More names than 1023 pages can hold."""


def blobs_for(name: bytes) -> int:
    """How many blobs an entry takes: the first holds 16 bytes of the name with its NUL."""
    return 1 + (len(name) + 1 + 15) // BLOB_BYTES


def bucket(name: bytes) -> int:
    """The hash chain of a name: multiply by 173 in 32 bits; the top half is counted backwards."""
    value = 0
    for byte in name:
        value = (value * 173 + byte) & 0xFFFFFFFF
    low = value & (HASH_BUCKETS - 1)
    if low and value >= 1 << 31:
        return HASH_BUCKETS - low
    return low


def build(entries: Iterable[tuple[bytes, int, int]]) -> bytes:
    """Make the pages of a directory from (name, vnode, unique), `.` and `..` included.

    Names are laid down in the order given. Raises ValueError for a name that no directory can
    have, DirectoryFull for too many."""
    pages = [_empty_page(HEADER_BLOBS)]
    used = [HEADER_BLOBS]
    heads = [0] * HASH_BUCKETS
    for name, vnode, unique in entries:
        if not 0 < len(name) <= MAX_NAME_BYTES or b"\0" in name or b"/" in name:
            raise ValueError(f"no name for a directory entry: {name!r}")
        blobs = blobs_for(name)
        if used[-1] + blobs > BLOBS_PER_PAGE:
            if len(pages) == MAX_PAGES:
                raise DirectoryFull(f"a directory has {MAX_PAGES} pages at most")
            pages.append(_empty_page(1))
            used.append(1)
        page, first = pages[-1], used[-1]
        chain = bucket(name)
        entry = _ENTRY.pack(_USED, 0, heads[chain], vnode, unique) + name + b"\0"
        page[first * BLOB_BYTES : first * BLOB_BYTES + len(entry)] = entry
        _mark_used(page, first, blobs)
        heads[chain] = (len(pages) - 1) * BLOBS_PER_PAGE + first
        used[-1] += blobs
    _fill_header(pages[0], used, heads)
    return b"".join(pages)


def _empty_page(reserved: int) -> bytearray:
    page = bytearray(PAGE_BYTES)
    struct.pack_into("!HHB", page, 0, 0, _TAG, BLOBS_PER_PAGE - reserved)
    _mark_used(page, 0, reserved)
    return page


def _mark_used(page: bytearray, first: int, count: int) -> None:
    for blob in range(first, first + count):
        page[5 + blob // 8] |= 1 << blob % 8


def _fill_header(page: bytearray, used: list[int], heads: list[int]) -> None:
    struct.pack_into("!H", page, 0, len(used))
    free = [BLOBS_PER_PAGE - count for count in used[:MAPPED_PAGES]]
    page[32 : 32 + MAPPED_PAGES] = bytes(free + [BLOBS_PER_PAGE] * (MAPPED_PAGES - len(free)))
    struct.pack_into(f"!{HASH_BUCKETS}H", page, 32 + MAPPED_PAGES, *heads)


def parse(pages: bytes) -> dict[bytes, tuple[int, int]]:
    """Name -> (vnode, unique), found by way of the hash chains as the file server finds them.

    Raises ValueError where chains and names contradict each other."""
    if len(pages) % PAGE_BYTES or not pages:
        raise ValueError(f"{len(pages)} bytes are no whole pages")
    found: dict[bytes, tuple[int, int]] = {}
    heads = struct.unpack_from(f"!{HASH_BUCKETS}H", pages, 32 + MAPPED_PAGES)
    for chain, head in enumerate(heads):
        blob = head
        while blob:
            at = blob * BLOB_BYTES
            flag, _, following, vnode, unique = _ENTRY.unpack_from(pages, at)
            name = pages[at + _ENTRY.size : pages.index(b"\0", at + _ENTRY.size)]
            if flag != _USED or bucket(name) != chain or name in found:
                raise ValueError(f"blob {blob}: bad entry {name!r} in chain {chain}")
            found[name] = (vnode, unique)
            blob = following
    return found
