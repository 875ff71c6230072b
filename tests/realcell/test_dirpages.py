"""The builder and the parser of directory pages, against each other and against known values."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.realcell import dirpages

NAMES = st.binary(min_size=1, max_size=255).filter(lambda name: not {0, 0x2F} & set(name))


@given(st.lists(NAMES, unique=True, max_size=200))
def test_what_is_built_is_parsed(names: list[bytes]) -> None:
    entries = [(name, 2 * i + 2, i + 1) for i, name in enumerate(names)]
    pages = dirpages.build(entries)
    assert dirpages.parse(pages) == {name: (vnode, unique) for name, vnode, unique in entries}


def test_an_empty_directory_is_what_the_file_server_makes() -> None:
    """The fixed fields of a new volume's root, as OpenAFS 1.8.9 dumps it."""
    pages = dirpages.build([(b".", 1, 1), (b"..", 1, 1)])
    assert len(pages) == dirpages.PAGE_BYTES
    assert pages[:16] == bytes.fromhex("000104d233ff7f000000000000000000")
    assert pages[32:36] == bytes.fromhex("31404040")
    # "." is in chain 46, ".." in chain 68: blobs 13 and 14
    assert pages[160 + 2 * 46 :][:2] == b"\0\x0d"
    assert pages[160 + 2 * 68 :][:2] == b"\0\x0e"


@pytest.mark.parametrize(
    ("length", "blobs"), [(1, 1), (15, 1), (16, 2), (47, 2), (48, 3), (255, 9)]
)
def test_blobs_of_a_name(length: int, blobs: int) -> None:
    assert dirpages.blobs_for(b"n" * length) == blobs


def test_a_damaged_chain_is_seen() -> None:
    pages = bytearray(dirpages.build([(b".", 1, 1), (b"..", 1, 1), (b"file", 2, 2)]))
    pages[15 * dirpages.BLOB_BYTES + 12] ^= 1  # the name no longer belongs to its chain
    with pytest.raises(ValueError, match="bad entry"):
        dirpages.parse(bytes(pages))
