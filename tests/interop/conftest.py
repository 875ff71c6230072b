"""Visitors at each level, with a mount of theirs for the tests that only look; desks for others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from afsfuse.auth.folders import OVERRIDE
from tests.interop.desk import Desk
from tests.interop.visitor import LEVELS, Visitor

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.interop.mounts import RealMount
    from tests.realcell.cell import RealCell


@pytest.fixture(scope="module", params=LEVELS)
def visitor(
    request: pytest.FixtureRequest, real_cell: RealCell, tmp_path_factory: pytest.TempPathFactory
) -> Visitor:
    """Who comes: without a token, and with one at two levels of protection."""
    return Visitor(real_cell, tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module")
def afs(visitor: Visitor, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealMount]:
    """The cell as the visitor sees it at client1, from one mount for a module of tests."""
    with visitor.mounted(tmp_path_factory.mktemp("shared") / "afs") as mount:
        yield mount


@pytest.fixture
def desk(real_cell: RealCell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """A desk of alice's, without any tickets yet."""
    monkeypatch.setenv(OVERRIDE, str(tmp_path / "run"))
    desk = Desk(real_cell, tmp_path, tmp_path / "run")
    desk.write_keytab()
    return desk
