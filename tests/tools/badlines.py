"""How fast a file is read and written where packets are lost, as a table:

    python -m tests.tools.badlines [ROUNDS]

As root, with a real cell of its own: 64 MiB by programs on a fresh mount each, contents compared. A
round takes about a minute and a half. What is shown are medians, and shares of what the same rounds
had without loss; `docs/reliability.md` has the table of one run.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

from afsfuse.auth.folders import OVERRIDE
from afsfuse.cache.disk.folder import OVERRIDE as CACHE_OVERRIDE
from tests.interop.mounts import mounted
from tests.realcell import dump
from tests.realcell.cell import RealCell
from tests.realcell.contents import Bytes, Directory, File, PseudoRandom, sha256

LOSSES = (0.0, 1.0, 5.0, 20.0)  # percent, each way
VOLUME, SIZE = "lost.packets", 64 << 20
SECONDS = 900

READER = """
import hashlib, sys
digest = hashlib.sha256()
with open(sys.argv[1], "rb", buffering=0) as file:
    while data := file.read(1 << 20):
        digest.update(data)
print(digest.hexdigest())
"""
WRITER = """
import os, sys
data = sys.stdin.buffer.read()
with open(sys.argv[1], "wb", buffering=0) as file:
    for at in range(0, len(data), 1 << 20):
        file.write(data[at : at + (1 << 20)])
    os.fsync(file.fileno())
"""


def run(program: str, path: Path, data: bytes = b"") -> tuple[float, str]:
    """Seconds that a program took with a file, and what it said."""
    began = time.monotonic()
    command = [sys.executable, "-S", "-c", program, str(path)]
    done = subprocess.run(command, input=data, capture_output=True, check=True, timeout=SECONDS)
    return time.monotonic() - began, done.stdout.decode().strip()


class Lines:
    """A cell, to whose first client the line is bad."""

    def __init__(self, cell: RealCell, folder: Path) -> None:
        self._cell = cell
        self._folder = folder
        content = PseudoRandom("lost packets", SIZE)
        tree = Directory({b"big": File(content), b"new": File(Bytes(b""))})
        cell.volumes.restore(VOLUME, dump.write(tree, name=VOLUME), "fs2")
        self._wanted = sha256(content)
        # Else a burst that the kernel cuts into packets is lost as a whole.
        enter = cell.clients["client1"].enter
        command = [*enter, "ip", "link", "set", "eth0", "gso_max_segs", "1"]
        subprocess.run(command, check=True)

    def read(self, percent: float) -> float:
        """Read the file. -> bytes a second"""
        seconds, digest = self._run(READER, "big", percent)
        assert digest == self._wanted, "wrong bytes were read"
        return SIZE / seconds

    def write(self, percent: float) -> float:
        """Write the file, and have it read at the other client. -> bytes a second"""
        data = hashlib.shake_128(uuid.uuid4().bytes).digest(SIZE)
        seconds, _ = self._run(WRITER, "new", percent, data)
        with mounted(self._cell, "client2", self._folder / "there", source=self._source) as there:
            digest = run(READER, there.point / "new")[1]
        assert digest == hashlib.sha256(data).hexdigest(), "wrong bytes were written"
        return SIZE / seconds

    def _run(self, program: str, name: str, percent: float, data: bytes = b"") -> tuple[float, str]:
        """Run a program on a fresh mount to which so many packets are lost."""
        with mounted(self._cell, "client1", self._folder / "here", source=self._source) as here:
            assert (here.point / name).exists()
            self._cell.network.lose("client1", percent)
            try:
                return run(program, here.point / name, data)
            finally:
                self._cell.network.heal("client1")

    @property
    def _source(self) -> str:
        return f"%{self._cell.name}:{VOLUME}."


def table(rates: dict[float, tuple[list[float], list[float]]]) -> str:
    """Rates of reading and of writing, in bytes a second, by the percentage that is lost."""
    medians = {p: [statistics.median(each) for each in both] for p, both in rates.items()}
    lines = [
        "| lost each way | read, MiB/s | share | written, MiB/s | share |",
        "|---|---|---|---|---|",
    ]
    for percent, both in medians.items():
        cells = [f"{percent:g} %" if percent else "none"]
        for rate, clean in zip(both, medians[0.0], strict=True):
            cells += [f"{rate / 2**20:.3g}", f"{100 * rate / clean:.2g} %" if percent else ""]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> int:
    """Entry point; see the head of the file."""
    parser = argparse.ArgumentParser(prog="python -m tests.tools.badlines")
    parser.add_argument("rounds", nargs="?", type=int, default=3)
    rounds = parser.parse_args().rounds
    rates: dict[float, tuple[list[float], list[float]]] = {p: ([], []) for p in LOSSES}
    with tempfile.TemporaryDirectory(prefix="afsfuse-lines-") as name, RealCell.start() as cell:
        os.environ |= {OVERRIDE: f"{name}/run", CACHE_OVERRIDE: "none"}
        lines = Lines(cell, Path(name))
        for _ in range(rounds):
            for percent, (read, written) in rates.items():
                read.append(lines.read(percent))
                written.append(lines.write(percent))
                last = f"read {read[-1] / 2**20:.1f} MiB/s, wrote {written[-1] / 2**20:.1f}"
                print(f"{percent:g} %: {last}", file=sys.stderr, flush=True)
    print(table(rates))
    return 0


if __name__ == "__main__":
    sys.exit(main())
