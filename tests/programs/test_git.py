"""git: many small files, renames over others, locks by O_EXCL, packs that are mapped."""

from __future__ import annotations

import hashlib
import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.programs.repository import history

if TYPE_CHECKING:
    from pathlib import Path

    from tests.programs.conftest import Needs
    from tests.programs.place import Place

pytestmark = pytest.mark.mount

FILES = 300
SOAK_FILES = 4000
SECONDS = 240


class Git:
    """git without anybody's configuration."""

    def __init__(self, home: Path) -> None:
        settings = {
            "user.name": "Tester", "user.email": "tester@example.org", "gc.auto": "0",
            "safe.directory": "*",  # files belong to numbers of the cell, not of this machine
            "init.defaultBranch": "main", "protocol.file.allow": "always",
        }  # fmt: skip
        self._environment = {
            **os.environ, "HOME": str(home), "GIT_CONFIG_NOSYSTEM": "1", "LC_ALL": "C",
            "GIT_CONFIG_COUNT": str(len(settings)),
        }  # fmt: skip
        for number, (key, value) in enumerate(settings.items()):
            self._environment[f"GIT_CONFIG_KEY_{number}"] = key
            self._environment[f"GIT_CONFIG_VALUE_{number}"] = value

    def __call__(self, folder: Path, *words: str, input: bytes = b"") -> str:
        done = subprocess.run(
            ["git", "-C", folder, *words], input=input, capture_output=True, check=False,
            env=self._environment, timeout=SECONDS,
        )  # fmt: skip
        assert done.returncode == 0, f"git {' '.join(words)}: {done.stderr.decode()}"
        return done.stdout.decode()


@pytest.mark.parametrize("files", [FILES, pytest.param(SOAK_FILES, marks=pytest.mark.soak)])
def test_a_clone_that_is_worked_in(
    place: Place, folder: Path, tmp_path: Path, needs: Needs, files: int
) -> None:
    needs("git")
    git = Git(tmp_path)
    source, clone = tmp_path / "source", folder / "clone"
    source.mkdir()
    git(source, "init", "--bare")
    stream, tree = history(files)
    git(source, "fast-import", "--quiet", input=stream)
    git(folder, "clone", "--quiet", f"file://{source}", "clone")
    assert git(clone, "status", "--porcelain") == ""
    for number in range(0, files, 7):
        path = f"d{number % 17}/e{number % 5}/file-{number}"
        tree[path] = b"changed %d\n" % number
        (clone / path).write_bytes(tree[path])
    moved = {path: path.replace("d3/", "moved/") for path in tree if path.startswith("d3/")}
    git(clone, "mv", "d3", "moved")
    tree = {moved.get(path, path): data for path, data in tree.items()}
    git(clone, "commit", "--quiet", "--all", "--message", "work")
    git(clone, "checkout", "--quiet", "-b", "other", "HEAD~2")
    git(clone, "checkout", "--quiet", "main")
    git(clone, "gc", "--quiet", "--prune=now")
    assert git(clone, "fsck", "--strict", "--full") == ""
    assert git(clone, "status", "--porcelain") == ""
    git(clone, "push", "--quiet", "origin", "main")
    assert git(source, "fsck", "--strict") == ""
    held = place.held(folder.name, "clone")
    stored = {path: it.sha256 for path, it in held.items() if it and not path.startswith(".git/")}
    assert stored == {path: hashlib.sha256(data).hexdigest() for path, data in tree.items()}
    assert not [path for path in held if ".__afs" in path]
