"""fio: writes all over files and checks each block by the checksum that it carries."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.programs.conftest import Needs

pytestmark = pytest.mark.mount

SECONDS = 240
JOBS = {
    # A job that writes a few files in order, one that overwrites at random and syncs, one by maps.
    "sequential": ["--rw=write", "--bs=128k", "--nrfiles=3"],
    "random": ["--rw=randwrite", "--bsrange=512-40k", "--bs_unaligned=1", "--fsync=37"],
    "mapped": ["--rw=randwrite", "--bs=4k", "--ioengine=mmap"],
    "direct": ["--rw=randwrite", "--bs=16k", "--direct=1"],
}


@pytest.mark.parametrize("size", ["6m", pytest.param("256m", marks=pytest.mark.soak)])
@pytest.mark.parametrize("job", JOBS)
def test_every_block_is_what_was_written(folder: Path, needs: Needs, job: str, size: str) -> None:
    needs("fio")
    done = subprocess.run(
        [
            "fio", f"--name={job}", f"--directory={folder}", f"--size={size}", "--ioengine=psync",
            "--verify=crc32c", "--verify_fatal=1", "--verify_state_save=0", "--fallocate=none",
            "--randseed=4711", "--output-format=json", *JOBS[job],
        ],
        capture_output=True, text=True, check=False, timeout=SECONDS, cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr + done.stdout
    (told,) = json.loads(done.stdout)["jobs"]
    assert told["error"] == 0
    assert told["write"]["total_ios"] > 0
    assert told["read"]["io_bytes"] >= told["write"]["io_bytes"], "all that was written was read"
