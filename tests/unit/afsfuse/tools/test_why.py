"""`afsfuse why`: what it makes of what the daemon knows, and that it touches nothing in AFS."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from afsfuse.tools import daemons, why

if TYPE_CHECKING:
    from pathlib import Path

SERVER = {
    "addresses": ["192.0.2.1"], "used": "192.0.2.1", "up": True, "rtt": 0.001, "seen": 1.0,
    "waiting": 0, "refusal": None,
}  # fmt: skip
DOWN = {**SERVER, "up": False, "seen": 40.0}
SILENT = {**SERVER, "seen": 9.0, "waiting": 1}
BUSY = {**SERVER, "refusal": {"said": "the volume is in use", "since": 12.0, "last": 1.0}}
PROMISE = {"left": 100.0, "counts": True, "server": "192.0.2.1"}
CALL = {"name": "FetchData64", "server": "192.0.2.1", "lasting": 9.0}
POINT = {"target": "#x.", "resolved": False, "searching": True, "failure": None}
SHOWN: dict[str, Any] = {
    "path": "/afs/example.org/file", "rest": "", "ending": "found", "identity": "uid-1000",
    "cell": "example.org", "location_servers": [], "fid": "1.2.3", "kind": "file",
    "volume": {"name": "user", "id": 1, "type": "read-write"}, "servers": [SERVER],
    "promise": None, "rights": None, "cached": {"bytes": 0, "names": None}, "token": None,
    "speaks_as": "nobody", "mount_point": None, "failure": None, "calls": [],
    "calls_of_others": 0, "files": [],
}  # fmt: skip


@pytest.mark.parametrize(
    ("known", "verdict"),
    [
        ({"promise": PROMISE}, "answered from memory: 192.0.2.1 has promised"),
        (
            {"promise": PROMISE, "ending": "absent", "rest": "x"},
            "answered from memory: there is no such name, and 192.0.2.1 has promised",
        ),
        ({"promise": PROMISE, "ending": "unknown"}, "nothing hangs: the next use asks a server"),
        ({}, "nothing hangs: the next use asks a server"),
        ({"servers": [DOWN], "calls": [CALL]}, "it hangs on 192.0.2.1: no server of the volume"),
        ({"servers": [DOWN]}, "it fails, or hangs, on 192.0.2.1"),
        ({"servers": [DOWN, SERVER], "calls": [CALL]}, "a server is being asked just now"),
        (
            {"servers": [SILENT], "calls_of_others": 1, "promise": PROMISE},
            "operations hang on 192.0.2.1, silent for 9 s (its status is in memory)",
        ),
        (
            {"servers": [BUSY], "calls": [CALL], "promise": PROMISE},
            "operations wait: 192.0.2.1 says: the volume is in use",
        ),
        ({"servers": [BUSY, SERVER], "calls": [CALL]}, "a server is being asked just now"),
        ({"servers": [BUSY]}, "nothing hangs: the next use asks a server"),
        ({"ending": "closed"}, "it is not known whether you may"),
        ({"volume": None, "mount_point": POINT}, "the volume behind this mount point is being"),
        ({"volume": None, "ending": "unknown"}, "this shows cells"),
    ],
)
def test_one_sentence_says_what_matters(known: dict[str, Any], verdict: str) -> None:
    shown = {**SHOWN, **known}
    assert why.verdict(shown).startswith(verdict)
    assert why.said(shown, 1_700_000_000.0)[0] == ("so", why.verdict(shown))


def test_what_a_server_says_of_the_volume_is_told_with_its_age() -> None:
    said = dict(why.said({**SHOWN, "servers": [SERVER, BUSY]}, 1_700_000_000.0))
    assert said["refused"] == "by 192.0.2.1, for 12 s: the volume is in use"
    old = {**BUSY, "refusal": {**BUSY["refusal"], "last": 60.0}}  # type: ignore[dict-item]
    said = dict(why.said({**SHOWN, "servers": [old]}, 1_700_000_000.0))
    assert said["refused"] == "by 192.0.2.1, 1 min ago: the volume is in use"


def test_links_are_followed_outside_of_mounts_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mount = tmp_path / "mount"
    mount.mkdir()
    (tmp_path / "to").symlink_to("mount/below")
    (tmp_path / "there").symlink_to(tmp_path / "to")
    asked: list[str] = []

    def readlink(path: str, real: Any = os.readlink) -> str:
        asked.append(path)
        target: str = real(path)
        return target

    monkeypatch.setattr(daemons, "fuse_mounts", lambda: {str(mount)})
    monkeypatch.setattr(why.os, "readlink", readlink)  # type: ignore[attr-defined]
    assert why.outside(f"{tmp_path}/there/../x") == f"{tmp_path}/x"  # as `cd` has it
    assert why.outside(f"{tmp_path}/there/x") == f"{mount}/below/x"
    assert not any(path.startswith(str(mount)) for path in asked)
