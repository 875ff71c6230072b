"""Contents that are computed."""

import hashlib

import pytest

from tests.realcell.contents import (
    BLOCK_BYTES,
    Bytes,
    Content,
    PseudoRandom,
    Sparse,
    pieces,
    sha256,
)


@pytest.mark.parametrize(
    "content",
    [
        Bytes(b"some bytes" * 300),
        PseudoRandom("seed", 2 * BLOCK_BYTES + 77),
        PseudoRandom("seed", 0),
        Sparse(BLOCK_BYTES + 9, {0: b"first", BLOCK_BYTES - 2: b"across", BLOCK_BYTES + 8: b"!"}),
    ],
)
def test_any_slice_is_a_slice_of_the_whole(content: Content) -> None:
    whole = b"".join(pieces(content))
    assert len(whole) == content.length
    assert sha256(content) == hashlib.sha256(whole).hexdigest()
    for offset in (0, 1, 4095, BLOCK_BYTES - 3, BLOCK_BYTES, content.length - 1, content.length):
        for size in (0, 1, 7, 5000, BLOCK_BYTES + 1):
            if offset >= 0:
                assert content.read(offset, size) == whole[offset : offset + size]


def test_pseudo_random_content_is_what_it_always_was() -> None:
    expected = hashlib.shake_128(b"seed/0").digest(16)
    assert PseudoRandom("seed", 16).read(0, 16) == expected


def test_a_huge_sparse_file_needs_no_memory() -> None:
    content = Sparse(1 << 40, {(1 << 40) - 3: b"end"})
    assert content.read((1 << 40) - 5, 100) == b"\0\0end"
