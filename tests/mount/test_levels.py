"""A cell that demands encryption, mounted with less: it works, and the log says what to change.

OpenAFS's servers demand no level: see `tests/interop/test_levels.py`. So these are our own.
"""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.mount.harness import ROOT, SECONDS, Children, clear
from tests.mount.leveld import CELL
from tests.mount.usersmount import loopback_address

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.mount


@pytest.mark.parametrize("level", ["clear", "auth", "crypt"])
def test_a_mount_with_less_than_is_demanded(tmp_path: Path, children: Children, level: str) -> None:
    point, confdir = tmp_path.resolve() / "afs", tmp_path / "conf"
    for folder in (point, confdir):
        folder.mkdir()
    address = loopback_address()
    process = children.start(
        sys.executable, "-m", "tests.mount.leveld", point, confdir, address, level,
        stdin=subprocess.PIPE, cwd=ROOT,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"mounted\n", process.communicate()[1].decode()
        assert (point / CELL / "file").read_text() == "secret\n"
        assert [entry.name for entry in (point / CELL).iterdir()] == ["file"]
        _, errors = process.communicate(b"", timeout=SECONDS)
    finally:
        children.end()
        clear(point)
    warnings = [line for line in errors.decode().splitlines() if "demands" in line]
    if level == "crypt":
        assert not warnings
        return
    (warning,) = warnings
    assert f"{address} of {CELL} demands level crypt, not {level}: the token of uid-" in warning
    assert "mount with -o crypt=crypt, or without this option" in warning
