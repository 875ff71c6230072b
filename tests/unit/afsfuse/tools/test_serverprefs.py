"""`afsfuse serverprefs`: what it shows, and what it has set."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from afsfuse import cli
from afsfuse.control.places import Place

if TYPE_CHECKING:
    from pathlib import Path

SERVER = {
    "cell": "example.org", "uuid": "0" * 32, "up": True, "used": "192.0.2.1", "rtt": 0.001,
    "addresses": [
        {"address": "192.0.2.1", "rank": 40000, "rtt": 0.0012},
        {"address": "192.0.2.2", "rank": 7, "rtt": None},
    ],
}  # fmt: skip
DOWN = {**SERVER, "up": False, "addresses": SERVER["addresses"][:1]}  # type: ignore[index]
RULE = {"network": "192.0.2.2/32", "rank": 7}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the daemon was asked."""
    requests: list[dict[str, Any]] = []

    def answer(
        self: Place, verb: str, silent: None = None, **arguments: Any
    ) -> list[dict[str, Any]]:
        requests.append({"do": verb, **arguments})
        return [{"servers": [SERVER, DOWN], "rules": [RULE]}]

    monkeypatch.setattr(Place, "ask_each", answer)
    return requests


def test_all_addresses_are_shown(
    asked: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["serverprefs"]) == 0
    assert [line.split(None, 3) for line in capsys.readouterr().out.splitlines()[:3]] == [
        ["example.org", "192.0.2.1", "40000", "1.2 ms, in use"],
        ["example.org", "192.0.2.2", "7", "not measured"],
        ["example.org", "192.0.2.1", "40000", "does not answer"],
    ]
    assert asked[0] == {"do": "serverprefs"}
    assert cli.main(["serverprefs", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["mounts"][0]["rules"] == [RULE]


def test_ranks_are_set_and_taken_away(asked: list[dict[str, Any]]) -> None:
    assert cli.main(["serverprefs", "--set", "192.0.2.9/24", "10"]) == 0
    assert cli.main(["serverprefs", "--unset", "192.0.2.2"]) == 0
    wanted = [request for request in asked if "network" in request]
    assert {"do": "serverprefs", "network": "192.0.2.0/24", "rank": "10"} in wanted
    assert {"do": "serverprefs", "network": "192.0.2.2/32", "rank": None} in wanted


@pytest.mark.parametrize("words", [["--set", "fs1", "1"], ["--set", "192.0.2.1", "best"]])
def test_nonsense_is_refused_in_one_line(
    asked: list[dict[str, Any]], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["serverprefs", *words]) == 1
    assert "is expected" in capsys.readouterr().err
    assert not asked


def test_without_a_daemon_that_is_said(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["serverprefs"]) == 32
    assert capsys.readouterr().err == "afsfuse: no mount is running here\n"
