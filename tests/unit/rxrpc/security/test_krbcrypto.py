"""Kerberos encryption, held to the vectors of its RFCs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxrpc.errors import LocalError, ParseError
from rxrpc.security import krbcrypto
from rxrpc.security.krbcrypto import (
    AES128_SHA1,
    AES128_SHA256,
    AES256_SHA384,
    TYPES,
    decrypt,
    derive,
    encrypt,
    n_fold,
)

enctypes = pytest.mark.parametrize("enctype", list(TYPES))


@pytest.mark.parametrize(
    ("data", "folded"),
    [
        (b"012345", "be072631276b1955"),
        (b"password", "78a07b6caf85fa"),
        (b"Rough Consensus, and Running Code", "bb6ed30870b7f0e0"),
        (b"password", "59e4a8ca7c0385c3c37b3f6d2000247cb6e6bd5b3e"),
        (b"MASSACHVSETTS INSTITVTE OF TECHNOLOGY",
         "db3b0d8f0b061e603282b308a50841229ad798fab9540c1b"),
        (b"Q", "518a54a215a8452a518a54a215a8452a518a54a215"),
        (b"ba", "fb25d531ae8974499f52fd92ea9857c4ba24cf297e"),
        (b"kerberos", "6b65726265726f737b9b5b2b93132b93"),
    ],
)  # fmt: skip
def test_n_fold(data: bytes, folded: str) -> None:
    """RFC 3961, A.1."""
    assert n_fold(data, len(folded) // 2).hex() == folded


@pytest.mark.parametrize(
    ("clear", "cipher"),
    [
        (b"I would like the ", "c6353568f2bf8cb4d8a580362da7ff7f97"),
        (b"I would like the General Gau's ",
         "fc00783e0efdb2c1d445d4c8eff7ed2297687268d6ecccc0c07b25e25ecfe5"),
        (b"I would like the General Gau's C",
         "39312523a78662d5be7fcbcc98ebf5a897687268d6ecccc0c07b25e25ecfe584"),
        (b"I would like the General Gau's Chicken, please,",
         "97687268d6ecccc0c07b25e25ecfe584b3fffd940c16a18c1b5549d2f838029e39312523a78662d5be7fcbcc98ebf5"),
        (b"I would like the General Gau's Chicken, please, and wonton soup.",
         "97687268d6ecccc0c07b25e25ecfe58439312523a78662d5be7fcbcc98ebf5a8"
         "4807efe836ee89a526730dbc2f7bc8409dad8bbb96c4cdc03bc103e1a194bbd8"),
    ],
)  # fmt: skip
def test_ciphertext_stealing(clear: bytes, cipher: str) -> None:
    """RFC 3962, appendix B."""
    key = b"chicken teriyaki"
    assert krbcrypto._cts_encrypt(key, clear).hex() == cipher
    assert krbcrypto._cts_decrypt(key, bytes.fromhex(cipher)) == clear


KEY_128 = bytes.fromhex("3705d96080c17728a0e800eab6e0d23c")
KEY_256 = bytes.fromhex("6d404d37faf79f9df0d33568d320669800eb4836472ea8a026d16b7182460c52")


@pytest.mark.parametrize(
    ("enctype", "key", "constant", "derived"),
    [
        (AES128_SHA256, KEY_128, "00000002aa", "9b197dd1e8c5609d6e67c3e37c62c72e"),
        (AES128_SHA256, KEY_128, "0000000255", "9fda0e56ab2d85e1569a688696c26a6c"),
        (AES256_SHA384, KEY_256, "00000002aa",
         "56ab22bee63d82d7bc5227f6773f8ea7a5eb1c825160c38312980c442e5c7e49"),
        (AES256_SHA384, KEY_256, "0000000255", "69b16514e3cd8e56b82010d5c73012b622c4d00ffc23ed1f"),
    ],
)  # fmt: skip
def test_derived_keys(enctype: int, key: bytes, constant: str, derived: str) -> None:
    """RFC 8009, appendix A."""
    assert derive(enctype, key, bytes.fromhex(constant), len(derived) // 2).hex() == derived


@pytest.mark.parametrize(
    ("enctype", "key", "confounder", "sealed"),
    [
        (AES128_SHA256, KEY_128, "7e5895eaf2672435bad817f545a37148",
         "ef85fb890bb8472f4dab20394dca781dad877eda39d50c870c0d5a0a8e48c718"),
        (AES256_SHA384, KEY_256, "f764e9fa15c276478b2c7d0c4e5f58e4",
         "41f53fa5bfe7026d91faf9be959195a058707273a96a40f0a01960621ac612748b9bbfbe7eb4ce3c"),
    ],
)  # fmt: skip
def test_encryption(enctype: int, key: bytes, confounder: str, sealed: str) -> None:
    """RFC 8009, appendix A: no text, key usage 2."""
    assert encrypt(enctype, key, 2, b"", bytes.fromhex(confounder)).hex() == sealed
    assert decrypt(enctype, key, 2, bytes.fromhex(sealed)) == b""


@given(st.sampled_from(sorted(TYPES)), st.binary(max_size=100), st.data())
def test_inverses_and_nothing_else(enctype: int, clear: bytes, data: st.DataObject) -> None:
    key = bytes(range(TYPES[enctype].key_size))
    sealed = encrypt(enctype, key, 2, clear, b"c" * 16)
    assert decrypt(enctype, key, 2, sealed) == clear
    bit = data.draw(st.integers(0, 8 * len(sealed) - 1))
    changed = bytearray(sealed)
    changed[bit // 8] ^= 1 << bit % 8
    for wrong in (bytes(changed), sealed[:-1], sealed[:10], b""):
        with pytest.raises(ParseError):
            decrypt(enctype, key, 2, wrong)
    with pytest.raises(ParseError):
        decrypt(enctype, key, 3, sealed)


def test_keys_that_do_not_fit() -> None:
    with pytest.raises(LocalError):
        encrypt(23, bytes(16), 2, b"", bytes(16))
    with pytest.raises(LocalError):
        encrypt(AES128_SHA1, bytes(15), 2, b"", bytes(16))
