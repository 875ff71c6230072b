"""`afsfuse status`: what it says, and that it asks before something is lost."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from afsfuse import cli
from afsfuse.control.places import Place
from afsfuse.tools import status

if TYPE_CHECKING:
    from pathlib import Path

FAILED = {
    "path": "/afs/cell/file",
    "cell": "example.org",
    "volume": "user",
    "identity": "uid-1000",
    "bytes": 100,
    "since": 1_700_000_000.0,
    "error": "over quota",
    "next_try": 7.4,
}
UNDER_WAY = {**FAILED, "path": "/afs/cell/other", "error": None, "next_try": None}


class Daemons:
    """Two of them, with a file each."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.files: list[list[dict[str, Any]]] = [[FAILED], [UNDER_WAY]]
        self.discarded: list[str] = []
        monkeypatch.setattr(Place, "ask_each", self.answer)

    def answer(self, verb: str, **arguments: Any) -> list[dict[str, Any]]:
        if verb == "unstored":
            return [{"files": files} for files in self.files]
        assert verb == "discard"
        self.discarded.append(arguments["path"])
        return [
            {"discarded": [file for file in files if file["path"] == arguments["path"]]}
            for files in self.files
        ]


@pytest.fixture
def daemons(monkeypatch: pytest.MonkeyPatch) -> Daemons:
    monkeypatch.setattr("time.time", lambda: 1_700_000_060.0)
    return Daemons(monkeypatch)


def test_all_mounts_are_asked(daemons: Daemons, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["status"]) == 0
    assert capsys.readouterr().out == (
        "/afs/cell/file: 100 bytes of uid-1000, for 1 min, volume user of example.org\n"
        "    over quota; next try in 7 s\n"
        "/afs/cell/other: 100 bytes of uid-1000, for 1 min, volume user of example.org: "
        "being stored\n"
        "It is kept and tried again. To give it up: afsfuse status --discard PATH\n"
    )
    assert cli.main(["status", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"files": [FAILED, UNDER_WAY]}
    daemons.files = [[], []]
    assert cli.main(["status"]) == 0
    assert capsys.readouterr().out == "Everything is stored.\n"


def test_what_an_earlier_daemon_left_waits_for_no_time(
    daemons: Daemons, capsys: pytest.CaptureFixture[str]
) -> None:
    daemons.files = [[{**FAILED, "error": "left by an earlier daemon", "next_try": None}], []]
    assert cli.main(["status"]) == 0
    assert capsys.readouterr().out.splitlines()[1] == "    left by an earlier daemon"


def test_without_a_daemon_that_is_said(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["status"]) == 32
    assert capsys.readouterr().err == "afsfuse: no mount is running here\n"


def test_giving_up(daemons: Daemons, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["status", "--discard", "/afs/cell/nothing"]) == 32
    assert "nothing of it waits for being stored" in capsys.readouterr().err
    assert cli.main(["status", "--discard", "/afs/cell/../cell/file"]) == 0
    assert capsys.readouterr().out == "/afs/cell/file: 100 bytes of uid-1000 were given up\n"
    assert daemons.discarded == ["/afs/cell/file"]


@pytest.mark.parametrize(("said", "given_up"), [("y", True), ("n", False), ("", False)])
def test_a_person_is_asked_first(
    daemons: Daemons, monkeypatch: pytest.MonkeyPatch, said: str, given_up: bool
) -> None:
    class Terminal:
        @staticmethod
        def isatty() -> bool:
            return True

    monkeypatch.setattr(status.sys, "stdin", Terminal())  # type: ignore[attr-defined]
    monkeypatch.setattr("builtins.input", lambda question: said)
    assert cli.main(["status", "--discard", "/afs/cell/file"]) == (0 if given_up else 32)
    assert bool(daemons.discarded) is given_up
