"""The machine sleeps: servers forget it, others change what it has, and it wakes two hours later.

The daemon is stopped, what is sent to it meanwhile is lost, and its CLOCK_BOOTTIME is ahead when it
goes on (`tests.tools.boottime`): all that a daemon sees of a sleep.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from afsfuse.fileserver.health import HealthLimits
from tests.interop.mounts import eventually, mounted
from tests.realcell.afsio import Afsio
from tests.tools.boottime import BootTime

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.realcell.cell import RealCell

pytestmark = [pytest.mark.realcell, pytest.mark.mount]

FIRST_LOOK = HealthLimits().first_look
SLEPT = 7200
SOON = 10.0  # of a machine that does much else; seen within a second otherwise


# Has a file open, and reads it for each line of its input. Not the test itself: each program that
# starts while the daemon stands still would wait for it, to close the file.
HOLDER = """
import sys
with open(sys.argv[1], "rb", buffering=0) as file:
    print(len(file.read()), flush=True)
    for line in sys.stdin:
        file.seek(0)
        print(file.read().hex(), flush=True)
"""


def test_after_a_sleep_nothing_old_is_read(real_cell: RealCell, tmp_path: Path) -> None:
    """One file server could not tell us of a change, the other one was started anew."""
    clock = BootTime(tmp_path)
    afsio = Afsio(real_cell.clients["client2"])
    names = ("scratch/slot20", "scratch2/slot20")
    changed = b"changed to %s\n" % uuid.uuid4().hex.encode()
    with mounted(real_cell, "client1", tmp_path / "afs", environment=clock.environment) as mount:
        paths = [mount.writable / name for name in names]
        for path in paths:
            path.write_bytes(b"as it was\n")
        time.sleep(2 * FIRST_LOOK)  # else servers are asked at the waking, as they are new to us
        with holder(paths[0]) as held:
            mount.daemon.send_signal(signal.SIGSTOP)
            try:
                with real_cell.partition("client1"), ThreadPoolExecutor(1) as other:
                    # It waits while its server calls us in vain.
                    told = other.submit(afsio.overwrite, f"/afs/.test.afs/{names[0]}", changed)
                    real_cell.restart_file_server("fs2")
                    afsio.overwrite(f"/afs/.test.afs/{names[1]}", changed)
                    told.result()
                clock.sleep(SLEPT)
            finally:
                mount.daemon.send_signal(signal.SIGCONT)
            woken = time.monotonic()
            for path in paths:
                assert eventually(lambda: path.read_bytes() == changed, SOON)  # noqa: B023
            print(f"right contents {time.monotonic() - woken:.1f} s after the waking")
            assert bytes.fromhex(ask(held)) == changed
        assert f"the machine slept for {SLEPT} s" in mount.log.read_text()
        for path, name in zip(paths, names, strict=True):  # both servers call back again
            afsio.overwrite(f"/afs/.test.afs/{name}", changed.swapcase())
            assert eventually(lambda: path.read_bytes() == changed.swapcase(), 1.0)  # noqa: B023


@contextmanager
def holder(path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that has a file open."""
    process = subprocess.Popen(
        [sys.executable, "-S", "-c", HOLDER, str(path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert int(process.stdout.readline())
        yield process
    finally:
        process.kill()
        process.communicate()


def ask(process: subprocess.Popen[str]) -> str:
    """What the file has now, in hexadecimal digits."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    return process.stdout.readline()
