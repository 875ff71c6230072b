"""DES, for what is left of Kerberos 4: one cipher, in the modes that it has there.

Anybody can find a DES key within days. Nothing new may rest on this.
"""

from __future__ import annotations

from typing import Final

from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.modes import CBC, ECB

from rxrpc.errors import ParseError

BLOCK: Final = 8


def encrypt_block(key: bytes, block: bytes) -> bytes:
    """One block, for itself."""
    return _cipher(key).encryptor().update(block)


def decrypt_block(key: bytes, block: bytes) -> bytes:
    """The inverse."""
    return _cipher(key).decryptor().update(block)


def pcbc_encrypt(key: bytes, data: bytes) -> bytes:
    """PCBC with the key as the first chain value; zeros make up the last block."""
    return _pcbc(key, data + bytes(-len(data) % BLOCK), backwards=False)


def pcbc_decrypt(key: bytes, data: bytes) -> bytes:
    """The inverse, with the zeros; `ParseError` when there are no whole blocks.

    That is all it notices. Who calls it looks for something that he knows.
    """
    if len(data) % BLOCK:
        raise ParseError("no whole blocks")
    return _pcbc(key, data, backwards=True)


def cbc_checksum(key: bytes, first: bytes, data: bytes) -> bytes:
    """The last block of CBC with this first chain value; zeros make up the last block."""
    padded = data + bytes(-len(data) % BLOCK)
    if not padded:
        return first
    return Cipher(TripleDES(key * 3), CBC(first)).encryptor().update(padded)[-BLOCK:]


def _cipher(key: bytes) -> Cipher[ECB]:
    return Cipher(TripleDES(key * 3), ECB())  # three times the same is DES


def _pcbc(key: bytes, data: bytes, *, backwards: bool) -> bytes:
    cipher = _cipher(key)
    step = cipher.decryptor() if backwards else cipher.encryptor()
    chain = int.from_bytes(key, "big")
    result = bytearray()
    for at in range(0, len(data), BLOCK):
        block = int.from_bytes(data[at : at + BLOCK], "big")
        given = block if backwards else block ^ chain
        other = int.from_bytes(step.update(given.to_bytes(BLOCK, "big")), "big")
        if backwards:
            other ^= chain
        result += other.to_bytes(BLOCK, "big")
        chain = block ^ other
    return bytes(result)
