"""The daemon is killed at work: what close, fsync and rename had confirmed is on the server.

That is judged when no daemon lives, so that none can have made it so since, and of OpenAFS's
servers by their own `vos dump`.
"""

from __future__ import annotations

import random
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from tests.interop.mounts import RealMount, eventually, mounted
from tests.programs import writer
from tests.programs.place import VOLUME, Held

if TYPE_CHECKING:
    from pathlib import Path

    from tests.programs.place import Place

pytestmark = [pytest.mark.mount, pytest.mark.timeout(900)]

KILLS = 5
SOAK_KILLS = 100
END_SECONDS = 30.0  # until a program has been told that the file system is gone
SETTLE_SECONDS = 30.0  # until the next daemon has done what the one before had begun
PREFIX = ".__afs"


@dataclass
class Confirmed:
    """What the programs were told, of all files; `touched` are those that one was working on."""

    files: dict[str, Held] = field(default_factory=dict)
    touched: set[str] = field(default_factory=set)
    end: str = ""

    def hear(self, line: str) -> None:
        """One line of the writer's."""
        verb, *words = line.split()
        if verb == "begin":
            self.touched = {words[1], "new"} if words[0] == "replace" else {words[1]}
        elif verb == "sure":
            self.files[words[0]] = Held(int(words[1]), words[2])
            self.touched = set()
        elif verb == "gone":
            del self.files[words[0]]
            self.touched = set()
        elif verb == "end":
            self.end = line

    def missing(self, held: dict[str, Held | None]) -> list[str]:
        """What a server has not of that, whatever became of what was being worked on."""
        names = {*self.files, *held} - self.touched
        return [
            f"{name}: {self.files.get(name)} was confirmed, {held.get(name)} is there"
            for name in sorted(names)
            if not name.startswith(PREFIX) and held.get(name) != self.files.get(name)
        ]


def work_until_killed(
    folder: Path, seed: int, mount: RealMount, lines: int, pause: float
) -> Confirmed:
    """A program works; after so many of its lines, and a moment, the daemon is killed."""
    confirmed = Confirmed()
    program = subprocess.Popen(
        [sys.executable, "-S", writer.__file__, folder, str(seed)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert program.stdout is not None
    for number, line in enumerate(program.stdout):
        confirmed.hear(line)
        if number == lines:
            time.sleep(pause)
            mount.daemon.kill()
    _, complaint = program.communicate(timeout=END_SECONDS)
    assert program.returncode == 0, complaint
    mount.daemon.wait()
    return confirmed


@pytest.mark.parametrize(
    "kills",
    [
        KILLS,
        pytest.param(SOAK_KILLS, marks=[pytest.mark.soak, pytest.mark.timeout(3600)]),
    ],
)
def test_what_was_confirmed_is_there(place: Place, tmp_path: Path, kills: int) -> None:
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    rng = random.Random(seed)
    point, name = tmp_path / "afs", f"killed-{seed}"
    point.mkdir()
    options = f"cachedir={tmp_path / 'cache'},cachesize=64M"
    survivors = Survivors(place, name)
    for round in range(kills):
        mount = RealMount(
            place.cell, place.cell.clients["client1"], "afs", point, place.options(options)
        )
        try:
            mount.wait_until_mounted()  # over what the one before has left
            folder = mount.writable / VOLUME / name
            if round == 0:
                folder.mkdir()
            survivors.check(folder)
            for path in folder.iterdir():
                path.unlink()
            lines, pause = rng.randrange(1, 120), rng.uniform(0, 0.05)
            survivors.confirmed = work_until_killed(folder, seed + round, mount, lines, pause)
            assert survivors.confirmed.end, "the program ended otherwise"
            survivors.judge()
        except BaseException:
            print(mount.log.read_text()[-8000:])
            mount.clear()
            raise
    with mounted(place.cell, "client1", point, options=place.options(options)) as last:
        folder = last.writable / VOLUME / name
        survivors.check(folder)
        subprocess.run(["rm", "-rf", folder], check=True)


class Survivors:
    """Compares what was confirmed with what a server has, and with what the next daemon shows."""

    def __init__(self, place: Place, name: str) -> None:
        self._place = place
        self._name = name
        self.confirmed = Confirmed()
        self.differences = ""

    def judge(self) -> None:
        """No daemon lives."""
        assert not self.confirmed.missing(self._place.dumped(self._name))

    def check(self, folder: Path) -> None:
        assert not self.confirmed.missing(self._place.held(self._name))
        # What the journal has of unconfirmed writes is stored, and what was removed while it was
        # open goes, after the mount has answered.
        assert eventually(lambda: self._settled(folder), SETTLE_SECONDS), self.differences
        assert not self.confirmed.missing(self._place.held(self._name))

    def _settled(self, folder: Path) -> bool:
        """Whether the new daemon shows what the server has, and nothing is left over."""
        held = self._place.held(self._name)
        try:
            shown = {path.name: Held.of(path.read_bytes()) for path in folder.iterdir()}
        except FileNotFoundError:  # it was removed just now
            return False
        left = {name for name in held if name.startswith(PREFIX)}
        self.differences = (
            f"left over: {left}, or not shown as held: {held.items() ^ shown.items()}"
        )
        return not left and held == shown
