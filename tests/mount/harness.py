"""Toy mounts for tests: started in a process of their own, and gone at the end whatever happens.

A process that waits for a mount cannot be killed, so the test process itself never touches one
that may hang: it lets children do that, and waits for them with a bound.
"""

from __future__ import annotations

import ast
import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from afsfuse.fuse import mount
from tests.mount.fusectl import number_of, open_fusectl

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parent.parent.parent
SECONDS = 30.0
"""For what should take a moment: these machines are shared."""


def wait_until(condition: Callable[[], object], what: str, seconds: float = SECONDS) -> None:
    """Poll until something is true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.02)


def state_of(pid: int) -> str:
    """The kernel's letter for a process: S, D, Z…; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def flags_of(directory: str) -> set[str]:
    """The options of a mount itself, such as nosuid; the last one of those on a directory."""
    with open("/proc/self/mountinfo", encoding="utf-8") as table:  # source: proc(5)
        fields = [line.split() for line in table]
    return set(next(line[5] for line in reversed(fields) if line[4] == directory).split(","))


def environment(*folders: Path) -> dict[str, str]:
    """For a Python that looks for modules in these folders first, then here."""
    path = os.pathsep.join(map(str, (*folders, ROOT)))
    return {**os.environ, "PYTHONPATH": path, "LC_ALL": "C.UTF-8"}


class Children:
    """Processes that use the mount; each ends with the test."""

    def __init__(self) -> None:
        self._running: list[subprocess.Popen[bytes]] = []

    def start(self, *command: str | Path, **more: Any) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(), **more
        )
        self._running.append(process)
        return process

    def run(self, *command: str | Path, **more: Any) -> subprocess.CompletedProcess[bytes]:
        """Run to the end, within a bound."""
        process = self.start(*command, **more)
        out, err = process.communicate(timeout=SECONDS)
        return subprocess.CompletedProcess(command, process.returncode, out, err)

    def run_with(
        self, typed: bytes, *command: str | Path, **more: Any
    ) -> subprocess.CompletedProcess[bytes]:
        """The same, with something to read."""
        process = self.start(*command, stdin=subprocess.PIPE, **more)
        out, err = process.communicate(typed, timeout=SECONDS)
        return subprocess.CompletedProcess(command, process.returncode, out, err)

    def python(self, code: str, *arguments: str | Path) -> subprocess.CompletedProcess[bytes]:
        return self.run(sys.executable, "-S", "-c", code, *arguments)

    def end(self) -> None:
        for process in self._running:
            if process.poll() is None:
                process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.communicate(timeout=SECONDS)


class ToyMount:
    """A toy daemon and its mount."""

    def __init__(
        self,
        directory: Path,
        *,
        limits: dict[str, Any] | None = None,
        options: dict[str, Any] | None = None,
        folders: tuple[Path, ...] = (),
    ) -> None:
        """`folders`: where the daemon looks for modules first."""
        self.path = directory
        words = (repr(limits or {}), repr(options or {}))
        self._log = directory.with_suffix(".log").open("wb")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.mount.toyd", directory, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=environment(*folders),
            cwd=ROOT,
        )
        self.device: str | None = None

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def started(self) -> ToyMount:
        """Wait for the mount."""
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"mounted\n", self.log()
        self.device = mount.device_of(str(self.path))
        return self

    def order(self, *words: Any) -> Any:
        """Have the daemon do something; returns its answer."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(repr(words).encode() + b"\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, f"the toy died:\n{self.log()}"
        return ast.literal_eval(line.decode())

    def state(self) -> dict[str, Any]:
        answer: dict[str, Any] = self.order("state")
        return answer

    def log(self) -> str:
        # By another descriptor: the toy writes where this one stands.
        return Path(self._log.name).read_text(errors="replace")

    def connection(self, name: str) -> int:
        """A number of the kernel's about the connection, such as `waiting`."""
        assert self.device is not None
        return number_of(self.device.partition(":")[2], name)

    def abort(self) -> None:
        """The last resort: the kernel answers whatever waits with an error."""
        if self.device is None:
            return
        minor = self.device.partition(":")[2]
        directory = open_fusectl(minor)
        try:
            with contextlib.suppress(OSError):
                descriptor = os.open(f"{minor}/abort", os.O_WRONLY, dir_fd=directory)
                os.write(descriptor, b"1")
                os.close(descriptor)
        finally:
            os.close(directory)

    @property
    def mounted(self) -> bool:
        return mount.find_mount(str(self.path)) is not None

    def end(self) -> None:
        """Leave nothing behind, be it stuck or not."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(SECONDS)
            except subprocess.TimeoutExpired:
                self.abort()
                self.process.kill()
                self.process.wait(SECONDS)
        clear(self.path)
        for pipe in (self.process.stdin, self.process.stdout, self._log):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


def clear(directory: Path) -> None:
    """Remove whatever is mounted there."""
    while mount.find_mount(str(directory)) is not None:
        subprocess.run(["fusermount3", "-uz", directory], check=False)


def interrupt_and_wait(process: subprocess.Popen[bytes], number: int = signal.SIGINT) -> float:
    """Send a signal; returns the seconds until the process has ended."""
    begin = time.monotonic()
    process.send_signal(number)
    process.wait(SECONDS)
    return time.monotonic() - begin
