"""DES keys out of passwords: the ways of AFS's kaserver and of Kerberos 4.

Source: OpenAFS, src/kauth/client.c (ka_StringToKey); RFC 3961, 6.2 (mit_des_string_to_key).
"""

from __future__ import annotations

from typing import Final

from rxrpc.security.des import cbc_checksum
from rxrpc.security.deskeys import KEY_SIZE, is_weak, with_odd_parity
from rxrpc.security.unixcrypt import crypt

_SHORT: Final = 8  # characters up to which a password is one of Andrew's, which AFS came from
_SALT: Final = "p1"
_FILLING: Final = ord("X")
_FIRST_KEY: Final = b"kerberos"
_UNWEAKENED: Final = 0xF0


def afs_key(password: bytes, cell: str) -> bytes:
    """The key of a password in a cell, as ``klog`` and ``kas`` make it."""
    salt = cell.lower().encode()
    if len(password) > _SHORT:
        return _long(password + salt)
    return _short(password, salt)


def kerberos_key(password: bytes, salt: bytes = b"") -> bytes:
    """The key of a password in Kerberos 4, which has no salt; with one, that of Kerberos 5."""
    text = password + salt
    key = bytearray(KEY_SIZE)
    for index, byte in enumerate(text):  # a fan: every other block backwards, bits and all
        place = index % KEY_SIZE
        if index // KEY_SIZE % 2:
            key[KEY_SIZE - 1 - place] ^= int(f"{byte:08b}"[::-1], 2)
        else:
            key[place] ^= byte << 1 & 0xFF
    folded = _strong(bytes(key))
    return _strong(cbc_checksum(folded, folded, text))


def _short(password: bytes, cell: bytes) -> bytes:
    """crypt(3) of the password and the cell's name, one upon the other."""
    padded = zip(cell[:_SHORT].ljust(_SHORT, b"\0"), password.ljust(_SHORT, b"\0"), strict=True)
    mixed = bytes(ours ^ theirs or _FILLING for ours, theirs in padded)
    text = crypt(mixed, _SALT)[:KEY_SIZE].encode()
    return with_odd_parity(bytes(byte << 1 & 0xFF for byte in text))


def _long(text: bytes) -> bytes:
    """Twice the checksum of both, one behind the other."""
    first = cbc_checksum(with_odd_parity(_FIRST_KEY), _FIRST_KEY, text)
    return with_odd_parity(cbc_checksum(with_odd_parity(first), first, text))


def _strong(key: bytes) -> bytes:
    key = with_odd_parity(key)
    return key[:-1] + bytes([key[-1] ^ _UNWEAKENED]) if is_weak(key) else key
