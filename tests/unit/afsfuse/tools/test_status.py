"""`afsfuse status`: what it says, and that it asks before something is lost."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from afsfuse import cli
from afsfuse.control.places import Place
from afsfuse.tools import status

if TYPE_CHECKING:
    from collections.abc import Callable
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
MOUNT = {
    "mount": "/afs", "source": "afs", "pid": 7, "identity": "uid-1000", "since": 1.0,
    "uptime": 7300.0,
    "requests": {"at_once": 75, "answered": 25, "refused": 0, "seconds": 1.5, "waiting": 2,
                 "longest": 3.25},
    "operations": [{"name": "FetchStatus", "count": 10, "failures": 1, "seconds": 0.5,
                    "durations": [9, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]}],
    "bounds": [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0],
    "servers": [
        {"cell": "example.org", "uuid": "0" * 32, "up": False, "used": "192.0.2.1", "rtt": 0.0123,
         "waiting": 1, "addresses": [{"address": "192.0.2.1", "rank": 40000, "rtt": None},
                                     {"address": "192.0.2.2", "rank": 40000, "rtt": None}]},
    ],
    "location_servers": [{"address": "192.0.2.9", "rtt": 0.002, "silent": 7.0}],
    "network": {"received": 9, "sent": 8, "received_data": 5, "sent_data": 4, "resent": 1,
                "dropped": 2, "drops": {"bad ack": 2}, "connections": 1, "active_calls": 1,
                "waiting_calls": 0, "server_calls": 0},
    "refused": {"replies that cannot be": 3, "addresses that no server has": 0},
    "volumes": [{"path": "/afs/example.org", "volume": "root.cell", "cell": "example.org",
                 "servers": ["192.0.2.1", "192.0.2.2"],
                 "refused": {"192.0.2.2": "busy"}, "nodes": 3}],
    "cache": {"data_bytes": 1 << 20, "data_limit": 64 << 20, "chunk_hits": 8, "disk_hits": 1,
              "chunk_misses": 1, "chunk_waits": 0, "read_bytes": 4096, "fetched_bytes": 2048,
              "written_bytes": 0, "stored_bytes": 0, "dirty_bytes": 100, "dirty_limit": 32 << 20},
    "disk": {"limit": 1 << 30, "used": 1 << 20, "written": 0, "evicted": 0, "dropped": 0,
             "damaged": 0},
    "nodes": 3, "open_files": 1, "in_flight": 1,
    "calls": [{"name": "FetchStatus", "cell": "example.org", "volume": "root.cell",
               "server": "192.0.2.1", "identity": "uid-1000", "lasting": 3.25}],
    "tokens": [{"client": "alice@EXAMPLE.ORG", "cell": "example.org", "end": 1_700_003_660}],
}  # fmt: skip
"""A picture of one mount, as a daemon answers."""
UNDER_WAY = {**FAILED, "path": "/afs/cell/other", "error": None, "next_try": None}


class Daemons:
    """Two of them, with a file each."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.files: list[list[dict[str, Any]]] = [[FAILED], [UNDER_WAY]]
        self.discarded: list[str] = []
        self.stuck = False
        """Whether there is one more, which does not answer."""
        monkeypatch.setattr(Place, "ask_each", self.answer)

    def answer(
        self, verb: str, silent: Callable[[str], object] | None = None, **arguments: Any
    ) -> list[dict[str, Any]]:
        if self.stuck:
            assert silent is not None
            silent("a daemon does not answer")
        if verb == "unstored":
            return [{"files": files} for files in self.files]
        if verb == "statistics":
            return [{**MOUNT, "files": files} for files in self.files[:1]]
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


def test_what_is_not_stored(daemons: Daemons, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["status", "--unstored"]) == 0
    assert capsys.readouterr().out == (
        "/afs/cell/file: 100 bytes of uid-1000, for 1 min, volume user of example.org\n"
        "    over quota; next try in 7 s\n"
        "/afs/cell/other: 100 bytes of uid-1000, for 1 min, volume user of example.org: "
        "being stored\n"
        "It is kept and tried again. To give it up: afsfuse status --discard PATH\n"
    )
    assert cli.main(["status", "--unstored", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"mounts": [], "files": [FAILED, UNDER_WAY]}
    daemons.files = [[], []]
    assert cli.main(["status", "--unstored"]) == 0
    assert capsys.readouterr().out == "Everything is stored.\n"


def test_one_that_is_stuck_does_not_hide_the_others(
    daemons: Daemons, capsys: pytest.CaptureFixture[str]
) -> None:
    daemons.stuck = True
    for words in ([], ["--json"], ["--unstored"]):
        assert cli.main(["status", *words]) == 32
        out, err = capsys.readouterr()
        assert str(FAILED["path"]) in out
        assert err == "afsfuse: a daemon does not answer\n"
    daemons.files = []
    assert cli.main(["status", "--unstored"]) == 32
    assert capsys.readouterr() == ("", "afsfuse: a daemon does not answer\n")


def test_what_an_earlier_daemon_left_waits_for_no_time(
    daemons: Daemons, capsys: pytest.CaptureFixture[str]
) -> None:
    daemons.files = [[{**FAILED, "error": "left by an earlier daemon", "next_try": None}], []]
    assert cli.main(["status", "--unstored"]) == 0
    assert capsys.readouterr().out.splitlines()[1] == "    left by an earlier daemon"


def test_a_mount_in_one_screen(daemons: Daemons, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["status"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == "/afs: afs, since 2 h 1 min, process 7"
    for line in (
        "  requests    100 answered, 75 % of them at once, 2 wait (the longest for 3.2 s)",
        "  memory      1.0 MiB of 64.0 MiB in use, hit rate 80 %",
        "  disk        1.0 MiB of 1024.0 MiB in use, hit rate 10 %",
        "  refused     3 replies that cannot be, 2 bad ack",
        "  192.0.2.1 (+1)  example.org  file      does not answer  12.3 ms  1",
        "  192.0.2.9                    location  heard 7 s ago    2.0 ms",
        "  root.cell  example.org  192.0.2.1, 192.0.2.2 (busy)  /afs/example.org",
        "  FetchStatus  root.cell  example.org  192.0.2.1  3.2 s  uid-1000",
    ):
        assert line in shown
    assert any("alice@EXAMPLE.ORG" in line and "in 1 h 0 min" in line for line in shown)
    assert shown[-2] == "    over quota; next try in 7 s"
    assert len(shown) <= 40
    assert cli.main(["status", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["files"] == [FAILED]
    assert answer["mounts"][0]["servers"] == MOUNT["servers"]


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
