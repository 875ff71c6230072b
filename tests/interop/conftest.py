"""One long-lived mount of the dynamic root for the tests that only look."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.interop.mounts import RealMount, mounted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.realcell.cell import RealCell


@pytest.fixture(scope="session")
def afs(real_cell: RealCell, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealMount]:
    """The cell as client1 sees it."""
    with mounted(real_cell, "client1", tmp_path_factory.mktemp("shared") / "afs") as mount:
        yield mount
