"""The long line, measured with numbered packets."""

from __future__ import annotations

import itertools
import sys
import time
from typing import TYPE_CHECKING

import pytest

from tests.realcell.udp import exchange
from tests.tools.relay import Line, Relay

if TYPE_CHECKING:
    from tests.realcell.cell import RealCell

pytestmark = pytest.mark.realcell

PACKETS = 2000


def through(cell: RealCell, line: Line) -> list[int]:
    """What arrives of PACKETS numbered packets that client1 sends."""
    with Relay(cell, "client1", line):
        return exchange(cell.clients["client1"], cell.clients["client2"], PACKETS)


def test_a_long_line_is_late_and_loses_nothing(own_cell: RealCell) -> None:
    client = own_cell.clients["client1"]
    with Relay(own_cell, "client1", Line(round_trip_ms=200)):
        started = time.monotonic()
        client.run(["rxdebug", own_cell.fs1.address, "7000", "-version"])
        assert time.monotonic() - started >= 0.2
    assert through(own_cell, Line()) == list(range(PACKETS))


def test_addresses_are_the_same_on_the_line(own_cell: RealCell) -> None:
    client = own_cell.clients["client1"]
    with Relay(own_cell, "client1", Line(round_trip_ms=1)):
        assert client.address in client.run(["ip", "-4", "address", "show", "far0"]).stdout
    assert "far0" not in client.run(["ip", "link"]).stdout
    assert exchange(client, own_cell.clients["client2"], 10) == list(range(10))


def test_loss(own_cell: RealCell) -> None:
    arrived = through(own_cell, Line(round_trip_ms=2, loss=0.2))
    assert 0.15 * PACKETS < PACKETS - len(arrived) < 0.25 * PACKETS


def test_duplicates(own_cell: RealCell) -> None:
    arrived = through(own_cell, Line(round_trip_ms=2, duplicate=1.0))
    assert sorted(arrived) == sorted([*range(PACKETS), *range(PACKETS)])


def test_reordering(own_cell: RealCell) -> None:
    arrived = through(own_cell, Line(round_trip_ms=2, reorder=0.05, hold_ms=20))
    assert sorted(arrived) == list(range(PACKETS))
    overtaken = sum(later < earlier for earlier, later in itertools.pairwise(arrived))
    assert 0 < overtaken < 0.2 * PACKETS


def test_jitter(own_cell: RealCell) -> None:
    arrived = through(own_cell, Line(round_trip_ms=2, jitter_ms=30))
    assert sorted(arrived) == list(range(PACKETS))
    assert arrived != sorted(arrived)


def test_what_was_carried_is_counted(own_cell: RealCell) -> None:
    relay = Relay(own_cell, "client1", Line(round_trip_ms=2, loss=1.0))
    relay.start()
    try:
        assert exchange_nothing(own_cell) == 0
    finally:
        carried = relay.stop()
    assert carried.lost >= 50
    assert carried.overflowed == 0


SEND_TO_NOBODY = """
import socket, sys, time
address = sys.argv[1]
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
deadline = time.monotonic() + 30
known = False
while not known and time.monotonic() < deadline:  # until ARP has found the way
    sender.sendto(b"x", (address, 9))
    time.sleep(0.01)
    with open("/proc/net/arp") as table:
        known = any(line.split()[0] == address and line.split()[2] == "0x2" for line in table)
for _ in range(50):
    sender.sendto(b"x", (address, 9))
time.sleep(0.5)  # until the line has read them
"""


def exchange_nothing(cell: RealCell) -> int:
    """50 packets to nobody, over a line that loses all. -> how many the sender saw refused"""
    command = [sys.executable, "-c", SEND_TO_NOBODY, cell.fs1.address]
    return cell.clients["client1"].run(command, check=False).returncode


def test_impossible_lines_are_refused(own_cell: RealCell) -> None:
    for line in (Line(round_trip_ms=-1), Line(loss=1.5)):
        with pytest.raises(ValueError, match="no line"):
            Relay(own_cell, "client1", line).start()


def test_a_slow_line_drops_what_has_no_room_to_wait(own_cell: RealCell) -> None:
    """At 64 kbit/s with a queue of 100 ms: some of the first packets, and few of the rest."""
    with Relay(own_cell, "client1", Line(round_trip_ms=2, rate_kbit=64, queue_ms=100)) as relay:
        client = own_cell.clients["client1"]
        arrived = exchange(client, own_cell.clients["client2"], PACKETS)
        assert arrived == sorted(arrived)
        assert 0 < len(arrived) < PACKETS / 2
    assert relay.carried is not None
    assert relay.carried.overflowed >= PACKETS - len(arrived)
