"""The cipher and what rxkad does with it: published vectors, and both twins against each other."""

from __future__ import annotations

import importlib
import importlib.util
import random
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxrpc import security
from rxrpc.security import fcrypt
from rxrpc.security.fcrypt import (
    BAD_CHECKSUM,
    BAD_LENGTH,
    BAD_SEAL,
    DOES_NOT_FIT,
    CompiledSession,
    PythonSession,
    new_session,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from rxrpc.security.fcrypt import Session

    Make = Callable[[bytes, int, int, int, int], Session]


KEY = bytes.fromhex("f0e1d2c3b4a59687")
CLEAR, AUTH, CRYPT = 0, 1, 2
PLACE = (0xDEADBEE1, 77, 99)  # cid with its channel, call, sequence number

TWINS = [pytest.param(PythonSession, id="python")]
if CompiledSession is not None:
    TWINS.append(pytest.param(CompiledSession, id="c"))
twins = pytest.mark.parametrize("make", TWINS)
levels = pytest.mark.parametrize("level", [CLEAR, AUTH, CRYPT])

# Source of the first two: openafs-devel, December 2000 (also in Linux, crypto/testmgr.h); of the
# others: OpenAFS, src/rxkad/test/fc_test.c. Key, first chain value, clear, enciphered.
QUICK = b"The quick brown fox jumps over the lazy dogs.\0\0\0"
VECTORS = [
    ("0000000000000000", "0000000000000000", bytes(8), "0e0900c73ef7ed41"),
    ("1144 77aa dd00 3366", "0000000000000000", bytes.fromhex("123456789abcdef0"),
     "d8ed787477ec0680"),
    ("f0e1d2c3b4a59687", "fedcba9876543210", QUICK,
     "00f00e1175e62382eeac98624451e484c359d8aa6460aef7"
     "d2d9137972a3450323b562d70cf527d1f8913cac442292ef"),
    ("fedcba9876543210", "f0e1d2c3b4a59687", QUICK,
     "ca90f59dcbd4d23c01887f3e316e629dd8e057a3063a4258"
     "2a28fe72522fdde01989091c2a8e8c94fcc768e488aade0f"),
]  # fmt: skip


def test_the_module_in_c_was_built() -> None:
    assert CompiledSession is not None, "build it: pip install -e . (it needs a C compiler)"
    assert type(new_session(KEY, 1, 4, 2, CRYPT)) is CompiledSession


@twins
@pytest.mark.parametrize(("key", "iv", "clear", "cipher"), VECTORS)
def test_vectors(make: Make, key: str, iv: str, clear: bytes, cipher: str) -> None:
    """A session's chain begins with its key: the wanted value is put in front of the text."""
    key_bytes, iv_number = bytes.fromhex(key), int(iv, 16)
    session = make(key_bytes, 0, 0, 0, CRYPT)
    first = clear[:8]
    moved = int.from_bytes(first, "big") ^ iv_number ^ int.from_bytes(key_bytes, "big")
    got = session.encrypt(moved.to_bytes(8, "big") + clear[8:])
    assert got[:8] == bytes.fromhex(cipher)[:8]
    assert PythonSession(key_bytes, 0, 0, 0, 0)._chain(clear, iv_number, backwards=False).hex() == (
        cipher
    )
    assert session.decrypt(session.encrypt(clear)) == clear


@given(st.binary(min_size=8, max_size=8), st.binary(max_size=100), st.data())
def test_twins_are_equal(key: bytes, payload: bytes, data: st.DataObject) -> None:
    assert CompiledSession is not None
    word = st.integers(0, 0xFFFFFFFF)
    epoch, cid, call, seq = (data.draw(word) for _ in range(4))
    level, index = data.draw(st.integers(0, 2)), data.draw(st.integers(0, 255))
    twin = PythonSession(key, epoch, cid, index, level)
    fast = CompiledSession(key, epoch, cid, index, level)
    body, checksum = twin.seal(cid, call, seq, payload)
    assert fast.seal(cid, call, seq, payload) == (body, checksum)
    body = data.draw(st.sampled_from([body, body[:-1], body + b"x", bytes(len(body))]))
    checksum ^= data.draw(st.sampled_from([0, 0, 0, 1]))
    sinks = bytearray(120), bytearray(120)
    start = data.draw(st.integers(0, 120))
    got = twin.unseal(cid, call, seq, checksum, b"--" + body, 2, sinks[0], start)
    assert fast.unseal(cid, call, seq, checksum, b"--" + body, 2, sinks[1], start) == got
    assert sinks[0] == sinks[1]
    blocks = payload[: len(payload) // 8 * 8]
    assert twin.encrypt(blocks) == fast.encrypt(blocks)
    assert twin.decrypt(blocks) == fast.decrypt(blocks)


@twins
@levels
@pytest.mark.parametrize("size", [*range(20), 1000, 1408])
def test_seal_and_unseal_are_inverses(make: Make, level: int, size: int) -> None:
    session = make(KEY, 1, 4, 2, level)
    payload = random.Random(size).randbytes(size)
    body, checksum = session.seal(*PLACE, payload)
    assert 1 <= checksum <= 0xFFFF
    assert len(body) == {CLEAR: size, AUTH: max(8, size + 4), CRYPT: -(-size // 8) * 8 + 8}[level]
    sink = bytearray(b"." * (size + 10))
    assert session.unseal(*PLACE, checksum, b"head" + body, 4, sink, 5) == size
    assert sink == b"....." + payload + b"....."
    if size:
        assert session.unseal(*PLACE, checksum, body, 0, sink, 11) == DOES_NOT_FIT
        assert sink == b"....." + payload + b"....."


@twins
@levels
@pytest.mark.parametrize("which", range(3))
def test_a_packet_belongs_to_its_place(make: Make, level: int, which: int) -> None:
    session = make(KEY, 1, 4, 2, level)
    body, checksum = session.seal(*PLACE, bytes(30))
    one, two, three = (word ^ (at == which) for at, word in enumerate(PLACE))
    sink = bytearray(100)
    assert session.unseal(one, two, three, checksum, body, 0, sink, 0) == BAD_CHECKSUM
    for place in ((2, 4, 2), (1, 8, 2), (1, 4, 3)):
        stranger = make(KEY, *place, level)
        assert stranger.unseal(*PLACE, checksum, body, 0, sink, 0) == BAD_CHECKSUM
    assert not any(sink)


@twins
@levels
def test_which_changes_are_noticed(make: Make, level: int) -> None:
    """All in the first block and the checksum; behind them none: rxkad has nothing that would."""
    session = make(KEY, 1, 4, 2, level)
    body, checksum = session.seal(*PLACE, random.Random(7).randbytes(40))
    noticed = set()
    for bit in range(8 * len(body)):
        changed = bytearray(body)
        changed[bit // 8] ^= 128 >> bit % 8
        sink = bytearray(100)
        result = session.unseal(*PLACE, checksum, bytes(changed), 0, sink, 0)
        if result < 0:
            assert result in (BAD_SEAL, BAD_LENGTH)
            assert not any(sink)
            noticed.add(bit)
        elif level == CRYPT:
            garbled = sink[bit // 8 // 8 * 8 - 8 : 40]
            clear = random.Random(7).randbytes(40)[bit // 8 // 8 * 8 - 8 :]
            assert garbled != clear
    assert noticed == (set() if level == CLEAR else set(range(64)))
    for bit in range(16):
        assert session.unseal(*PLACE, checksum ^ 1 << bit, body, 0, bytearray(100), 0) < 0


@twins
@pytest.mark.parametrize("level", [AUTH, CRYPT])
def test_lengths_that_cannot_be(make: Make, level: int) -> None:
    session = make(KEY, 1, 4, 2, level)
    body, checksum = session.seal(*PLACE, bytes(40))
    sink = bytearray(100)
    for size in (0, 7, 8, 16, 20):
        assert session.unseal(*PLACE, checksum, body[:size], 0, sink, 0) == BAD_LENGTH
    assert session.unseal(*PLACE, checksum, body + bytes(8), 0, sink, 0) == BAD_LENGTH
    assert session.unseal(*PLACE, checksum, body + b"x", 0, sink, 0) == (
        40 if level == AUTH else BAD_LENGTH
    )


@twins
def test_arguments_that_make_no_sense(make: Make) -> None:
    for key, level in ((b"short", 0), (bytes(9), 0), (KEY, 3), (KEY, -1)):
        with pytest.raises(ValueError, match="8 bytes"):
            make(key, 1, 4, 2, level)
    session = make(KEY, 1, 4, 2, CRYPT)
    with pytest.raises(ValueError, match="whole blocks"):
        session.encrypt(b"1234567")
    with pytest.raises(ValueError, match="whole blocks"):
        session.decrypt(b"123456789")
    with pytest.raises(ValueError, match="more than"):
        session.seal(*PLACE, bytes(65536))
    with pytest.raises(TypeError):
        session.seal(1, 2, 3)  # type: ignore[call-arg]


def test_the_module_in_c_minds_the_ends_of_buffers() -> None:
    assert CompiledSession is not None
    session = CompiledSession(KEY, 1, 4, 2, CRYPT)
    for offset, start in ((9, 0), (-1, 0), (0, 9), (0, -1)):
        with pytest.raises(ValueError, match="outside"):
            session.unseal(*PLACE, 1, bytes(8), offset, bytearray(8), start)
    with pytest.raises(BufferError):
        session.unseal(*PLACE, 1, bytes(8), 0, b"not writable", 0)
    with pytest.raises(TypeError):
        session.unseal(1)  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        session.unseal("1", 2, 3, 4, b"", 0, bytearray(), 0)  # type: ignore[arg-type]
    with pytest.raises(OverflowError):
        session.seal(-1, 2, 3, b"")
    with pytest.raises(ValueError, match="boxes"):
        importlib.import_module("rxrpc.security._fcrypt").install(b"too few")


@twins
def test_a_wiped_session_knows_nothing(make: Make) -> None:
    session = make(KEY, 1, 4, 2, CRYPT)
    before = session.seal(*PLACE, b"secret")
    session.wipe()
    blank = make(bytes(8), 0, 0, 0, CRYPT)
    assert session.encrypt(bytes(16)) == blank.encrypt(bytes(16))
    assert session.seal(*PLACE, b"secret") != before
    assert KEY.hex() not in repr(session)


def test_without_the_module_in_c(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcrypt, "CompiledSession", None)
    assert isinstance(new_session(KEY, 1, 4, 2, CRYPT), PythonSession)


def test_the_package_works_where_no_compiler_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rxrpc.security._fcrypt", None)
    monkeypatch.delattr(security, "_fcrypt", raising=False)
    spec = importlib.util.find_spec("rxrpc.security.fcrypt")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.CompiledSession is None
    session = module.new_session(KEY, 1, 4, 2, CRYPT)
    assert session.seal(*PLACE, b"x") == PythonSession(KEY, 1, 4, 2, CRYPT).seal(*PLACE, b"x")
