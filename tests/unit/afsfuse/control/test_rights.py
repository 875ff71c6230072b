"""Each verb of the control socket, by its owner, another user and root: what is done and told.

`TABLE` has a row for each; a verb without one fails. Whoever asks also claims, in every field that
might be believed, to be the owner.
"""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast
from unittest.mock import ANY

import pytest

from afsfuse.auth.acquire import Wanted
from afsfuse.auth.identity import Identity
from afsfuse.auth.renewal import Renewal
from afsfuse.auth.store import TokenStore
from afsfuse.auth.token import Secret
from afsfuse.cache.writeback import Unstored
from afsfuse.control.protocol import answer_line
from afsfuse.control.servers import ServerPreferences
from afsfuse.control.unstored import UnstoredFiles
from afsfuse.control.verbs import Peer, Verbs
from afsfuse.errors import ControlRefused
from afsfuse.fileserver.preferences import Preferences
from tests.unit.afsfuse.auth.test_token import KEY, TICKET, token

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from afsfuse.fileserver.client import FileServerClient
    from afsfuse.fileserver.health import ServerStatus
    from tests.conftest import ExpectedWarnings

NOW = 1_700_000_100.0
CELL = "example.org"
UIDS = {"owner": 1000, "other": 1001, "root": 0}
OWNER = Identity(uid=UIDS["owner"])
KEYTAB = b"what is in a keytab"
CLAIMS = {"identity": OWNER.text, "uid": 1000, "gid": 1000, "pid": 1, "user": "alice", "as": 1000}
OWNERS_TOKEN = {
    "identity": OWNER.text, "cell": CELL, "client": "alice@EXAMPLE.ORG", "viceid": None,
    "start": ANY, "end": ANY, "kept": True,
}  # fmt: skip


UNSTORED = {
    "path": "/afs/file", "cell": CELL, "volume": "home", "identity": OWNER.text, "bytes": 5,
    "since": NOW, "error": None, "next_try": None,
}  # fmt: skip
NO_SERVERS: dict[str, Any] = {"servers": [], "rules": []}
RULE = {"network": "192.0.2.0/24", "rank": 7}
DISCARDED = {"path": "/afs/file", "identity": OWNER.text, "bytes": 5}


class OwnersWrites:
    """Of the owner five bytes are not stored."""

    def __init__(self) -> None:
        self._left = [Unstored("/file", CELL, "home", 7, OWNER, 5, NOW, None, None)]

    def unstored(self) -> list[Unstored]:
        return list(self._left)

    def discard(self, path: str, who: Identity | None) -> int:
        kept = [one for one in self._left if (one.path, one.who) != (path, who)]
        lost, self._left = len(self._left) - len(kept), kept
        return lost


class Client:
    """Of file servers: none was used yet."""

    def __init__(self) -> None:
        self.preferences = Preferences()

    def look_at_all(self) -> None:
        """There is none."""

    def servers(self) -> list[ServerStatus]:
        return []


def verbs(store: TokenStore) -> Verbs:
    unstored = UnstoredFiles((OwnersWrites(),), "/afs")
    return Verbs(
        store, lambda: NOW, unstored, ServerPreferences(cast("FileServerClient", Client()))
    )


@dataclass(frozen=True)
class Row:
    """What comes of a verb: an answer for each who asks, or why it is refused."""

    verb: str
    arguments: dict[str, Any]
    owner: dict[str, Any] | str
    other: dict[str, Any] | str
    root: dict[str, Any] | str
    changes: str = "nothing"
    """What becomes of the owner's things when he himself asks."""

    @property
    def id(self) -> str:
        return f"{self.verb} {' '.join(self.arguments)}".strip()


def for_each(answer: str, **more: Any) -> dict[str, Any]:
    """The same for all: who each of them is."""
    return {who: {answer: f"uid-{uid}", **more} for who, uid in UIDS.items()}


def renewal(keytab: bytes = KEYTAB) -> Renewal:
    return Renewal(Wanted(CELL, "EXAMPLE.ORG"), "alice@EXAMPLE.ORG", keytab=Secret(keytab))


TABLE = [
    Row("hello", {}, **for_each("identity", pid=ANY)),
    Row("set", {"token": token(key=Secret(b"another key here")).encode()}, **for_each("identity"),
        changes="token"),
    Row(
        "tokens", {},
        owner={"identity": "uid-1000", "tokens": [OWNERS_TOKEN]},
        other={"identity": "uid-1001", "tokens": []},
        root={"identity": "uid-0", "tokens": []},
    ),
    Row(
        "tokens", {"all": True},
        owner="only root", other="only root",
        root={"identity": "uid-0", "tokens": [OWNERS_TOKEN]},
    ),
    Row("drop", {"cells": [CELL]}, owner={"dropped": [CELL]}, other={"dropped": []},
        root={"dropped": []}, changes="gone"),
    Row("drop", {}, owner={"dropped": [CELL]}, other={"dropped": []}, root={"dropped": []},
        changes="gone"),
    Row("begin-pag", {"pag": "0123456789abcdef"}, owner={"pag": ANY}, other={"pag": ANY},
        root={"pag": ANY}),
    Row(
        "unstored", {},
        owner={"files": [UNSTORED], "root": False},
        other={"files": [], "root": False},
        root={"files": [UNSTORED], "root": True},
    ),
    Row(
        "discard", {"path": "/afs/file"},
        owner={"discarded": [DISCARDED]}, other={"discarded": []},
        root={"discarded": [DISCARDED]},
    ),
    Row("serverprefs", {}, owner=NO_SERVERS, other=NO_SERVERS, root=NO_SERVERS),
    Row(
        "serverprefs", {"network": "192.0.2.0/24", "rank": "7"},
        owner="only root", other="only root", root={**NO_SERVERS, "rules": [RULE]},
    ),
    Row("keep", {"renewal": renewal(b"another keytab").encode()}, owner={},
        other="there is no token to keep", root="there is no token to keep",
        changes="renewal"),
]  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> Iterator[TokenStore]:
    """One in which the owner has a token, and something to renew it with."""
    store = TokenStore(tmp_path / "run", lambda: NOW)
    store.load()
    store.set(OWNER, token())
    store.keep(OWNER, renewal())
    yield store
    store.close()


def state(store: TokenStore) -> dict[str, Any]:
    """What the owner has, keys included."""
    kept = [one.keytab.reveal() for who, one in store.renewals() if who == OWNER and one.keytab]
    had = store.get(OWNER, CELL)
    return {"token": None if had is None else (had.key.reveal(), had.ticket), "renewal": kept}


def test_each_verb_has_its_row(store: TokenStore) -> None:
    assert {row.verb for row in TABLE} == set(Verbs(store)._verbs), "add it to TABLE"


@pytest.mark.parametrize("who", UIDS)
@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.id)
def test_what_is_done_and_told(
    store: TokenStore, row: Row, who: str, expected_warnings: ExpectedWarnings
) -> None:
    if row.verb == "discard":
        expected_warnings("5 bytes of uid-1000 were given up by a person")
    before = state(store)
    assert before == {"token": (KEY, TICKET), "renewal": [KEYTAB]}
    peer = Peer(UIDS[who], UIDS[who], os.getpid())
    request = {**CLAIMS, "do": row.verb, **row.arguments}
    expected = getattr(row, who)
    if isinstance(expected, str):
        with pytest.raises(ControlRefused, match=expected) as caught:
            verbs(store).do(request, peer)
        said = str(caught.value).encode()
    else:
        answer = verbs(store).do(request, peer)
        assert answer == expected
        said = answer_line(answer)
    for secret in (KEY, TICKET, KEYTAB, b"another key here", b"another keytab"):
        for form in (secret, base64.b64encode(secret), secret.hex().encode()):
            assert form.strip(b"=") not in said
    after = state(store)
    match row.changes if who == "owner" else "nothing":
        case "nothing":
            assert after == before
        case "token":  # and what the old one was renewed with is forgotten
            assert after == {"token": (b"another key here", TICKET), "renewal": []}
        case "renewal":
            assert after == {**before, "renewal": [b"another keytab"]}
        case "gone":
            assert after == {"token": None, "renewal": []}


@pytest.mark.parametrize("who", ["other", "root"])
def test_what_others_set_is_theirs(store: TokenStore, who: str) -> None:
    """Verbs that make something make it for whoever asks, whatever he claims."""
    peer = Peer(UIDS[who], UIDS[who], os.getpid())
    for verb in ("set", "keep"):
        (row,) = [row for row in TABLE if row.verb == verb]
        verbs(store).do({**CLAIMS, "do": verb, **row.arguments}, peer)
    identity = Identity(uid=UIDS[who])
    assert [one.key.reveal() for one in store.of(identity)] == [b"another key here"]
    assert {owner for owner, _ in store.renewals()} == {OWNER, identity}
