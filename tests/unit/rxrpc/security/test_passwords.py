"""Keys out of passwords, against published vectors."""

from __future__ import annotations

import pytest

from rxrpc.security.deskeys import with_odd_parity
from rxrpc.security.passwords import afs_key, kerberos_key
from rxrpc.security.unixcrypt import crypt

# Source: MIT Kerberos, src/lib/crypto/crypto_tests/t_str2key.c of release 1.15, where each stands
# for the beginning of "My Password" with one more character.
PASSWORD = b"My Password"
SODIUM_CHLORIDE = bytes.fromhex(
    "a4d0d09b8692b0c2 f1f29eabd0efdf73 d68561c4f294f4a1 d0e3a7839461e0d0 d562cd9461cb97df"
    " 9ea2a2eca88c6b8f e3916dd385f167c4 f4c473c88ae9946d a19eb3ad6be3abd9 ada1ce103783a78c"
    " d301d0f73e7a490b b62a4aec9d4c68df"
)
NACL = bytes.fromhex(
    "61efe683e58a6b98 68cd68adc486cde5 83a1c8868f67d062 9ec78fa4a4b3e0d5 d992868f9d8c85e6"
    " daf29283f49ba7ad 91cdadef86dfd3a2 73d367688f6ee373 c461859dadf4dcb0 e90283162cece008"
    " 61c82629d9736eb6 8ca89ec4a8dc3173"
)

# Source: RFC 3961, A.2; the last one Heimdal, lib/krb5/string-to-key-test.c.
KERBEROS = [
    (b"password", b"ATHENA.MIT.EDUraeburn", "cbc22fae235298e3"),
    (b"potatoe", b"WHITEHOUSE.GOVdanny", "df3d32a74fd92a01"),
    ("\U0001d11e".encode(), b"EXAMPLE.COMpianist", "4ffb26bab0cd9413"),
    ("\xdf".encode(), "ATHENA.MIT.EDUJuri\u0161i\u0107".encode(), "62c81a5232b5e69d"),
    (b"11119999", b"AAAAAAAA", "984054d0f1a73e31"),
    (b"NNNN6666", b"FFFFAAAA", "c4bf6b25adf7a4f8"),
    (b"", b"", "01010101010101f1"),
]


@pytest.mark.parametrize("length", range(len(PASSWORD) + 1))
@pytest.mark.parametrize(
    ("cell", "keys"), [("Sodium Chloride", SODIUM_CHLORIDE), ("NaCl", NACL)], ids=["long", "short"]
)
def test_keys_of_afs(cell: str, keys: bytes, length: int) -> None:
    assert afs_key(PASSWORD[:length], cell) == keys[8 * length : 8 * length + 8]


@pytest.mark.parametrize(("password", "salt", "key"), KERBEROS)
def test_keys_of_kerberos(password: bytes, salt: bytes, key: str) -> None:
    assert kerberos_key(password, salt).hex() == key


def test_kerberos_4_has_no_salt() -> None:
    assert kerberos_key(b"open sesame").hex() == kerberos_key(b"open", b" sesame").hex()


@pytest.mark.parametrize("length", [0, 1, 8, 9, 16, 200])
def test_keys_have_their_parity(length: int) -> None:
    password = bytes(range(1, 256))[:length]
    for key in (afs_key(password, "example.org"), kerberos_key(password)):
        assert with_odd_parity(key) == key


# What the C library's crypt(3) gives; the first one stands in many a manual.
@pytest.mark.parametrize(
    ("password", "salt", "text"),
    [
        (b"foob", "ar", "lEKn0OzVJn."),
        (b"password", "p1", ".y5rofbhdoM"),
        (b"", "zZ", "O7u0HfQST3A"),
        (b"correct", "./", "5tCEaUS5waU"),
    ],
)
def test_crypt(password: bytes, salt: str, text: str) -> None:
    assert crypt(password, salt) == text


def test_crypt_looks_at_eight_characters_of_seven_bits() -> None:
    assert crypt(b"passwords", "p1") == crypt(b"password", "p1")
    assert crypt(b"\xf0assword", "p1") == crypt(b"password", "p1")
