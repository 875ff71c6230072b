"""What is measured: a mount of the cell, made by one program or the other, always cold."""

from __future__ import annotations

import os
import signal
import sys
import time
from abc import ABC, abstractmethod
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.tools.peer import Peer

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator, Mapping
    from contextlib import AbstractContextManager

    from tests.realcell.cell import RealCell
    from tests.realcell.hosts import Host

READY_SECONDS = 60.0
POLL_SECONDS = 0.001
DATA_CACHE = "64M"
NO_DISK = "cachedir=none"  # unless it is the disk that is measured
# An installed program has its byte code beside it; here it is written by the first round.
INSTALLED = {"PYTHONDONTWRITEBYTECODE": ""}


@dataclass(frozen=True)
class Mounted:
    """A cell that can be read under `cell`; `seconds` from the start to the first listing."""

    cell: Path
    pid: int
    seconds: float

    def peak_mebibytes(self) -> float:
        """The most memory that the daemon has had resident."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
        raise RuntimeError(f"process {self.pid} tells no VmHWM")


class Subject(ABC):
    """One of the programs that are compared."""

    name: str

    @abstractmethod
    def mount(self, cell: RealCell, host: Host) -> AbstractContextManager[Mounted]:
        """Start the program on a host, with empty caches, and end it afterwards."""


class Afsfuse(Subject):
    """This project, as a user would mount it. `profile` names a file for cProfile's figures."""

    name = "afsfuse"

    def __init__(
        self,
        profile: Path | None = None,
        options: str = "",
        env: Mapping[str, str] | None = None,
    ) -> None:
        self._profile = profile
        self._options = options
        self._env = {**INSTALLED, **(env or {})}

    @contextmanager
    def mount(self, cell: RealCell, host: Host) -> Iterator[Mounted]:
        point = cell.folder / f"bench-{host.name}"
        point.mkdir(exist_ok=True)
        program = [sys.executable]
        if self._profile:
            program += ["-m", "cProfile", "-o", str(self._profile)]
        options = f"confdir={cell.confdir},memory={DATA_CACHE},{self._options or NO_DISK}"
        begin = time.perf_counter()
        daemon = host.popen(
            [*program, "-m", "afsfuse", "mount", "afs", str(point), "-f", "-o", options],
            mounts=False,
            env=self._env,
        )
        try:
            seconds = wait_for_listing(point / cell.name, daemon, begin)
            yield Mounted(point / cell.name, daemon.pid, seconds)
        finally:
            daemon.send_signal(signal.SIGTERM)
            daemon.wait(READY_SECONDS)


class AfsdFuse(Subject):
    """OpenAFS's own client in user space, from Debian's package `openafs-fuse`."""

    name = "afsd.fuse"

    @contextmanager
    def mount(self, cell: RealCell, host: Host) -> Iterator[Mounted]:
        begin = time.perf_counter()
        with Peer(cell, host.name) as peer:
            if not os.listdir(peer.cell_path):
                raise RuntimeError(f"{peer.cell_path} is empty")
            yield Mounted(peer.cell_path, peer.pid, time.perf_counter() - begin)


def wait_for_listing(path: Path, daemon: subprocess.Popen[bytes], begin: float) -> float:
    """Seconds from `begin` until a listing of `path` has names in it."""
    while time.perf_counter() - begin < READY_SECONDS:
        try:
            if os.listdir(path):
                return time.perf_counter() - begin
        except OSError:
            if daemon.poll() is not None:
                raise RuntimeError(f"the daemon ended with status {daemon.returncode}") from None
        time.sleep(POLL_SECONDS)
    raise RuntimeError(f"{path}: nothing to list after {READY_SECONDS:.0f} s")
