"""The read-ahead in sysfs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from afsfuse.fuse import tuning

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_root_sets_the_read_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "0:77").mkdir()
    monkeypatch.setattr(tuning, "BDI", tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    tuning.set_read_ahead("0:77", 1 << 20)
    assert (tmp_path / "0:77" / "read_ahead_kb").read_text() == "1024"


def test_what_cannot_be_set_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "BDI", tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    tuning.set_read_ahead("0:78", 1 << 20)


def test_users_do_not_try(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "0:77").mkdir()
    monkeypatch.setattr(tuning, "BDI", tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    tuning.set_read_ahead("0:77", 1 << 20)
    assert not list((tmp_path / "0:77").iterdir())
