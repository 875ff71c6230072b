"""Faults on order: loss, partitions, servers that end."""

from __future__ import annotations

import errno
import re
import sys
import time
from typing import TYPE_CHECKING

import pytest

from tests.realcell import configuration, dump
from tests.realcell.afsio import Afsio
from tests.realcell.contents import Bytes, Directory, File
from tests.realcell.hosts import CommandFailed
from tests.realcell.network import Direction
from tests.realcell.udp import exchange

if TYPE_CHECKING:
    from tests.realcell.cell import RealCell

pytestmark = pytest.mark.realcell

PACKETS = 4000
SALVAGED_SECONDS = 60.0


def test_5_percent_loss_each_way(own_cell: RealCell) -> None:
    client, server = own_cell.clients["client1"], own_cell.clients["client2"]
    with own_cell.loss("client1", 5):
        out = exchange(client, server, PACKETS)
        back = exchange(server, client, PACKETS)
    for received in (out, back):
        lost = PACKETS - len(received)
        assert 0.03 * PACKETS < lost < 0.07 * PACKETS  # eight standard deviations
    assert len(exchange(client, server, PACKETS)) == PACKETS


def test_loss_in_one_direction(own_cell: RealCell) -> None:
    client, server = own_cell.clients["client1"], own_cell.clients["client2"]
    with own_cell.loss("client1", 50, Direction.IN):
        assert len(exchange(client, server, 500)) == 500
        assert len(exchange(server, client, 500)) < 400


def test_a_percentage_is_checked(own_cell: RealCell) -> None:
    with pytest.raises(ValueError, match="percentage"), own_cell.loss("client1", 101):
        pass


@pytest.mark.parametrize("direction", list(Direction))
def test_a_partition_heals(own_cell: RealCell, direction: Direction) -> None:
    client, other = own_cell.clients["client1"], own_cell.clients["client2"]
    with own_cell.partition("client1", direction):
        assert bool(exchange(client, other, 10)) == (Direction.OUT not in direction)
        assert bool(exchange(other, client, 10)) == (Direction.IN not in direction)
    assert exchange(client, other, 10) == list(range(10))
    assert exchange(other, client, 10) == list(range(10))


ASK = """
import socket, sys
asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
asking.settimeout(5)
asking.setsockopt(socket.IPPROTO_IP, 11, 1)  # IP_RECVERR: unreachable hosts are told of as well
asking.connect((sys.argv[1], 7003))
try:
    for _ in range(3):
        asking.send(b"is there anybody")
        asking.recv(100)
except OSError as exc:
    print(type(exc).__name__, exc.errno)
"""


@pytest.mark.parametrize(
    ("cell", "outcome"),
    [
        (configuration.DEAD_CELL, "TimeoutError None"),
        (configuration.CLOSED_CELL, f"ConnectionRefusedError {errno.ECONNREFUSED}"),
        (configuration.GONE_CELL, f"OSError {errno.EHOSTUNREACH}"),
    ],
)
def test_the_broken_cells_are_broken(own_cell: RealCell, cell: str, outcome: str) -> None:
    database = (own_cell.confdir / "CellServDB").read_text()
    found = re.search(rf"^>{re.escape(cell)}\s.*\n(\S+)", database, re.MULTILINE)
    assert found
    client = own_cell.clients["client1"]
    assert client.run([sys.executable, "-c", ASK, found[1]]).stdout.strip() == outcome


def test_a_file_server_comes_back(own_cell: RealCell) -> None:
    tree = Directory({b"file": File(Bytes(b"still here\n"))})
    own_cell.volumes.restore("root.afs", dump.write(tree, name="root.afs"))
    afsio = Afsio(own_cell.clients["client1"])
    assert afsio.read("/afs/file") == b"still here\n"

    before = own_cell.fs1.pids("dafileserver")
    own_cell.restart_file_server("fs1")
    after = own_cell.fs1.pids("dafileserver")
    assert before
    assert after
    assert not set(before) & set(after)
    assert afsio.read("/afs/file") == b"still here\n"

    assert own_cell.kill_file_server("fs1") == after
    own_cell.wait_for_file_server("fs1")
    assert not set(after) & set(own_cell.fs1.pids("dafileserver"))
    assert read_when_salvaged(afsio, "/afs/file") == b"still here\n"


def read_when_salvaged(afsio: Afsio, path: str) -> bytes:
    """A file of a volume which was in use when its server was killed."""
    deadline = time.monotonic() + SALVAGED_SECONDS
    while True:
        try:
            return afsio.read(path)
        except CommandFailed:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def test_the_kdc_gives_tickets(own_cell: RealCell) -> None:
    client = own_cell.clients["client1"]
    env = {"KRB5CCNAME": f"FILE:{own_cell.folder}/ticket"}
    client.run(["kinit", "alice"], input=configuration.USERS["alice"].encode() + b"\n", env=env)
    client.run(["kvno", f"afs/{configuration.CELL}@{configuration.REALM}"], env=env)
    listed = client.run(["klist"], env=env).stdout
    assert re.search(r"afs/test\.afs@TEST\.AFS", listed)
