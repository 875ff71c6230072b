"""Tokens: what is shown of them, and what text can be one."""

from __future__ import annotations

import contextlib
import copy
import json
import logging
import pickle
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afsfuse.auth.token import KERBEROS_V5, Secret, Token
from afsfuse.errors import TokenMalformed

KEY = b"sixteen byte key"
TICKET = b"\x61\x82 a ticket"


def token(**changes: Any) -> Token:
    plain = Token(
        cell="example.org",
        client="alice@EXAMPLE.ORG",
        enctype=18,
        key=Secret(KEY),
        ticket=TICKET,
        start=1_700_000_000,
        end=1_700_036_000,
    )
    return replace(plain, **changes)


def test_a_token_and_its_text() -> None:
    service = "afs/example.org@EXAMPLE.ORG"
    for original in (token(), token(viceid=1001, kvno=5, service=service), token(end=2**32 + 5)):
        again = Token.decode(original.encode())
        assert again == original
        assert again.viceid == original.viceid
        assert again.key.reveal() == KEY
    assert token().kvno == KERBEROS_V5


@pytest.mark.parametrize(
    ("client", "service", "user"),
    [
        ("alice@EXAMPLE.ORG", "afs/example.org@EXAMPLE.ORG", "alice"),
        ("alice@EXAMPLE.ORG", None, "alice"),
        ("Alice/admin@HOME.NET", "afs/example.org@HOME.NET", "alice.admin"),
        ("alice/admin@HOME.NET", "afs@EXAMPLE.ORG", "alice.admin@home.net"),
        ("alice@HOME.NET", None, "alice@home.net"),
    ],
)
def test_what_the_protection_database_calls_a_user(
    client: str, service: str | None, user: str
) -> None:
    assert token(client=client, service=service).user == user


def test_nothing_shows_the_key_or_the_ticket(caplog: pytest.LogCaptureFixture) -> None:
    shown = token()
    with caplog.at_level(logging.DEBUG):
        logging.getLogger("test").info("%s %r %s", shown, shown, shown.key)
    for text in (caplog.text, repr(shown), str(shown), f"{shown.key}", repr([shown.key])):
        assert "secret of 16 bytes" in text
        assert "byte key" not in text
        assert "a ticket" not in text


def test_a_wiped_secret_is_gone() -> None:
    secret = Secret(KEY)
    held = secret._bytes
    secret.wipe()
    assert not held
    assert repr(secret) == "<wiped secret>"
    with pytest.raises(ValueError, match="wiped"):
        secret.reveal()
    secret.wipe()  # twice does no harm


def test_a_secret_is_wiped_with_its_last_reference() -> None:
    secret = Secret(KEY)
    held = secret._bytes
    assert held == KEY
    del secret
    assert not held


@pytest.mark.parametrize("attempt", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_secret_is_not_copied(attempt: Any) -> None:
    with pytest.raises(TypeError, match="not to be pickled"):
        attempt(Secret(KEY))


def test_secrets_compare_by_their_bytes_and_have_no_hash() -> None:
    assert Secret(KEY) == Secret(bytearray(KEY))
    assert Secret(KEY) != Secret(KEY[::-1])
    assert Secret(KEY) != KEY
    with pytest.raises(TypeError):
        hash(Secret(KEY))


def test_a_token_ends_at_its_end() -> None:
    assert not token().expired(1_700_035_999.9)
    assert token().expired(1_700_036_000)


@pytest.mark.parametrize(
    "changes",
    [
        {"format": 2},
        {"format": None},
        {"cell": ""},
        {"cell": "a\nb"},
        {"client": "x" * 1025},
        {"client": 5},
        {"ticket": ""},
        {"ticket": "AA*="},
        {"ticket": "A" * 16004},
        {"key": ""},
        {"key": "AAAA" * 22},
        {"start": 1.5},
        {"end": True},
        {"end": 2**40},
        {"kvno": -1},
        {"kvno": 2**32},
        {"viceid": "1001"},
        {"service": 5},
        {"service": "afs\n"},
        {"viceid": 2**41},
    ],
)
def test_text_that_is_no_token(changes: dict[str, Any]) -> None:
    text = json.dumps({**json.loads(token().encode()), **changes})
    with pytest.raises(TokenMalformed) as caught:
        Token.decode(text)
    assert "byte key" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "null", "{}", "[" * 10_000, "x" * 20_001, b"\xff"])
def test_no_token_at_all(text: str | bytes) -> None:
    with pytest.raises(TokenMalformed):
        Token.decode(text)


@given(st.binary(max_size=300))
def test_whatever_comes_only_the_one_error_is_raised(data: bytes) -> None:
    with pytest.raises(TokenMalformed):
        Token.decode(data)


@given(st.data())
def test_a_mutilated_token_is_a_token_or_malformed(data: st.DataObject) -> None:
    text = bytearray(token().encode().encode())
    place = data.draw(st.integers(0, len(text) - 1))
    text[place] = data.draw(st.integers(0, 255))
    with contextlib.suppress(TokenMalformed):  # and nothing else
        assert len(Token.decode(bytes(text)).key) > 0
