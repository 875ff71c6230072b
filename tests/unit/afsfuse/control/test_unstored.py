"""Who is shown what waits for being stored, and who may give it up."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, cast

import pytest

from afsfuse.auth.identity import Identity
from afsfuse.cache.writeback import Unstored
from afsfuse.control.unstored import UnstoredFiles
from afsfuse.control.verbs import Peer, Verbs
from afsfuse.errors import ControlRefused

if TYPE_CHECKING:
    from afsfuse.auth.store import TokenStore
    from tests.conftest import ExpectedWarnings

ALICE, BOB, ROOT = (Peer(uid, uid, os.getpid()) for uid in (1000, 1001, 0))


class FakeWrites:
    """Two files, one of them written by two users."""

    def __init__(self) -> None:
        self.left = [
            self._one("/cell/shared", 1000, 10, "over quota", 3.0),
            self._one("/cell/shared", 1001, 20, None, None),
            self._one("/cell/alices", 1000, 30, None, None),
        ]

    @staticmethod
    def _one(path: str, uid: int, size: int, error: str | None, wait: float | None) -> Unstored:
        who = Identity(uid=uid)
        return Unstored(path, "example.org", "user", 5, who, size, 1_700_000_000.0, error, wait)

    def unstored(self) -> list[Unstored]:
        return self.left

    def discard(self, path: str, who: Identity) -> int:
        self.left = [one for one in self.left if (one.path, one.who) != (path, who)]
        return 0


@pytest.fixture
def writes() -> FakeWrites:
    return FakeWrites()


@pytest.fixture
def verbs(store: TokenStore, writes: FakeWrites) -> Verbs:
    return Verbs(store, unstored=UnstoredFiles([cast("Any", writes)], "/afs/"))


def shown(verbs: Verbs, peer: Peer) -> list[tuple[str, int]]:
    answer = verbs.do({"do": "unstored"}, peer)
    assert answer["root"] is (peer is ROOT)
    return [(one["path"], one["bytes"]) for one in answer["files"]]


def test_everybody_is_shown_his_own_and_root_everything(verbs: Verbs) -> None:
    assert shown(verbs, ALICE) == [("/afs/cell/shared", 10), ("/afs/cell/alices", 30)]
    assert shown(verbs, BOB) == [("/afs/cell/shared", 20)]
    assert len(shown(verbs, ROOT)) == 3
    (first, *_) = verbs.do({"do": "unstored"}, ALICE)["files"]
    assert first == {
        "path": "/afs/cell/shared",
        "cell": "example.org",
        "volume": "user",
        "identity": "uid-1000",
        "bytes": 10,
        "since": 1_700_000_000.0,
        "error": "over quota",
        "next_try": 3.0,
    }


def test_everybody_gives_up_his_own_and_root_everything(
    verbs: Verbs, writes: FakeWrites, expected_warnings: ExpectedWarnings
) -> None:
    expected_warnings("were given up by a person")
    assert verbs.do({"do": "discard", "path": "/afs/cell/alices"}, BOB) == {"discarded": []}
    answer = verbs.do({"do": "discard", "path": "/afs/cell//shared"}, BOB)
    lost = {"path": "/afs/cell/shared", "identity": "uid-1001", "bytes": 20}
    assert answer == {"discarded": [lost]}
    assert shown(verbs, ALICE) == [("/afs/cell/shared", 10), ("/afs/cell/alices", 30)]
    verbs.do({"do": "discard", "path": "/afs/cell/shared"}, ROOT)
    assert [one.path for one in writes.left] == ["/cell/alices"]
    with pytest.raises(ControlRefused, match="a path is expected"):
        verbs.do({"do": "discard", "path": 7}, ALICE)


def test_without_a_mount_there_is_nothing(store: TokenStore) -> None:
    verbs = Verbs(store)
    assert shown(verbs, ALICE) == []
    assert verbs.do({"do": "discard", "path": "/afs/x"}, ALICE) == {"discarded": []}
