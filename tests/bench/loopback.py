"""The library alone, on this machine: `python -m rxrpc measure` against `listen`.

No cell, no kernel file system, no disk: what changes here has changed in `rxrpc`. Rates depend on
the machine and its other users; the processor's time for a packet does so much less.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rxrpc.security.krbcrypto import AES256_SHA1
from tests.tools.keytab import AFS, build_keytab

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent.parent
COMMAND = (sys.executable, "-m", "rxrpc")
CASES = (("echo", 1), ("echo", 16), ("send", 4), ("receive", 4))
"""Directions as our client sees them, and how many calls go at a time."""
ENCRYPTED_CASES = (("echo", 16), ("send", 4), ("receive", 4))


@dataclass(frozen=True)
class Figures:
    """One case."""

    title: str
    unit: str
    least: float
    median: float
    most: float
    client_us: float  # processor time for a packet, at each end
    server_us: float
    resent: int

    def as_row(self) -> str:
        """A row of a Markdown table."""
        rates = " | ".join(f"{rate:,.0f}" for rate in (self.least, self.median, self.most))
        return (
            f"| {self.title} | {self.unit} | {rates} | {self.client_us:.1f} us"
            f" | {self.server_us:.1f} us | {self.resent} |"
        )


def as_table(figures: list[Figures]) -> str:
    """A Markdown table."""
    head = "| loopback | unit | min | median | max | client/packet | server/packet | resent |"
    return "\n".join(
        [head, "|---|---|---:|---:|---:|---:|---:|---:|", *(f.as_row() for f in figures)]
    )


def measure(*, rounds: int = 3, seconds: float = 0.4) -> list[Figures]:
    """All cases; takes a bit longer than the seconds of all rounds."""
    with _server() as (pid, address):
        figures = [_case(pid, address, *case, rounds, seconds) for case in CASES]
    with tempfile.NamedTemporaryFile() as keytab:
        keytab.write(build_keytab([(AFS, 1, AES256_SHA1, bytes(range(32)))]))
        keytab.flush()
        options = ("--keytab", keytab.name)
        with _server(*options) as (pid, address):
            for case in ENCRYPTED_CASES:
                figures.append(_case(pid, address, *case, rounds, seconds, *options))
    return figures


@contextmanager
def _server(*options: str) -> Iterator[tuple[int, str]]:
    """A `listen`: its process and its address."""
    argv = [*COMMAND, "listen", "--port", "0", *options]
    with subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT
    ) as process:
        try:
            assert process.stdout is not None
            _listening, _on, address, *_rest = process.stdout.readline().split()
            yield process.pid, address.rstrip(",")
        finally:
            process.terminate()


def _case(
    pid: int,
    address: str,
    direction: str,
    concurrency: int,
    rounds: int,
    seconds: float,
    *options: str,
) -> Figures:
    argv = [
        *COMMAND, "measure", address, "--json", "--only", direction,
        "--concurrency", str(concurrency), "--rounds", str(rounds), "--seconds", str(seconds),
        *options,
    ]  # fmt: skip
    before = _processor_seconds(pid)
    done = subprocess.run(argv, capture_output=True, check=True, cwd=ROOT)
    server = _processor_seconds(pid) - before
    result: dict[str, Any]
    (result,) = json.loads(done.stdout)
    what = {"echo": "echo of 100 bytes", "send": "send 1 MiB", "receive": "receive 1 MiB"}
    how = ", encrypted" if options else ""
    return Figures(
        f"{what[direction]}, {concurrency} at a time{how}", result["unit"],
        result["min"], result["median"], result["max"],
        result["cpu_us_per_packet"], 1e6 * server / result["packets"], result["resent"],
    )  # fmt: skip


def _processor_seconds(pid: int) -> float:
    """What a process has used so far. Source of the places: proc_pid_stat(5)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
