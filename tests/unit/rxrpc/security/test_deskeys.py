"""Session keys of rxkad, made of those of Kerberos."""

from __future__ import annotations

import hashlib
import hmac

import pytest

from rxrpc.errors import ParseError
from rxrpc.security import deskeys
from rxrpc.security.deskeys import is_weak, session_key, with_odd_parity, without_parity

DES3, AES128, AES256 = 16, 17, 18


def test_des_keys_are_taken_as_they_are() -> None:
    for enctype in (1, 2, 3):
        assert session_key(enctype, b"12345678") == b"12345678"
        with pytest.raises(ParseError):
            session_key(enctype, b"1234567")


def test_the_derivation_is_that_of_sp800_108() -> None:
    """HMAC-MD5 of a counter, the label, a zero and the number of bits; then parity."""
    key = bytes(range(32))
    digest = hmac.new(key, b"\x01rxkad\x00\x00\x00\x00\x40", hashlib.md5).digest()
    derived = session_key(AES256, key)
    assert [byte & 0xFE for byte in derived] == [byte & 0xFE for byte in digest[:8]]
    assert all(byte.bit_count() % 2 for byte in derived)
    assert session_key(AES128, key) == derived  # the type has no part in it


def test_a_weak_key_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    key = bytes(range(16))
    first = bytes(session_key(AES128, key))
    monkeypatch.setattr(deskeys, "_WEAK", frozenset({first}))
    second = hmac.new(key, b"\x02rxkad\x00\x00\x00\x00\x40", hashlib.md5).digest()[:8]
    assert session_key(AES128, key) == with_odd_parity(second)


def test_nothing_but_weak_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deskeys, "is_weak", lambda _key: True)
    with pytest.raises(ParseError):
        session_key(AES128, bytes(16))


def test_weak_keys() -> None:
    assert len(deskeys._WEAK) == 16
    for key in deskeys._WEAK:
        assert with_odd_parity(key) == key
        assert is_weak(key)
        assert bytes(byte ^ 0xFF for byte in key) in deskeys._WEAK  # they come with complements
    assert not is_weak(b"12345678")


def test_the_parity_of_triple_des_goes() -> None:
    """The seven bits of each eighth byte become the lowest of the seven before it."""
    assert without_parity(bytes.fromhex("fefefefefefefe02")) == bytes.fromhex("fffefefefefefe")
    assert without_parity(bytes.fromhex("0000000000000080")) == bytes.fromhex("00000000000001")
    key = bytes.fromhex("fefefefefefefe02" * 3)
    assert session_key(DES3, key) == session_key(AES256, without_parity(key))
    with pytest.raises(ParseError):
        session_key(DES3, bytes(23))


@pytest.mark.parametrize("enctype", [-1, 0, 4, 6, 8, 9, 15])
def test_types_without_session_keys(enctype: int) -> None:
    with pytest.raises(ParseError):
        session_key(enctype, bytes(16))


def test_short_keys() -> None:
    with pytest.raises(ParseError):
        session_key(AES128, bytes(6))
