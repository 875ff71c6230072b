"""Mounts of a cell by this project's own command, on a host of the cell."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from afsfuse.auth.folders import OVERRIDE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

START_SECONDS = 30.0
STOP_SECONDS = 20.0
POLL_SECONDS = 0.02


class ClientHost(Protocol):
    """Where a daemon can be started."""

    def popen(
        self, command: Sequence[str], *, mounts: bool = True, **more: Any
    ) -> subprocess.Popen[bytes]: ...


class Cell(Protocol):
    """What has to be known of a cell to mount it."""

    @property
    def name(self) -> str: ...
    @property
    def confdir(self) -> Path: ...
    @property
    def clients(self) -> Mapping[str, ClientHost]: ...


class RealMount:
    """A daemon in the foreground on a client host; what it mounts is visible to everybody."""

    def __init__(
        self,
        cell: Cell,
        host: ClientHost,
        source: str,
        point: Path,
        options: str,
        runtime: Path | None = None,
        environment: Mapping[str, str] | None = None,
        program: Sequence[str] = ("-m", "afsfuse"),
    ) -> None:
        """`runtime`: where its tokens are, if not where those of the tests' own process are.
        `program`: what Python is to run, with the arguments of `afsfuse`.
        """
        self.point = point
        self.log = point.with_suffix(".log")
        everything = f"confdir={cell.confdir}" + (f",{options}" if options else "")
        command = [sys.executable, *program, "mount", source, str(point), "-f"]
        env = {**(environment or {}), **({OVERRIDE: str(runtime)} if runtime else {})}
        with self.log.open("wb") as log:
            self.daemon = host.popen(
                [*command, "-o", everything], mounts=False, stdout=log, stderr=log, env=env
            )
        self._cell = cell.name

    @property
    def cell(self) -> Path:
        """The read-only root of the cell."""
        return self.point / self._cell

    @property
    def writable(self) -> Path:
        """The read-write root of the cell."""
        return self.point / f".{self._cell}"

    def wait_until_mounted(self) -> None:
        """Raises AssertionError with the daemon's log when it ends or takes too long."""
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            assert self.daemon.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(POLL_SECONDS)

    def _answers(self) -> bool:
        # Not `lstat`: of a mount whose daemon is dead the kernel still knows the attributes.
        try:
            return os.statvfs(self.point).f_namemax == 255 and os.path.ismount(self.point)
        except OSError:
            return False

    def stop(self) -> int:
        """End it as init would; the daemon's exit status."""
        self.daemon.send_signal(signal.SIGTERM)
        try:
            return self.daemon.wait(STOP_SECONDS)
        finally:
            self.clear()

    def clear(self) -> None:
        """Leave neither process nor mount, whatever happened."""
        if self.daemon.poll() is None:
            self.daemon.kill()
            self.daemon.wait()
        if str(self.point) in Path("/proc/mounts").read_text():
            subprocess.run(["fusermount3", "-uz", str(self.point)], check=False)


@contextmanager
def mounted(
    cell: Cell,
    host: str,
    point: Path,
    *,
    source: str = "afs",
    options: str = "",
    runtime: Path | None = None,
    environment: Mapping[str, str] | None = None,
    program: Sequence[str] = ("-m", "afsfuse"),
) -> Iterator[RealMount]:
    """A mount for the time of a test; it must end cleanly and leave nothing."""
    point.mkdir(parents=True, exist_ok=True)
    mount = RealMount(
        cell, cell.clients[host], source, point, options, runtime, environment, program
    )
    try:
        mount.wait_until_mounted()
        yield mount
        assert mount.daemon.poll() is None, mount.log.read_text()
        assert mount.stop() == 0, mount.log.read_text()
        assert "Traceback" not in mount.log.read_text()
    finally:
        mount.clear()


def eventually(holds: Callable[[], bool], seconds: float) -> bool:
    """Whether something comes true within a time that a requirement names."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True
