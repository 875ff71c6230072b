"""Who may ask for what: each verb, by owner, somebody else, and root."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from afsfuse.auth.identity import Identity
from afsfuse.auth.processes import kin
from afsfuse.auth.store import TokenStore
from afsfuse.control.verbs import Peer, Verbs
from afsfuse.errors import ControlRefused, TokenMalformed
from tests.unit.afsfuse.auth.test_renewal import BY_KEYTAB
from tests.unit.afsfuse.auth.test_token import token

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ALICE, BOB, ROOT = (Peer(uid, uid, os.getpid()) for uid in (1000, 1001, 0))
NOW = 1_700_000_100.0


@pytest.fixture
def store(tmp_path: Path) -> Iterator[TokenStore]:
    store = TokenStore(tmp_path / "run", lambda: NOW)
    store.load()
    yield store
    store.close()


class Asker:
    def __init__(self, store: TokenStore) -> None:
        self._verbs = Verbs(store, lambda: NOW)

    def __call__(self, peer: Peer, verb: str, **arguments: Any) -> dict[str, Any]:
        return self._verbs.do({"do": verb, **arguments}, peer)

    def cells(self, peer: Peer) -> list[str]:
        return [one["cell"] for one in self(peer, "tokens")["tokens"]]


@pytest.fixture
def ask(store: TokenStore) -> Asker:
    return Asker(store)


def test_everybody_has_his_own_tokens(ask: Asker) -> None:
    assert ask(ALICE, "set", token=token().encode()) == {"identity": "uid-1000"}
    ask(BOB, "set", token=token(cell="bobs.org").encode())
    assert ask.cells(ALICE) == ["example.org"]
    assert ask.cells(BOB) == ["bobs.org"]
    assert ask.cells(ROOT) == []


def test_nobody_drops_tokens_of_others(ask: Asker) -> None:
    ask(ALICE, "set", token=token().encode())
    for other in (BOB, ROOT):
        assert ask(other, "drop", cells=["example.org"]) == {"dropped": []}
        assert ask(other, "drop") == {"dropped": []}
    assert ask.cells(ALICE) == ["example.org"]
    assert ask(ALICE, "drop", cells=["example.org"]) == {"dropped": ["example.org"]}
    assert ask.cells(ALICE) == []


def test_root_sees_who_has_tokens_and_nobody_else_does(ask: Asker) -> None:
    ask(ALICE, "set", token=token().encode())
    ask(BOB, "set", token=token().encode())
    seen = ask(ROOT, "tokens", all=True)["tokens"]
    assert [one["identity"] for one in seen] == ["uid-1000", "uid-1001"]
    with pytest.raises(ControlRefused, match="only root"):
        ask(ALICE, "tokens", all=True)


def test_no_answer_has_a_key_or_a_ticket(ask: Asker) -> None:
    given = token(viceid=5)
    said = [ask(ALICE, "set", token=given.encode())]
    said += [ask(peer, "tokens", all=peer is ROOT) for peer in (ALICE, ROOT)]
    encoded = json.loads(given.encode())
    for secret in (encoded["key"], encoded["ticket"]):
        assert secret not in json.dumps(said)
    assert said[1]["tokens"] == [
        {
            "identity": "uid-1000",
            "cell": "example.org",
            "client": "alice@EXAMPLE.ORG",
            "viceid": 5,
            "start": 1_700_000_000,
            "end": 1_700_036_000,
            "kept": False,
        }
    ]


def test_a_pag_is_apart_from_its_user(ask: Asker, store: TokenStore) -> None:
    ask(ALICE, "set", token=token().encode())
    number = ask(ALICE, "begin-pag")["pag"]
    assert store.pags[number].root == kin(os.getpid()).process
    assert ask(ALICE, "hello") == {"identity": f"pag-{number}", "pid": os.getpid()}
    assert ask.cells(ALICE) == []
    outside = Peer(1000, 1000, 1)
    assert ask.cells(outside) == ["example.org"]
    ask(ALICE, "set", token=token(cell="inside.org").encode())
    assert ask.cells(outside) == ["example.org"]
    assert ask(outside, "drop") == {"dropped": ["example.org"]}
    assert ask.cells(ALICE) == ["inside.org"]
    with pytest.raises(ControlRefused, match="root of a PAG already"):
        ask(ALICE, "begin-pag")


def test_a_process_that_has_ended_is_not_believed(ask: Asker, store: TokenStore) -> None:
    """Its number may be another's, which is in a PAG, say."""
    ended = Peer(1000, 1000, os.getpid(), lambda: False)
    for verb in ("hello", "tokens", "drop", "begin-pag"):
        with pytest.raises(ControlRefused, match="has ended"):
            ask(ended, verb)
    with pytest.raises(ControlRefused, match="has ended"):
        ask(ended, "set", token=token().encode())
    assert not store.pags
    assert not store.all()


def test_a_process_out_of_sight(ask: Asker) -> None:
    far = Peer(1000, 1000, 0)
    assert ask(far, "hello")["identity"] == "uid-1000"
    with pytest.raises(ControlRefused, match="out of sight"):
        ask(far, "begin-pag")


def test_an_identity_that_is_unclear_gets_nothing(ask: Asker, store: TokenStore) -> None:
    ask(ALICE, "begin-pag")  # from now on processes are looked at
    gone = Peer(1000, 1000, 2**22 + 1)
    for verb in ("tokens", "drop", "hello"):
        with pytest.raises(ControlRefused, match="not clear which PAG"):
            ask(gone, verb)
    assert store.get(Identity(), "example.org") is None


@pytest.mark.parametrize(
    ("verb", "arguments", "said"),
    [
        ("fly", {}, "does not know how"),
        ("set", {}, "a token is expected"),
        ("set", {"token": 5}, "a token is expected"),
        ("set", {"token": token(end=int(NOW)).encode()}, "expired already"),
        ("set", {"token": token(cell="A b").encode()}, "of this name"),
        ("drop", {"cells": "example.org"}, "a list of cells"),
        ("drop", {"cells": [5]}, "a list of cells"),
    ],
)
def test_wrong_requests(ask: Asker, verb: str, arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ControlRefused, match=said):
        ask(ALICE, verb, **arguments)


def test_a_token_that_is_none(ask: Asker) -> None:
    with pytest.raises(TokenMalformed):
        ask(ALICE, "set", token="{}")


def test_this_process_as_a_peer() -> None:
    here = Peer.here()
    assert (here.uid, here.gid, here.pid) == (os.geteuid(), os.getegid(), os.getpid())
    assert here.lives()


def test_nothing_of_a_user_is_renewed_as_who_began_his_pag(ask: Asker, store: TokenStore) -> None:
    """Root has begun it, and become somebody else in it. What is renewed with is parsed in a
    process of the uid that began the PAG: what this one hands over would be by root's.
    """
    child = Peer(1000, 1000, os.getpid())
    ask(ROOT, "begin-pag")
    ask(child, "set", token=token().encode())
    with pytest.raises(ControlRefused, match="another user began this PAG"):
        ask(child, "keep", renewal=BY_KEYTAB.encode())
    assert store.renewals() == []
    assert ask(ROOT, "keep", renewal=BY_KEYTAB.encode()) == {}
    ((_, renewal),) = store.renewals()
    assert renewal == BY_KEYTAB
