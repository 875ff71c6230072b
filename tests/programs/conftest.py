"""Each program works twice: on the cell in one process, and on OpenAFS's servers."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.interop.mounts import mounted
from tests.programs.place import VOLUME, LocalCell, Place

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.interop.mounts import RealMount

_folders = itertools.count()


@pytest.fixture(
    scope="package",
    params=["democell", pytest.param("openafs", marks=pytest.mark.realcell)],
)
def place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    """The cell."""
    if request.param == "openafs":
        yield Place.real(request.getfixturevalue("real_cell"))
        return
    cell = LocalCell(tmp_path_factory.mktemp("cell"))
    yield Place.local(cell)
    cell.end()


@pytest.fixture(scope="package")
def afs(place: Place) -> Iterator[RealMount]:
    """The cell as client1 sees it, where all users can get at it."""
    with tempfile.TemporaryDirectory(prefix="afsfuse-programs-") as base:
        os.chmod(base, 0o755)
        point = Path(base) / "afs"
        with mounted(place.cell, "client1", point, options=place.options()) as mount:
            yield mount


@pytest.fixture
def folder(afs: RealMount) -> Iterator[Path]:
    """An empty folder of the test's own in the mount, which is removed with all that is in it."""
    made = afs.writable / VOLUME / f"programs-{next(_folders)}"
    made.mkdir()
    yield made
    subprocess.run(["rm", "-rf", made], check=True)
    assert not made.exists()


@pytest.fixture
def needs() -> Needs:
    """`needs("git")` skips a test, with the reason, where a program is not installed."""
    return Needs()


class Needs:
    def __call__(self, *programs: str) -> None:
        lacking = [program for program in programs if shutil.which(program) is None]
        if lacking:
            pytest.skip(f"not installed: {', '.join(lacking)}")
