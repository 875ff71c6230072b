"""A file server with two addresses: when one of them is dead, calls go to the other one.

It gets the second one while it is used. The location server tells of it by another number beside
the server's UUID (the uniquifier), and addresses are asked for again.
"""

from __future__ import annotations

import contextlib
import io
import re
import time
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from afsfuse import cli
from tests.interop.mounts import RealMount, eventually, mounted
from tests.realcell.afsio import Afsio

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.realcell.cell import RealCell

pytestmark = [pytest.mark.realcell, pytest.mark.mount]

BOUND = 60.0
FOLDER = "scratch2"


@pytest.mark.parametrize(
    ("known", "turns"), [(True, 1), pytest.param(False, 3, marks=pytest.mark.soak)]
)
def test_one_of_two_addresses_is_dead(
    real_cell: RealCell, tmp_path: Path, known: bool, turns: int
) -> None:
    """`known`: the second address was found by looking, and not when it was needed. Then the server
    knows us there, and need not look for us first, for up to 15 s.
    """
    options = "retry=6" if known else "hard"
    first, second = real_cell.servers["fs2"].address, other_network(real_cell, 12)
    network = real_cell.network
    with mounted(real_cell, "client1", tmp_path / "afs", options=options) as mount:
        read(mount, 0)
        assert addresses(first) == {first: True}
        with second_address(real_cell, second):
            if known:
                cli_does("fs", "checkvolumes")
                look_at_both(first, second)
            try:
                for turn in range(1, turns + 1):
                    dead, used = (first, second) if turn % 2 else (second, first)
                    network.sever("client1", dead)
                    began = time.monotonic()
                    read(mount, 7 * turn)
                    print(f"at {used} after {time.monotonic() - began:.1f} s")
                    assert addresses(first)[used], "it goes on at the other address"
                    changes_are_seen(real_cell, mount, 7 * turn)
            finally:
                network.heal("client1")
            cli_does("serverprefs", "--set", first, "1")
            assert eventually(lambda: addresses(first)[first], BOUND), "the better rank is used"
        read(mount, 28)  # the second address is no more


def read(mount: RealMount, number: int) -> None:
    """A file that nobody has read before. Its neighbours may be read ahead."""
    assert (mount.writable / FOLDER / f"slot{number:02d}").read_bytes()


def changes_are_seen(cell: RealCell, mount: RealMount, number: int) -> None:
    """The server may look for us at other addresses first."""
    name, text = f"{FOLDER}/slot{number:02d}", b"changed to %s\n" % uuid.uuid4().hex.encode()
    began = time.monotonic()
    Afsio(cell.clients["client2"]).overwrite(f"/afs/.test.afs/{name}", text)
    path = mount.writable / name
    assert eventually(lambda: path.read_bytes() == text, BOUND)
    print(f"another client's change is seen after {time.monotonic() - began:.1f} s")


def cli_does(*words: str) -> str:
    """What a command of ours prints."""
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert cli.main([*words]) == 0
    return out.getvalue()


def shown(first: str) -> dict[str, str]:
    """The addresses of the server which has this one, each with what is said of it."""
    host = first.rpartition(".")[2]
    found = re.findall(r"^test\.afs +(\S+) +\d+ +(.*)$", cli_does("serverprefs"), re.MULTILINE)
    return {address: rest for address, rest in found if address.endswith(f".{host}")}


def addresses(first: str) -> dict[str, bool]:
    """The same, with whether calls go there."""
    return {address: "in use" in rest for address, rest in shown(first).items()}


def measured(first: str) -> set[str]:
    """Those that answered when last asked."""
    return {address for address, rest in shown(first).items() if " ms" in rest}


def look_at_both(first: str, second: str) -> None:
    """Have the addresses of the server measured until both have answered."""
    deadline = time.monotonic() + BOUND
    while measured(first) != {first, second}:
        assert time.monotonic() < deadline, shown(first)
        cli_does("serverprefs", "--set", second, "40001")  # who sets a rank wants it to count
        time.sleep(2.0)


def other_network(cell: RealCell, number: int) -> str:
    """An address of this host number in the network of the second cables."""
    return f"10.177.{cell.network.number}.{number}"


@contextmanager
def second_address(cell: RealCell, address: str) -> Iterator[None]:
    """Fs2 has a second address in another network, where client1 is, too."""
    host, network = cell.servers["fs2"], cell.network
    net_info = host.root / "var/lib/openafs/local/NetInfo"
    here = other_network(cell, 21)
    network.connect_second("fs2", address)
    network.add_address("client1", here)
    try:
        net_info.write_text(f"{host.address}\n{address}\n")
        cell.restart_file_server("fs2")
        yield
    finally:
        network.remove_address("client1", here)
        network.disconnect_second("fs2")
        net_info.write_text(f"{host.address}\n")
        cell.restart_file_server("fs2")
