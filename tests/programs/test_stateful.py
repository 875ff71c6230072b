"""Thousands of operations chosen by hypothesis do the same on the mount as on a local disk."""

from __future__ import annotations

import random
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.interop.mounts import RealMount, mounted
from tests.mount.harness import ROOT, environment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.programs.place import Place

pytestmark = pytest.mark.mount

OPERATIONS, SOAK_OPERATIONS = 500, 100_000
SECONDS, SOAK_SECONDS = 250, 3500

lengths = pytest.mark.parametrize(
    ("operations", "seconds"),
    [
        (OPERATIONS, SECONDS),
        pytest.param(
            SOAK_OPERATIONS,
            SOAK_SECONDS,
            marks=[pytest.mark.soak, pytest.mark.timeout(SOAK_SECONDS + 100)],
        ),
    ],
    ids=["short", "long"],
)


def exercise(folders: list[Path], local: Path, operations: int, seconds: int) -> None:
    local.mkdir()
    seed = random.randrange(1 << 30)
    done = subprocess.run(
        [
            sys.executable, "-m", "tests.programs.stateful",
            *folders, local, str(seed), str(operations),
        ],
        cwd=ROOT, env=environment(), check=False, text=True, timeout=seconds,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-20_000:]
    print(f"from seed {seed}: {done.stdout.splitlines()[-1]}")


@lengths
def test_one_client(folder: Path, tmp_path: Path, operations: int, seconds: int) -> None:
    """Files stay open and mapped meanwhile."""
    exercise([folder], tmp_path / "local", operations, seconds)


@pytest.fixture
def second(place: Place, tmp_path: Path) -> Iterator[RealMount]:
    """Another client of the same cell."""
    with mounted(place.cell, "client2", tmp_path / "afs", options=place.options()) as mount:
        yield mount


@lengths
def test_two_clients(
    afs: RealMount,
    second: RealMount,
    folder: Path,
    tmp_path: Path,
    operations: int,
    seconds: int,
) -> None:
    """Each sees what the other has done, as soon as that is closed."""
    other = second.point / folder.relative_to(afs.point)
    exercise([folder, other], tmp_path / "local", operations, seconds)
