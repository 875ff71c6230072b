"""A cell leaves nothing behind, however its owner ends."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.realcell import cell as cell_module
from tests.realcell.cell import FACTS, CellError, RealCell, sweep
from tests.realcell.keeper import mounts_under, processes_in_networks
from tests.realcell.network import link_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = [pytest.mark.realcell, pytest.mark.usefixtures("_realcell_possible")]

REPOSITORY = Path(__file__).parents[2]
GONE_SECONDS = 30.0


class Traces:
    """What a running cell consists of, noted so that one can look for it afterwards."""

    def __init__(self, folder: Path) -> None:
        facts = json.loads((folder / FACTS).read_text())
        self.folder = folder
        self.link = Path("/sys/class/net", link_name(facts["network"]))
        self.holders = [int(pid) for pid in facts["holders"].values()]
        self.networks = {os.stat(f"/proc/{pid}/ns/net").st_ino for pid in self.holders}
        assert self.link.exists()
        assert processes_in_networks(self.networks)

    def left(self) -> list[str]:
        """What of it is still there."""
        found = [f"process {pid}" for pid in processes_in_networks(self.networks)]
        found += [f"mount {point}" for point in mounts_under(self.folder)]
        return found + [str(path) for path in (self.link, self.folder) if path.exists()]


def wait_until(condition: Callable[[], bool]) -> bool:
    """Whether it came true in time."""
    deadline = time.monotonic() + GONE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


@contextlib.contextmanager
def running_program() -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """`python -m tests.realcell up`, when it is up: the process and its cell's folder."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.realcell", "up", "--no-seed"],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdout is not None
        try:
            line = next(line for line in process.stdout if line.startswith(b"confdir"))
            yield process, Path(os.fsdecode(line.split()[1])).parent
        finally:
            process.terminate()


def test_down_leaves_nothing() -> None:
    with RealCell.start(servers=("fs1",), clients=("client1",)) as cell:
        traces = Traces(cell.folder)
        client = cell.clients["client1"]
        sleeper = client.popen(["sleep", "1000"])
        mount = cell.folder / "mounted"
        mount.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "none", str(mount)], check=True)
    assert traces.left() == []
    assert sleeper.poll() is not None
    cell.down()  # again: nothing to do


def test_a_start_that_fails_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    folders: list[Traces] = []

    def fail(cell: RealCell) -> None:
        folders.append(Traces(cell.folder))
        raise CellError("on purpose")

    monkeypatch.setattr(cell_module.RealCell, "_make_servers", fail)
    with pytest.raises(CellError, match="on purpose"):
        RealCell.start(clients=("client1",))
    assert folders[0].left() == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_the_end_of_the_owner_is_the_end_of_the_cell(number: signal.Signals) -> None:
    with running_program() as (process, folder):
        traces = Traces(folder)
        entering = ["nsenter", "-t", str(traces.holders[-1]), "--net", "--", "sleep", "1000"]
        with subprocess.Popen(entering) as stray:  # as a daemon that a test left in the background
            assert wait_until(lambda: stray.pid in processes_in_networks(traces.networks))
            process.send_signal(number)
            status = process.wait(GONE_SECONDS)
            assert status == (-9 if number == signal.SIGKILL else 128 + number)
            assert wait_until(lambda: stray.poll() is not None)
            assert wait_until(lambda: traces.left() == []), traces.left()


def test_a_killed_keeper_is_swept_up_after() -> None:
    with running_program() as (process, folder):
        traces = Traces(folder)
        keeper = json.loads((folder / "owner.json").read_text())["keeper"][0]
        os.kill(keeper, signal.SIGKILL)
        process.kill()
        process.wait()
        assert wait_until(lambda: not processes_in_networks(traces.networks))
        assert folder.exists()
        assert folder in sweep()
        assert wait_until(lambda: traces.left() == []), traces.left()


def test_two_cells_live_side_by_side() -> None:
    with (
        RealCell.start(servers=("fs1",), clients=("client1",)) as one,
        RealCell.start(servers=("fs1",), clients=("client1",)) as other,
    ):
        assert one.network.number != other.network.number
        one.volumes.create("only.here")
        assert "only.here" in one.vos(["listvldb"]).stdout
        assert "only.here" not in other.vos(["listvldb"]).stdout
        sweep()  # neither is a leftover
        other.down()
        assert "only.here" in one.vos(["listvldb"]).stdout


def test_run_gives_a_command_its_cell(tmp_path: Path) -> None:
    script = "cat $REALCELL_CONFDIR/ThisCell; $REALCELL_CLIENT1_ENTER ip -4 -o address; exit 7"
    done = subprocess.run(
        [sys.executable, "-m", "tests.realcell", "run", "--no-seed", "--", "sh", "-c", script],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 7
    assert done.stdout.startswith("test.afs\n")
    assert ".21/24" in done.stdout
