"""Each fault of the matrix, met by all loads at once: nothing wrong, nothing confirmed lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.interop.matrix.faults import FAULTS
from tests.interop.matrix.play import play
from tests.interop.matrix.report import lines
from tests.interop.matrix.stage import stage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.interop.matrix.faults import Fault
    from tests.interop.matrix.stage import Stage
    from tests.realcell.cell import RealCell

pytestmark = [pytest.mark.realcell, pytest.mark.mount]

SHORT = 3.0  # seconds that a fault lasts


@pytest.fixture(scope="module")
def hard(real_cell: RealCell, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A mount that waits, and one that judges."""
    folder = tmp_path_factory.mktemp("matrix")
    with stage(real_cell, folder, [fault.name for fault in FAULTS], "hard") as made:
        yield made


def meet(hard: Stage, fault: Fault, seconds: float, folder: Path) -> None:
    outcomes = play(hard, fault, seconds, folder / fault.name)
    print("\n".join(lines(outcomes)))
    assert not [outcome for outcome in outcomes if outcome.problems]


@pytest.mark.parametrize("fault", [f for f in FAULTS if f.short], ids=lambda fault: fault.name)
def test_five_loads_survive(hard: Stage, fault: Fault, tmp_path: Path) -> None:
    meet(hard, fault, SHORT, tmp_path)


@pytest.mark.soak
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_five_loads_survive_for_long(hard: Stage, fault: Fault, tmp_path: Path) -> None:
    meet(hard, fault, fault.seconds, tmp_path)
