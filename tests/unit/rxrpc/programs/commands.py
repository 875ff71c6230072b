"""The real command as a subprocess."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[4]
COMMAND = (sys.executable, "-W", "error", "-m", "rxrpc")
LIMIT = 60  # seconds after which a command counts as hung


@dataclass
class Done:
    """What a command did."""

    status: int
    output: bytes
    errors: str

    @property
    def complaint(self) -> str:
        """The one line on standard error."""
        (line,) = self.errors.splitlines()
        assert line.startswith("rxrpc: ")
        return line.removeprefix("rxrpc: ")


def rxrpc(*arguments: str, input: bytes = b"") -> Done:
    """Run a command to its end."""
    done = subprocess.run(
        [*COMMAND, *arguments], input=input, capture_output=True, timeout=LIMIT, cwd=ROOT,
        check=False,
    )  # fmt: skip
    return Done(done.returncode, done.stdout, done.stderr.decode())


@dataclass
class Listening:
    """A `listen` that runs, and what it said at its end."""

    address: str
    process: subprocess.Popen[bytes]
    errors: str = field(default="")

    def call(self, *arguments: str, service: int = 147, input: bytes = b"") -> Done:
        """Call it."""
        return rxrpc("call", self.address, str(service), *arguments, input=input)


@contextmanager
def listening(*options: str, stop: signal.Signals = signal.SIGTERM) -> Iterator[Listening]:
    """A server on a free port of this machine, until the signal."""
    process = subprocess.Popen(
        [*COMMAND, "listen", "--port", "0", *options],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT,
    )  # fmt: skip
    assert process.stdout is not None
    with process:
        try:
            line = process.stdout.readline().decode()
            found = re.fullmatch(r"listening on (\S+), service \d+\n", line)
            assert found is not None, line
            server = Listening(found[1], process)
            yield server
        finally:
            process.send_signal(stop)
            _output, errors = process.communicate(timeout=LIMIT)
        server.errors = errors.decode()
        assert process.returncode == 0, server.errors
