"""Fixtures on the real cell, for every test that is marked `realcell`.

With the variable REALCELL_FOLDER set to the work folder of a cell which runs already and has the
standard contents (`python -m tests.realcell up` prints it), the session uses that one and leaves
it running.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.realcell import seed
from tests.realcell.cell import RealCell
from tests.realcell.prerequisites import missing

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def _realcell_possible() -> None:
    """Skip, and say why, where no real cell can be had."""
    if problems := missing():
        pytest.skip(f"no real cell: {'; '.join(problems)}")


@pytest.fixture(scope="session")
def real_cell(_realcell_possible: None) -> Iterator[RealCell]:
    """The cell of the whole session, with the contents of `seed`. Tests leave it as it is, but
    for the volumes scratch and scratch2; they heal the networks that they break."""
    folder = os.environ.get("REALCELL_FOLDER")
    if folder:
        with RealCell.attach(Path(folder)) as cell:
            yield cell
        return
    with RealCell.start() as cell:
        seed.populate(cell)
        yield cell


@pytest.fixture(scope="module")
def own_cell(_realcell_possible: None) -> Iterator[RealCell]:
    """An empty cell of one server and two clients for one module, for tests that break things."""
    with RealCell.start(servers=("fs1",)) as cell:
        yield cell
