"""rsync: a tree goes there and back, and is the same."""

from __future__ import annotations

import os
import random
import stat
import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.programs.conftest import Needs

pytestmark = pytest.mark.mount

FILES = 150
SECONDS = 120
# All of -a but who files belong to, which in a cell only administrators say.
ARCHIVE = ("-a", "--no-owner", "--no-group", "--checksum")


def plant(top: Path) -> None:
    rng = random.Random(7)
    for number in range(FILES):
        path = top / f"dir{number % 7}" / f"sub{number % 3}" / f"name {number} \u00e4"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(rng.randbytes(rng.choice((0, 1, 511, 8192, 70_000))))
        path.chmod(rng.choice((0o644, 0o600, 0o755, 0o444, 0o664)))
        when = rng.randrange(1_000_000_000, 1_700_000_000)
        os.utime(path, (when, when))
    (top / "big").write_bytes(rng.randbytes(3_000_001))
    (top / "empty").mkdir()
    (top / "link").symlink_to("dir0/nowhere")
    (top / "dir1/link").symlink_to("../big")
    for folder in (top / "empty", top / "dir1"):
        os.utime(folder, (1_600_000_000, 1_600_000_000))


def seen(top: Path) -> dict[str, tuple[object, ...]]:
    """Everything that is to be the same at the other end."""
    everything: dict[str, tuple[object, ...]] = {}
    for path in sorted(top.rglob("*")):
        status = path.lstat()
        if path.is_symlink():
            facts: tuple[object, ...] = ("link", os.readlink(path))
        elif path.is_dir():
            facts = ("directory", stat.S_IMODE(status.st_mode), int(status.st_mtime))
        else:
            mode, when = stat.S_IMODE(status.st_mode), int(status.st_mtime)
            facts = ("file", mode, when, path.read_bytes())
        everything[str(path.relative_to(top))] = facts
    return everything


def rsync(*words: str | Path) -> str:
    done = subprocess.run(
        ["rsync", *words], capture_output=True, text=True, check=False, timeout=SECONDS
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_there_and_back(folder: Path, tmp_path: Path, needs: Needs) -> None:
    needs("rsync")
    source, there, back = tmp_path / "source", folder / "there", tmp_path / "back"
    source.mkdir()
    plant(source)
    whole = seen(source)
    rsync(*ARCHIVE, f"{source}/", there)
    assert seen(there) == whole
    assert rsync(*ARCHIVE, "--dry-run", "--itemize-changes", f"{source}/", there) == ""
    with (source / "big").open("r+b") as file:
        file.seek(1_000_000)
        file.write(b"changed")
    (source / "dir2/sub2").rename(source / "dir2/other")
    rsync(*ARCHIVE, "--delete", "--inplace", "--no-whole-file", f"{source}/", there)
    whole = seen(source)
    assert seen(there) == whole
    rsync(*ARCHIVE, f"{there}/", back)
    assert seen(back) == whole
