"""Directory pages for the real cell: built by the builder of the cell in one process, and parsed
here to judge what came back.

The judge goes by the hash chains, as file servers do, and shares no line with the client's parser,
which goes by the bitmap: so each can judge the other, and both the builder.
"""

from __future__ import annotations

import struct

from afsfuse.democell.dirpages import (
    BLOB_BYTES,
    HASH_BUCKETS,
    MAPPED_PAGES,
    PAGE_BYTES,
    blobs_for,
    bucket,
    build,
)

__all__ = ["BLOB_BYTES", "PAGE_BYTES", "blobs_for", "bucket", "build", "parse"]

_USED = 1
_ENTRY = struct.Struct("!BBHII")  # flag, unused, next in the chain, vnode, unique


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
