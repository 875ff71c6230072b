"""Fixtures of the documentation: they are those of mounts, and of a desk in the real cell."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from afsfuse.auth.folders import OVERRIDE
from tests.interop.desk import Desk
from tests.mount.conftest import _own_mount_table as _own_mount_table

if TYPE_CHECKING:
    from pathlib import Path

    from tests.realcell.cell import RealCell


@pytest.fixture
def desk(real_cell: RealCell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """A desk of alice's in the real cell."""
    monkeypatch.setenv(OVERRIDE, str(tmp_path / "run"))
    desk = Desk(real_cell, tmp_path, tmp_path / "run")
    desk.write_keytab()
    return desk
