"""The faults of the matrix, one value each: how it is made, and what a load may see of it.

A fault is over when servers can serve again; what is left to be put right is done after that was
judged. See `stage` for what is where.
"""

from __future__ import annotations

import errno
import os
import random
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tests.interop.mounts import eventually
from tests.realcell.hosts import CommandFailed
from tests.tools.relay import Line, Relay

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from tests.realcell.cell import RealCell

BACK_SECONDS = 90.0
SPARE_ADDRESS = "198"
ROOM = 8 << 20
"""Bytes that are free in a partition that gets full: half the big file."""

_CHANGES = ("creating",)
_UNKNOWN = frozenset({errno.ETIMEDOUT})
_FULL = frozenset({errno.ENOSPC})


@dataclass(frozen=True)
class Scene:
    """Where a fault happens."""

    cell: RealCell
    volume: str
    seconds: float
    """How long it is to last."""


@dataclass(frozen=True)
class Fault:
    """One row of the matrix."""

    name: str
    title: str
    happens: Callable[[Scene], AbstractContextManager[None]]
    """Makes it and waits until it is over; puts right at the end what is left of it."""
    full: bool = False
    """Whether writes fail meanwhile, since they cannot be stored anywhere."""
    short: bool = True
    """Whether `make test` has it; the rest is met by tests of its own there."""
    seconds: float = 30.0
    """How long it lasts in the full form; 0: it has a length of its own."""

    def allowed(self, load: str) -> frozenset[int]:
        """The errors that a load may see on a mount with `hard`.

        What became of a change over which a server fell silent is found out, but where others were
        at both of its names nobody can tell.
        """
        if self.full and load in ("writing", "creating"):
            return _FULL | _UNKNOWN
        return _UNKNOWN if load in _CHANGES else frozenset()


@contextmanager
def restarted(scene: Scene) -> Iterator[None]:
    scene.cell.restart_file_server("fs2")
    yield


@contextmanager
def killed(scene: Scene) -> Iterator[None]:
    scene.cell.kill_file_server("fs2")
    scene.cell.wait_for_file_server("fs2")
    yield


@contextmanager
def cut(scene: Scene) -> Iterator[None]:
    with scene.cell.partition("client1"):
        time.sleep(scene.seconds)
    yield


@contextmanager
def gone(scene: Scene) -> Iterator[None]:
    with scene.cell.partition("fs2"):
        time.sleep(scene.seconds)
    yield


@contextmanager
def readdressed(scene: Scene) -> Iterator[None]:
    """It is the same server by its UUID, which it keeps in a file."""
    before = scene.cell.servers["fs2"].address
    after = f"{before.rpartition('.')[0]}.{SPARE_ADDRESS}"
    _move_address(scene.cell, before, after)
    try:
        yield
    finally:
        _move_address(scene.cell, after, before)


def _move_address(cell: RealCell, before: str, after: str) -> None:
    """Fs2 is at another address, and has told the location server."""
    host = cell.servers["fs2"]
    (host.root / "var/lib/openafs/local/NetInfo").write_text(f"{after}\n")
    (host.root / "var/lib/openafs/local/NetRestrict").write_text(f"{before}\n")
    bits = "24"
    host.run(["bos", "shutdown", "-server", "127.0.0.1", "-localauth", "-wait"])
    host.run(["ip", "address", "add", f"{after}/{bits}", "dev", "eth0"])
    host.run(["ip", "address", "del", f"{before}/{bits}", "dev", "eth0"])
    host.run(["ip", "address", "replace", f"{after}/{bits}", "dev", "eth0"])
    host.run(["bos", "startup", "-server", "127.0.0.1", "-localauth"])
    _until(cell, ["rxdebug", after, "7000", "-version"])
    _until(cell, ["vos", "partinfo", after, "-localauth"])


@contextmanager
def moved(scene: Scene) -> Iterator[None]:
    fs1, fs2 = (scene.cell.servers[name].address for name in ("fs1", "fs2"))
    scene.cell.vos(["move", scene.volume, fs2, "a", fs1, "a"])
    yield


@contextmanager
def offline(scene: Scene) -> Iterator[None]:
    where = ["-server", scene.cell.servers["fs2"].address, "-partition", "a"]
    number = str(scene.cell.volumes.volume_id(scene.volume))
    scene.cell.vos(["offline", *where, "-id", number])
    try:
        time.sleep(scene.seconds)
    finally:
        scene.cell.vos(["online", *where, "-id", number])
    yield


@contextmanager
def busy(scene: Scene) -> Iterator[None]:
    """As while a long `vos dump` or `vos clone` has it."""
    where = ["-server", scene.cell.servers["fs2"].address, "-partition", "a"]
    number = str(scene.cell.volumes.volume_id(scene.volume))
    seconds = str(max(1, round(scene.seconds)))
    scene.cell.vos(["offline", *where, "-id", number, "-busy", "-sleep", seconds])
    yield


@contextmanager
def salvaged(scene: Scene) -> Iterator[None]:
    scene.cell.volumes.salvage(scene.volume, "fs2")
    yield


@contextmanager
def unlocated(scene: Scene) -> Iterator[None]:
    """Both location and protection server are away."""
    cell = scene.cell
    for program in ("vlserver", "ptserver"):
        cell.bos("fs1", ["shutdown", "-instance", program, "-wait"])
    try:
        time.sleep(scene.seconds)
    finally:
        for program in ("vlserver", "ptserver"):
            cell.bos("fs1", ["startup", "-instance", program])
        _until(cell, ["vos", "listvldb", "-localauth"])
    yield
    # It takes longer until the database can be written to.
    _until(cell, ["vos", "lock", "-id", scene.volume, "-localauth"])
    cell.vos(["unlock", "-id", scene.volume])


@contextmanager
def full(scene: Scene) -> Iterator[None]:
    """The partition is small when its server starts and counts what is free. It has in truth some
    more room then: a server that runs out of what it counts refuses, as it should, but one whose
    directories cannot grow damages them (OpenAFS 1.8.9).
    """
    cell = scene.cell
    space = os.statvfs(cell.servers["fs2"].root / "vicepa")
    used = (space.f_blocks - space.f_bfree) * space.f_frsize
    _resize(cell, str(used + ROOM))
    try:
        cell.restart_file_server("fs2")
        _resize(cell, str(used + 2 * ROOM))
        time.sleep(scene.seconds)
    finally:
        _resize(cell, "75%")
        cell.restart_file_server("fs2")
    yield


def _resize(cell: RealCell, size: str) -> None:
    """Give the file system below fs2's partition another size."""
    option = f"remount,size={size}"
    cell.servers["fs2"].run(["mount", "-t", "tmpfs", "-o", option, "realcell", "/"])


def _lossy(share: float) -> Callable[[Scene], AbstractContextManager[None]]:
    """Both ways, with a tenth that overtakes and a twentieth that comes twice."""
    line = Line(
        round_trip_ms=2, jitter_ms=1, loss=share, duplicate=0.05, reorder=0.1, hold_ms=10, seed=7
    )

    @contextmanager
    def lossy(scene: Scene) -> Iterator[None]:
        with Relay(scene.cell, "client1", line):
            time.sleep(scene.seconds)
        yield

    return lossy


@contextmanager
def mixed(scene: Scene) -> Iterator[None]:
    """One fault after the other, at random, each put right before the next, with short pauses."""
    seed = random.randrange(1 << 32)
    print(f"mixed faults of seed {seed}")
    chance = random.Random(seed)
    end = time.monotonic() + scene.seconds
    known = {fault.name: fault for fault in FAULTS}
    played: Counter[str] = Counter()
    while time.monotonic() < end:
        name = chance.choice(_MIXED)
        played[name] += 1
        with known[name].happens(replace(scene, seconds=chance.uniform(1.0, 8.0))):
            pass
        time.sleep(chance.uniform(0.5, 5.0))
    print(", ".join(f"{count} of {name}" for name, count in sorted(played.items())))
    yield


_MIXED = (
    *("restart", "kill", "gone", "cut", "address", "offline", "busy", "salvage", "locations"),
    *("loss1", "loss5", "loss20"),
)
"""Those that can be made again and again: a volume cannot move back, and a full partition fails
writes, as it should.
"""


def _until(cell: RealCell, command: list[str]) -> None:
    """Wait until a command on fs1 does not fail."""

    def done() -> bool:
        try:
            cell.fs1.run(command)
        except CommandFailed:
            return False
        return True

    assert eventually(done, BACK_SECONDS), f"{os.fspath(command[0])} still fails"


FAULTS = (
    Fault("restart", "a file server is restarted in order", restarted, short=False, seconds=0.0),
    Fault("kill", "a file server is killed, and started anew", killed, seconds=0.0),
    Fault("gone", "a file server's network is cut, and healed", gone, short=False),
    Fault("cut", "the client's network is cut, and healed", cut, seconds=600.0),
    Fault("address", "a file server comes back at another address", readdressed, seconds=0.0),
    Fault("move", "`vos move` to another server", moved, short=False, seconds=0.0),
    Fault("offline", "`vos offline`, `vos online`", offline),
    Fault("busy", "a volume is busy (`vos offline -busy`)", busy, short=False),
    Fault("salvage", "a volume is salvaged", salvaged, seconds=0.0),
    Fault("locations", "the database servers are down, and come back", unlocated),
    Fault("full", "a partition is full, and has room again", full, full=True),
    *(
        Fault(
            f"loss{percent}",
            f"{percent} % of packets lost each way, others doubled and overtaken",
            _lossy(percent / 100),
            short=percent == 5,
            seconds=200.0,
        )
        for percent in (1, 5, 20)
    ),
    Fault("mixed", "faults at random, one after the other", mixed, short=False, seconds=600.0),
)
