"""Which directories `copyacl -recursive` goes through, and in which order."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

import pytest

from afsfuse.tools.fs import trees

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Served:
    """A path in a tree where `volume` is the name of every mount point."""

    def __init__(self, path: str) -> None:
        self.path = path

    def ask(self, verb: str) -> dict[str, Any]:
        assert verb == "mount-point"
        return {"target": "#volume" if self.path.endswith("/volume") else None}


@pytest.fixture
def top(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    @contextlib.contextmanager
    def of(path: str, *, follow: bool) -> Iterator[Served]:
        assert not follow
        yield Served(path)

    monkeypatch.setattr(trees, "of", of)
    for name in ("b/deep/deeper", "a", "b/volume/other"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "b" / "file").touch()
    (tmp_path / "link").symlink_to("b")
    return tmp_path


def walked(top: Path) -> tuple[list[str], list[str]]:
    failed: list[str] = []
    found = list(trees.below(str(top), lambda path, why: failed.append(path)))
    return [os.path.relpath(path, top) for path in found], failed


def test_what_is_below_comes_first(top: Path) -> None:
    assert walked(top) == (["a", "b/deep/deeper", "b/deep", "b", "."], [])
    assert walked(top / "b" / "file") == (["."], [])
    assert walked(top / "nothing") == ([], [str(top / "nothing")])


def test_where_nobody_may_look_the_list_comes_first(
    top: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be the new list that lets one in."""
    real, closed = trees._directories, {str(top / "b"): 1, str(top / "a"): 2}

    def directories(path: str) -> list[str]:
        if closed.get(path):
            closed[path] -= 1
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(trees, "_directories", directories)
    assert walked(top) == (["a", "b", "b/deep/deeper", "b/deep", "."], [str(top / "a")])


def test_depth_is_no_limit(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = {"x" * n: ["x" * (n + 1)] for n in range(1, 3000)}
    monkeypatch.setattr(trees, "_directories", lambda path: deep.get(path, []))
    assert [len(path) for path in trees.below("x", lambda *_: None)] == [*range(3000, 0, -1)]
