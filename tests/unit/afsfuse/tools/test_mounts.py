"""How trees are shown to people."""

from typing import Any

import pytest

from afsfuse.tools import mounts

TREE: dict[str, Any] = {
    "path": "/afs/example.org/a\x1b[2J", "volume": "v.readonly", "cell": "example.org",
    "type": "read-only", "server": None, "idle": 3700.0, "memory": 2048, "data": 2 << 20,
    "kept_by": [{"what": "open file", "who": f"/x/{n}"} for n in range(5)], "kept": 25,
}  # fmt: skip


def test_a_row() -> None:
    assert mounts.row(TREE) == (
        "/afs/example.org/a\\x1b[2J", "v.readonly", "example.org", "RO", "-", "1 h 1 min",
        "2.0 MiB", "open file /x/0, open file /x/1, open file /x/2, 22 more",
    )  # fmt: skip
    idle = mounts.row({**TREE, "kept_by": [], "kept": 0, "type": "backup", "idle": 5.4, "data": 0})
    assert idle[3:] == ("backup", "-", "5 s", "2 KiB", "-")


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.9, "0 s"), (59.9, "59 s"), (60, "1 min"), (3599, "59 min")]
)
def test_times(seconds: float, words: str) -> None:
    assert mounts.duration(seconds) == words


def test_columns_stand_below_each_other() -> None:
    assert mounts.table([("A", "LONG", "C"), ("wide", "x", "")]) == "A     LONG  C\nwide  x"
