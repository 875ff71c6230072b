"""One long-lived mount of the dynamic root for the tests that only look; desks for the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from afsfuse.auth.folders import OVERRIDE
from tests.interop.desk import Desk
from tests.interop.mounts import RealMount, mounted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.realcell.cell import RealCell


@pytest.fixture(scope="session")
def afs(real_cell: RealCell, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealMount]:
    """The cell as client1 sees it."""
    with mounted(real_cell, "client1", tmp_path_factory.mktemp("shared") / "afs") as mount:
        yield mount


@pytest.fixture
def desk(real_cell: RealCell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """A desk of alice's, without any tickets yet."""
    monkeypatch.setenv(OVERRIDE, str(tmp_path / "run"))
    desk = Desk(real_cell, tmp_path, tmp_path / "run")
    desk.write_keytab()
    return desk
