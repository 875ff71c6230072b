"""A host of the cell: a set of Linux namespaces that commands are run in.

A server host is a network, mount and process namespace; a client host has a network and a mount
namespace only, so that a process in it has the process ids which the machine sees (FUSE tells a
daemon the pid of its caller) and may leave the mount namespace out, so that what it mounts is
visible to all (`mounts=False`).
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

COMMAND_SECONDS = 120.0
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class CommandFailed(Exception):
    """A command on a host ended with a failure; the text has its output."""

    def __init__(self, host: str, argv: Sequence[str], status: int, output: str) -> None:
        super().__init__(f"{host}: {' '.join(argv)}: status {status}\n{output}")
        self.status = status
        self.output = output


@dataclass(frozen=True)
class Host:
    """One host. `holder` is the process (machine's numbering) whose namespaces make the host."""

    name: str
    address: str
    holder: int
    server: bool
    environment: Mapping[str, str]
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def root(self) -> Path:
        """The host's root folder as it can be reached from outside."""
        return Path(f"/proc/{self.holder}/root")

    @property
    def enter(self) -> list[str]:
        """The command prefix which enters the network namespace only."""
        return ["nsenter", "-t", str(self.holder), "--net", "--"]

    def argv(self, command: Sequence[str], *, mounts: bool = True) -> list[str]:
        """The command as it is to be run from the machine's own namespaces."""
        kinds = ["--net"]
        if mounts:
            kinds += ["--mount", f"--wd={os.getcwd()}"]
        if self.server:
            kinds += ["--pid"]
        return ["nsenter", "-t", str(self.holder), *kinds, "--", *command]

    def run(
        self,
        command: Sequence[str],
        *,
        mounts: bool = True,
        check: bool = True,
        input: bytes | None = None,
        timeout: float = COMMAND_SECONDS,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end. Output is text, undecodable bytes as surrogates.

        Raises CommandFailed when `check` and the status is not 0, subprocess.TimeoutExpired."""
        done = self.run_bytes(
            command, mounts=mounts, check=check, input=input, timeout=timeout, env=env
        )
        return subprocess.CompletedProcess(
            done.args, done.returncode, os.fsdecode(done.stdout), os.fsdecode(done.stderr)
        )

    def run_bytes(
        self,
        command: Sequence[str],
        *,
        mounts: bool = True,
        check: bool = True,
        input: bytes | None = None,
        timeout: float = COMMAND_SECONDS,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[bytes]:
        """As `run`, with the output as bytes."""
        done = subprocess.run(
            self.argv(command, mounts=mounts),
            input=b"" if input is None else input,
            capture_output=True,
            timeout=timeout,
            env=self._env(env),
            check=False,
        )
        if check and done.returncode != 0:
            output = os.fsdecode(done.stdout[-4000:] + done.stderr[-4000:])
            raise CommandFailed(self.name, command, done.returncode, output)
        return done

    def feed(
        self, command: Sequence[str], data: Iterable[bytes], *, timeout: float = COMMAND_SECONDS
    ) -> None:
        """Run a command with what an iterable yields as its input, a piece at a time.

        Raises CommandFailed; subprocess.TimeoutExpired only counts from the end of the input."""
        with tempfile.TemporaryFile() as output:
            process = subprocess.Popen(
                self.argv(command),
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                env=self._env(None),
            )
            assert process.stdin is not None
            try:
                with contextlib.suppress(BrokenPipeError), process.stdin:
                    for piece in data:
                        process.stdin.write(piece)
                status = process.wait(timeout)
            except BaseException:
                process.kill()
                process.wait()
                raise
            if status != 0:
                output.seek(0)
                raise CommandFailed(self.name, command, status, os.fsdecode(output.read()[-4000:]))

    def popen(
        self,
        command: Sequence[str],
        *,
        mounts: bool = True,
        env: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> subprocess.Popen[bytes]:
        """Start a command. It is ended with the cell at the latest."""
        process = subprocess.Popen(self.argv(command, mounts=mounts), env=self._env(env), **kwargs)
        self.started.append(process)
        return process

    def pids(self, program: str) -> list[int]:
        """Process ids, in the machine's numbering, of this host's processes called `program`
        (the kernel's name of a process: 15 bytes at most)."""
        network = os.stat(f"/proc/{self.holder}/ns/net").st_ino
        found = []
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                with contextlib.suppress(OSError):
                    name = Path(f"/proc/{entry}/comm").read_bytes().rstrip(b"\n")
                    same = os.stat(f"/proc/{entry}/ns/net").st_ino == network
                    if same and name == program.encode()[:15]:
                        found.append(int(entry))
        return found

    def has_port(self, port: int) -> bool:
        """Whether somebody on this host has the UDP port."""
        lines = Path(f"/proc/{self.holder}/net/udp").read_text().splitlines()[1:]
        return any(int(line.split()[1].partition(":")[2], 16) == port for line in lines)

    def stop_started(self) -> None:
        """End what `popen` started here: SIGTERM, and SIGKILL after 5 s."""
        running = [process for process in self.started if process.poll() is None]
        for process in running:
            process.terminate()
        for process in running:
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.started.clear()

    def _env(self, extra: Mapping[str, str] | None) -> dict[str, str]:
        env = {**os.environ, **self.environment, **(extra or {})}
        env["PATH"] = f"{env.get('PATH', '')}:{_PATH}"
        return env
