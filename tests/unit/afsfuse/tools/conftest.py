"""A place for tokens that is this test's alone, and configured cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from afsfuse.auth import folders, keyring

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only place there is; no daemon runs there. Keyrings are left alone."""
    monkeypatch.setenv(folders.OVERRIDE, str(tmp_path / "run"))
    monkeypatch.setattr(keyring, "_library", lambda: None)
    return tmp_path / "run"


@pytest.fixture
def confdir(tmp_path: Path) -> Path:
    folder = tmp_path / "conf"
    folder.mkdir()
    (folder / "ThisCell").write_text("example.org\n")
    (folder / "CellServDB").write_text(
        ">example.org\n192.0.2.1 #db1.example.org\n>other.org\n192.0.2.2\n"
    )
    (folder / "CellAlias").write_text("other.org other\n")
    return folder
