"""A NAT on the way to the servers: it forgets us, or hides us behind another port or address.

Servers call back where they saw us last. What they send there is lost from then on, and nobody is
told. A packet of ours opens the way again where the NAT has only forgotten us; where it made us
somebody else, servers find that out when we next ask them something over a new connection.
"""

from __future__ import annotations

import os
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.interop.mounts import RealMount, eventually, mounted
from tests.realcell.afsio import Afsio
from tests.tools import hasty
from tests.tools.nat import Nat

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.realcell.cell import RealCell

pytestmark = [pytest.mark.realcell, pytest.mark.mount]

NAME = "scratch/slot21"
ANSWER = 30.0
"""Seconds after which a file server has answered a probe from a port that is new to it: it looks
for us at the old one first."""
SHORT, LONG = 4.0, 300.0
"""Seconds within which a probe is due, with the haste of a test, and without."""

CHANGES: dict[str, Callable[[Nat], None]] = {
    "port": lambda nat: nat.map("20000-20099"),
    "address": Nat.move,
}


@contextmanager
def behind(nat: Nat, cell: RealCell, point: Path, **times: float) -> Iterator[RealMount]:
    """A mount behind the NAT, with a file of which the server has promised us to tell. `times` are
    those of `tests.tools.hasty`, for who cannot wait.
    """
    with nat, mounted(cell, "client1", point, program=hasty.program(**times)) as mount:
        change(cell, mount, 1.0)
        yield mount


def change(cell: RealCell, mount: RealMount, seconds: float) -> float:
    """Another client changes the file, and the mount is to show that in time, without being asked
    anything else. -> seconds that it took
    """
    path, text = mount.writable / NAME, b"changed to %s\n" % uuid.uuid4().hex.encode()
    path.read_bytes()
    afsio = Afsio(cell.clients["client2"])
    began = time.monotonic()
    with ThreadPoolExecutor(1) as other:  # it waits while the server calls us in vain
        changed = other.submit(afsio.overwrite, f"/afs/.test.afs/{NAME}", text)
        assert eventually(lambda: path.read_bytes() == text, seconds), mount.log.read_text()
        took = time.monotonic() - began
        changed.result()
    return took


def test_a_nat_that_forgets_us_is_reminded(real_cell: RealCell, tmp_path: Path) -> None:
    """By the packet that goes to each server now and then. Nothing else is sent meanwhile."""
    nat = Nat(real_cell, "client1")
    with behind(nat, real_cell, tmp_path / "afs", PROBES=LONG, KEEPALIVE=3.0) as mount:
        time.sleep(3.0)  # until the server, which is new to us, has been looked at
        nat.forget()
        print(f"seen after {change(real_cell, mount, 20.0):.1f} s")
        change(real_cell, mount, 1.0)


def test_a_nat_that_gives_us_another_port(real_cell: RealCell, tmp_path: Path) -> None:
    nat = Nat(real_cell, "client1")
    with behind(nat, real_cell, tmp_path / "afs", PROBES=SHORT) as mount:
        change_places(real_cell, nat, mount, CHANGES["port"], SHORT + ANSWER)


@pytest.mark.soak
@pytest.mark.parametrize("kind", CHANGES)
def test_a_nat_changes_in_real_time(real_cell: RealCell, tmp_path: Path, kind: str) -> None:
    """Idle for longer than the NAT remembers, then callbacks again within 5 minutes."""
    nat = Nat(real_cell, "client1", seconds=30)
    with behind(nat, real_cell, tmp_path / "afs") as mount:
        time.sleep(100.0)
        change(real_cell, mount, 1.0)  # the way is still open
        change_places(real_cell, nat, mount, CHANGES[kind], LONG - ANSWER)


def change_places(
    cell: RealCell, nat: Nat, mount: RealMount, how: Callable[[Nat], None], probe: float
) -> None:
    """The servers see us elsewhere. That they find us again is up to the probe that is due."""
    how(nat)
    nat.forget()
    print(f"seen after {change(cell, mount, probe + ANSWER):.1f} s")
    change(cell, mount, 1.0)


@pytest.mark.soak
def test_a_nat_changes_under_a_program_that_works(real_cell: RealCell, tmp_path: Path) -> None:
    """Its calls are lost with the connection that they are made on, and made again on others."""
    nat = Nat(real_cell, "client1")
    with behind(nat, real_cell, tmp_path / "afs") as mount:
        os.listdir(mount.writable / "scratch")
        CHANGES["port"](nat)
        nat.forget()
        began = time.monotonic()
        assert (mount.writable / "scratch/slot22").read_bytes()
        print(f"read after {time.monotonic() - began:.1f} s")
        change(real_cell, mount, 1.0)
