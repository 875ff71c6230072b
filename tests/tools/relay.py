"""A long or bad line between a client host and the rest of the cell.

The kernel here has no netem, so the client's cable is replaced by two TAP devices, one in its
network namespace and one on the cell's bridge, and a small program (`relay.c`, compiled at its
first use) that carries frames between them, each of them late. Client and servers keep their
addresses and see nothing of it.

It is in C because it is in every packet's way on a machine whose two cores the client and the
server need as well. Measured, kernel included: 5 to 6 µs of processor time a packet; 214 MiB/s of
TCP without delay, 108 to 147 MiB/s with 12.5 ms.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.realcell.network import run

if TYPE_CHECKING:
    from tests.realcell.cell import RealCell

_SOURCE = Path(__file__).with_suffix(".c")
_STOP_SECONDS = 5.0
_QUEUE_FRAMES = 20_000  # a burst of the kernel waits here until the relay has its turn
_NS_IN_MS = 1_000_000


@dataclass(frozen=True)
class Line:
    """What a line does to packets, in each direction. Shares are 0 to 1, of UDP packets."""

    round_trip_ms: float = 12.5
    """Both ways together; half of it is added to each packet."""

    jitter_ms: float = 0.0
    """Up to this much more for each packet, evenly spread: packets overtake each other."""

    loss: float = 0.0
    duplicate: float = 0.0

    reorder: float = 0.0
    """The share of packets that is held back by up to `hold_ms` more."""

    hold_ms: float = 5.0
    seed: int = 1

    rate_kbit: float = 0.0
    """Thousands of bits a second, Ethernet's headers with them; 0: as fast as it goes."""

    queue_ms: float = 500.0
    """How long a packet may wait for those before it where there is a rate; more are dropped."""


@dataclass(frozen=True)
class Carried:
    """What went over a line, in frames, both directions together."""

    carried: int
    lost: int
    doubled: int
    held: int
    overflowed: int
    """Dropped by a full queue."""


class Relay:
    """Puts a host behind a line while the context lasts; `with Relay(cell, "client1", Line())`.

    The host's former cable is down for that time, so `cell.loss` has no effect on it: a line has
    its own loss. Raises RuntimeError when the program cannot be built or started."""

    def __init__(self, cell: RealCell, host: str, line: Line) -> None:
        self._host = cell.clients[host]
        self._lan = cell.network.lan
        self._folder = cell.folder
        self._line = line
        self._process: subprocess.Popen[bytes] | None = None
        self.carried: Carried | None = None
        """What the line carried, once it has been stopped."""

    def __enter__(self) -> Relay:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The process, to have its processor time taken into account."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Replace the cable."""
        name, holder = self._host.name, self._host.holder
        far, near = "far0", f"r-{name}"
        command = [str(build(self._folder)), f"/proc/{holder}/ns/net", far]
        command += [f"/proc/{self._lan}/ns/net", near, *_arguments(self._line)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        if self._process.stdout.readline() != b"ready\n":
            self._process.wait()
            raise RuntimeError(f"the relay of {name} did not start")
        try:
            self._lay(far, near)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> Carried:
        """Put the old cable back. -> what the line carried"""
        assert self._process is not None
        self._process.terminate()
        try:
            output, _ = self._process.communicate(timeout=_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            output, _ = self._process.communicate()
        self._in(self._host.holder, "link set eth0 up\n")
        self.carried = Carried(**json.loads(output))
        return self.carried

    def _lay(self, far: str, near: str) -> None:
        """Bring the new cable up with the old one's hardware address, so that no host has to
        learn anything, and take the old one down."""
        holder = self._host.holder
        link = json.loads(self._ip(holder, ["-json", "link", "show", "eth0"]))
        hardware = link[0]["address"]
        self._in(self._lan, f"link set {near} txqueuelen {_QUEUE_FRAMES} master br0 up\n")
        self._in(
            holder,
            "link set eth0 down\n"
            f"link set {far} address {hardware} txqueuelen {_QUEUE_FRAMES}\n"
            f"address add {self._host.address}/24 dev {far}\n"
            f"link set {far} up\n",
        )

    def _ip(self, holder: int, arguments: list[str], batch: str = "") -> str:
        return run(["nsenter", "-t", str(holder), "--net", "ip", *arguments], batch)

    def _in(self, holder: int, batch: str) -> None:
        self._ip(holder, ["-batch", "-"], batch)


def _arguments(line: Line) -> list[str]:
    times = (line.round_trip_ms / 2, line.jitter_ms, line.hold_ms)
    slow = (line.rate_kbit * 1000, line.queue_ms * _NS_IN_MS)
    shares = (line.loss, line.duplicate, line.reorder)
    if any(number < 0 for number in times + slow) or any(not 0 <= share <= 1 for share in shares):
        raise ValueError(f"no line can do this: {line}")
    return [
        *(str(round(time * _NS_IN_MS)) for time in times),
        *(str(share) for share in shares),
        str(line.seed),
        *(str(round(number)) for number in slow),
    ]


def build(folder: Path) -> Path:
    """Compile the program into `folder`, unless it is there. -> its path"""
    digest = hashlib.sha256(_SOURCE.read_bytes()).hexdigest()[:12]
    program = folder / f"relay-{digest}"
    if not program.exists():
        made = folder / f"relay-{digest}.{os.getpid()}"
        run(["gcc", "-O2", "-Wall", "-Wextra", "-o", str(made), str(_SOURCE)])
        made.rename(program)
    return program
