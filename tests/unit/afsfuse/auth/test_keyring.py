"""The kernel's keyrings: what is shown there, and that nothing depends on them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from afsfuse import cli
from afsfuse.auth import keyring
from tests.unit.afsfuse.auth.test_token import KEY, token


def in_a_session_of_its_own(code: str) -> list[str]:
    """What a program prints that has a session keyring of its own, as it is after a login."""
    prelude = (
        "import ctypes; from pathlib import Path; from afsfuse.auth import keyring;"
        "from tests.unit.afsfuse.auth.test_token import token\n"
        "if not keyring.begin_session(): raise SystemExit(77)\n"
        "def read(cell):\n"
        "    k = keyring._library(); buffer = ctypes.create_string_buffer(1000)\n"
        "    ring = k.keyctl_get_keyring_ID(-3, 0)\n"
        "    key = k.keyctl_search(ring, b'user', keyring.description(cell).encode(), 0)\n"
        "    k.keyctl_read.argtypes = (ctypes.c_int32, ctypes.c_char_p, ctypes.c_size_t)\n"
        "    if key <= 0: return None\n"
        "    size = k.keyctl_read(key, buffer, 1000); return buffer.raw[:size]\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", prelude + code],
        capture_output=True, text=True, check=False, cwd=Path(cli.__file__).parent.parent,
    )  # fmt: skip
    if done.returncode == 77:
        pytest.skip("this machine has no keyrings, or no libkeyutils")
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_token_is_shown_without_its_key() -> None:
    name, shown, keys = in_a_session_of_its_own(
        "print(keyring.show(token(end=4_000_000_000)))\n"
        "print(read('example.org').decode())\n"
        "print([line for line in Path('/proc/keys').open() if 'afs@EX' in line])\n"
    )
    assert name == "True"
    assert shown == (
        '{"cell": "example.org", "client": "alice@EXAMPLE.ORG", "expires": 4000000000}'
    )
    assert KEY.decode() not in shown
    assert "afs@EXAMPLE.ORG" in keys
    assert "perm" not in keys  # it ends by itself


def test_it_is_forgotten() -> None:
    assert in_a_session_of_its_own(
        "keyring.show(token(end=4_000_000_000)); print(keyring.forget('example.org'))\n"
        "print(read('example.org')); print(keyring.forget('example.org'))\n"
    ) == ["True", "None", "False"]


def test_a_new_session_does_not_see_the_old_one() -> None:
    assert in_a_session_of_its_own(
        "keyring.show(token(end=4_000_000_000)); print(keyring.begin_session())\n"
        "print(read('example.org'))\n"
    ) == ["True", "None"]


def test_without_keyrings_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    keyring._library.cache_clear()
    monkeypatch.setattr(keyring, "_LIBRARY", "libnone.so.1")
    try:
        assert not keyring.show(token())
        assert not keyring.forget("example.org")
        assert not keyring.begin_session()
    finally:
        keyring._library.cache_clear()
