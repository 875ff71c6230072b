"""DES, against the examples of the standard."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxrpc.errors import ParseError
from rxrpc.security import des

KEY = bytes.fromhex("0123456789abcdef")
BLOCKS = st.binary(min_size=8, max_size=8)


def test_the_example_of_fips_81() -> None:
    assert des.encrypt_block(KEY, b"Now is t").hex() == "3fa40e8a984d4815"
    assert des.decrypt_block(KEY, bytes.fromhex("3fa40e8a984d4815")) == b"Now is t"


def test_pcbc_begins_its_chain_with_the_key() -> None:
    text = int.from_bytes(b"Now is t", "big") ^ int.from_bytes(KEY, "big")
    assert des.pcbc_encrypt(KEY, text.to_bytes(8, "big")).hex() == "3fa40e8a984d4815"


def test_pcbc_hands_on_what_it_was_given_and_what_it_made() -> None:
    first, second = b"Now is t", b"he time "
    sealed = des.pcbc_encrypt(KEY, first + second)
    chain = bytes(a ^ b for a, b in zip(first, sealed[:8], strict=True))
    given = bytes(a ^ b for a, b in zip(chain, second, strict=True))
    assert sealed[8:] == des.encrypt_block(KEY, given)


@given(BLOCKS, st.binary(max_size=40))
def test_pcbc_and_back(key: bytes, data: bytes) -> None:
    padded = data + bytes(-len(data) % 8)
    assert des.pcbc_decrypt(key, des.pcbc_encrypt(key, data)) == padded


def test_what_has_no_whole_blocks() -> None:
    with pytest.raises(ParseError):
        des.pcbc_decrypt(KEY, bytes(9))


def test_the_checksum_is_the_last_block_of_cbc() -> None:
    """The example of FIPS 81 for CBC."""
    first = bytes.fromhex("1234567890abcdef")
    text = b"Now is the time for all "
    assert des.cbc_checksum(KEY, first, text).hex() == "683788499a7c05f6"
    assert des.cbc_checksum(KEY, first, b"") == first
    assert des.cbc_checksum(KEY, first, b"a") == des.cbc_checksum(KEY, first, b"a" + bytes(7))
