"""What Kerberos does with keys: encryption of RFC 3962 and RFC 8009, and what keys are made of.

Only AES. The types that RFC 6649 and RFC 8429 have withdrawn (DES, triple DES, RC4) are not here.
"""

from __future__ import annotations

import hmac
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC, ECB

from rxrpc.errors import LocalError, ParseError

if TYPE_CHECKING:
    from typing_extensions import Buffer

AES128_SHA1: Final = 17
AES256_SHA1: Final = 18
AES128_SHA256: Final = 19
AES256_SHA384: Final = 20

TICKET: Final = 2  # key usage: the encrypted part of a ticket (RFC 4120, 7.5.1)

_BLOCK: Final = 16
_NO_IV: Final = bytes(_BLOCK)
_ENCRYPT, _INTEGRITY = b"\xaa", b"\x55"  # what a derived key is for (RFC 3961, 5.3)


@dataclass(frozen=True, slots=True)
class EncryptionType:
    """A profile: sizes in bytes."""

    key_size: int
    mac_key_size: int
    mac_size: int
    hash_name: str

    @property
    def mac_covers_cipher(self) -> bool:
        """RFC 8009 authenticates what is sent, RFC 3962 what was encrypted."""
        return self.hash_name != "sha1"


TYPES: Final = {
    AES128_SHA1: EncryptionType(16, 16, 12, "sha1"),
    AES256_SHA1: EncryptionType(32, 32, 12, "sha1"),
    AES128_SHA256: EncryptionType(16, 16, 16, "sha256"),
    AES256_SHA384: EncryptionType(32, 24, 24, "sha384"),
}


def n_fold(data: bytes, size: int) -> bytes:
    """Stretch or fold to ``size`` bytes: RFC 3961, 5.1."""
    total = math.lcm(len(data), size)
    bits = 8 * len(data)
    number = int.from_bytes(data, "big")
    folded = b""
    for turn in range(total // len(data)):
        by = 13 * turn % bits
        folded += ((number >> by | number << bits - by) & (1 << bits) - 1).to_bytes(
            len(data), "big"
        )
    ones = (1 << 8 * size) - 1
    result = sum(int.from_bytes(folded[at : at + size], "big") for at in range(0, total, size))
    while result > ones:  # addition in ones' complement: what overflows comes back in
        result = (result & ones) + (result >> 8 * size)
    return result.to_bytes(size, "big")


def derive(enctype: int, key: bytes, constant: bytes, size: int) -> bytes:
    """A key of ``size`` bytes for one purpose: DR of RFC 3961, or KDF-HMAC-SHA2 of RFC 8009."""
    kind = TYPES[enctype]
    if kind.mac_covers_cipher:
        data = b"\0\0\0\1" + constant + b"\0" + (8 * size).to_bytes(4, "big")
        return hmac.digest(key, data, kind.hash_name)[:size]
    block = constant if len(constant) == _BLOCK else n_fold(constant, _BLOCK)
    result = b""
    while len(result) < size:
        block = _ecb(key, block)
        result += block
    return result[:size]


def encrypt(enctype: int, key: Buffer, usage: int, clear: bytes, confounder: bytes) -> bytes:
    """Encrypt and authenticate. ``confounder``: 16 random bytes, of which none is used twice."""
    kind = _kind(enctype, key)
    cipher_key, mac_key = _keys(enctype, kind, bytes(key), usage)
    message = confounder + clear
    cipher = _cts_encrypt(cipher_key, message)
    return cipher + _mac(kind, mac_key, cipher if kind.mac_covers_cipher else message)


def decrypt(enctype: int, key: Buffer, usage: int, data: bytes) -> bytes:
    """The inverse of `encrypt`; `ParseError` when the data was not made with the key."""
    kind = _kind(enctype, key)
    if len(data) < _BLOCK + kind.mac_size:
        raise ParseError("too short to be encrypted")
    cipher_key, mac_key = _keys(enctype, kind, bytes(key), usage)
    cipher, mac = data[: -kind.mac_size], data[-kind.mac_size :]
    message = _cts_decrypt(cipher_key, cipher)
    expected = _mac(kind, mac_key, cipher if kind.mac_covers_cipher else message)
    if not hmac.compare_digest(mac, expected):
        raise ParseError("not encrypted with this key")
    return message[_BLOCK:]


def _kind(enctype: int, key: Buffer) -> EncryptionType:
    kind = TYPES.get(enctype)
    if kind is None:
        raise LocalError(f"keys of type {enctype} are not supported")
    if len(bytes(key)) != kind.key_size:
        raise LocalError(f"a key of type {enctype} has {kind.key_size} bytes")
    return kind


def _keys(enctype: int, kind: EncryptionType, key: bytes, usage: int) -> tuple[bytes, bytes]:
    """The two keys for one usage."""
    number = usage.to_bytes(4, "big")
    return (
        derive(enctype, key, number + _ENCRYPT, kind.key_size),
        derive(enctype, key, number + _INTEGRITY, kind.mac_key_size),
    )


def _mac(kind: EncryptionType, key: bytes, data: bytes) -> bytes:
    if kind.mac_covers_cipher:
        data = _NO_IV + data
    return hmac.digest(key, data, kind.hash_name)[: kind.mac_size]


def _ecb(key: bytes, block: bytes) -> bytes:
    return Cipher(AES(key), ECB()).encryptor().update(block)


def _cts_encrypt(key: bytes, clear: bytes) -> bytes:
    """CBC with the last two blocks swapped and the cipher as long as the text: RFC 3962, 5."""
    padded = clear + bytes(-len(clear) % _BLOCK)
    blocks = Cipher(AES(key), CBC(_NO_IV)).encryptor().update(padded)
    if len(padded) == _BLOCK:
        return blocks
    last = len(clear) % _BLOCK or _BLOCK
    return blocks[: -2 * _BLOCK] + blocks[-_BLOCK:] + blocks[-2 * _BLOCK : -_BLOCK][:last]


def _cts_decrypt(key: bytes, data: bytes) -> bytes:
    """The inverse."""
    if len(data) > _BLOCK:
        last = len(data) % _BLOCK or _BLOCK
        whole, tail = data[-_BLOCK - last : -last], data[-last:]
        stolen = Cipher(AES(key), ECB()).decryptor().update(whole)[last:]
        blocks = data[: -_BLOCK - last] + tail + stolen + whole
    else:
        blocks = data
    return Cipher(AES(key), CBC(_NO_IV)).decryptor().update(blocks)[: len(data)]
