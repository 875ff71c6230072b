"""Session keys of rxkad: 8 bytes that look like a DES key, whatever key Kerberos gave.

fcrypt has keys of 56 bits. Kerberos has long given up such keys, so a stronger session key is
turned into one (rxkad-kdf). Source: draft-kaduk-afs3-rxkad-k5-kdf; OpenAFS, src/rxkad/ticket5.c.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING, Final

from rxrpc.errors import ParseError

if TYPE_CHECKING:
    from typing_extensions import Buffer

KEY_SIZE: Final = 8
DES: Final = frozenset({1, 2, 3})  # des-cbc-crc, -md4, -md5
_TRIPLE_DES: Final = frozenset({5, 7, 16})
_NO_KEYS: Final = frozenset({0, 4, 6, *range(8, 16)})  # numbers of no encryption with a secret key
_LABEL: Final = b"rxkad\0" + (64).to_bytes(4, "big")  # what for, and how many bits

# The weak and the half weak keys of DES, in pairs. Source: FIPS 74.
_WEAK: Final = frozenset(
    bytes.fromhex(
        "0101010101010101 fefefefefefefefe e0e0e0e0f1f1f1f1 1f1f1f1f0e0e0e0e"
        "01fe01fe01fe01fe fe01fe01fe01fe01 1fe01fe00ef10ef1 e01fe01ff10ef10e"
        "01e001e001f101f1 e001e001f101f101 1ffe1ffe0efe0efe fe1ffe1ffe0efe0e"
        "011f011f010e010e 1f011f010e010e01 e0fee0fef1fef1fe fee0fee0fef1fef1"
    )[at : at + KEY_SIZE]
    for at in range(0, 16 * KEY_SIZE, KEY_SIZE)
)


def with_odd_parity(key: bytes) -> bytes:
    """The key with its lowest bits set so that each byte has an odd number of ones."""
    return bytes(byte & 0xFE | (byte >> 1).bit_count() & 1 ^ 1 for byte in key)


def is_weak(key: bytes) -> bool:
    """Whether DES would be weak with this key, which has its parity."""
    return key in _WEAK


def session_key(enctype: int, key: Buffer) -> bytearray:
    """The key that rxkad uses for a session key of Kerberos of this type.

    Raises `ParseError` when there is none. The caller wipes what it gets.
    """
    key = bytes(key)
    if enctype in DES:
        if len(key) != KEY_SIZE:
            raise ParseError("a DES key of another length")
        return bytearray(key)
    if enctype < 0 or enctype in _NO_KEYS:
        raise ParseError(f"no session keys are of the type {enctype}")
    if enctype in _TRIPLE_DES:
        key = without_parity(key)
    if len(key) < KEY_SIZE - 1:
        raise ParseError("a session key that is too short")
    for counter in range(1, 256):
        digest = hmac.digest(key, bytes([counter]) + _LABEL, hashlib.md5)
        derived = with_odd_parity(digest[:KEY_SIZE])
        if not is_weak(derived):
            return bytearray(derived)
    raise ParseError("nothing but weak keys comes of this one")


def without_parity(key: bytes) -> bytes:
    """The random bits of a triple DES key: RFC 3961 has the eighth byte in the seven's low bits."""
    if len(key) % KEY_SIZE:
        raise ParseError("a triple DES key of another length")
    bits = bytearray()
    for at in range(0, len(key), KEY_SIZE):
        last = key[at + 7] >> 1
        bits += bytes(key[at + i] & 0xFE | last >> i & 1 for i in range(7))
    return bytes(bits)
