"""A file without holes, larger than the cache: written, changed in places, and read elsewhere."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

import pytest

from tests.interop.mounts import mounted
from tests.interop.test_contents import digest_of_file
from tests.realcell.configuration import CELL
from tests.realcell.contents import PseudoRandom

if TYPE_CHECKING:
    from pathlib import Path

    from tests.realcell.cell import RealCell

pytestmark = [pytest.mark.realcell, pytest.mark.mount]

MIB, GIB = 1 << 20, 1 << 30
STEP = 4 * MIB
MARK = b"across"


@pytest.mark.parametrize(
    ("length", "memory"),
    [
        pytest.param(40 * MIB + 3, 16, id="short"),
        pytest.param(
            4 * GIB + 40 * MIB + 3, 64, id="full",
            marks=[pytest.mark.soak, pytest.mark.timeout(3600)],
        ),
    ],
)  # fmt: skip
def test_a_full_file_comes_back(
    real_cell: RealCell, tmp_path: Path, length: int, memory: int
) -> None:
    """Twice as read by another mount, and once as it lies on the server's disk."""
    content = PseudoRandom("large", length)
    edges = [edge for edge in (16 * MIB, 2 * GIB, 4 * GIB) if edge < length]
    real_cell.volumes.create("large", "fs2")
    options = f"memory={memory}M"
    source = f"%{CELL}:large."
    try:
        with (
            mounted(real_cell, "client1", tmp_path / "one", source=source, options=options) as one,
            mounted(real_cell, "client2", tmp_path / "two", source=source, options=options) as two,
        ):
            path = one.point / "file"
            expected = hashlib.sha256()
            with path.open("xb", buffering=0) as file:
                for at in range(0, length, STEP):
                    piece = content.read(at, min(STEP, length - at))
                    expected.update(piece)
                    assert file.write(piece) == len(piece)
            other = two.point / "file"
            assert other.stat().st_size == length
            assert digest_of_file(other) == expected.hexdigest()
            assert digest_at_the_server(real_cell, length) == expected.hexdigest()

            with path.open("r+b", buffering=0) as file:
                for edge in edges:
                    assert os.pwrite(file.fileno(), MARK, edge - 3) == len(MARK)
            for edge in edges:
                around = bytearray(content.read(edge - 5, 10))
                around[2:8] = MARK
                for where in (path, other):
                    with where.open("rb", buffering=0) as file:
                        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                        assert os.pread(file.fileno(), 10, edge - 5) == bytes(around)
            path.unlink()
    finally:
        real_cell.volumes.remove("large", "fs2")


def digest_at_the_server(cell: RealCell, length: int) -> str:
    """The only file of that length below the server's partition."""
    partition = cell.servers["fs2"].root / "vicepa/AFSIDat"
    (stored,) = (
        path for path in partition.rglob("*") if path.is_file() and path.stat().st_size == length
    )
    return digest_of_file(stored)
