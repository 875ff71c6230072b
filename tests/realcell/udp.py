"""Numbered UDP packets from one host to another: what the network does to them."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.realcell.hosts import Host

PORT = 9999
_PACE_SECONDS = 0.0002  # slow enough that no queue on the way overflows
_QUIET_SECONDS = 1.0  # no packet for so long after the last was sent: that was all

_RECEIVE = f"""
import select, socket, sys
receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
receiver.settimeout({_QUIET_SECONDS})
receiver.bind(("0.0.0.0", {PORT}))
print("ready", flush=True)
while True:
    try:
        print(int.from_bytes(receiver.recv(2000)[:4], "big"))
    except TimeoutError:
        if select.select([sys.stdin], [], [], 0)[0]:  # closed: all were sent
            break
"""
_SEND = f"""
import socket, sys, time
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for number in range(int(sys.argv[2])):
    sender.sendto(number.to_bytes(4, "big") + bytes(100), (sys.argv[1], {PORT}))
    time.sleep({_PACE_SECONDS})
"""


def exchange(sender: Host, receiver: Host, count: int) -> list[int]:
    """Send `count` packets. -> the numbers that arrived, in the order of arrival"""
    program = receiver.popen(
        [sys.executable, "-c", _RECEIVE], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert program.stdout is not None
    try:
        assert program.stdout.readline() == b"ready\n"
        sender.run([sys.executable, "-c", _SEND, receiver.address, str(count)])
        output, _ = program.communicate(timeout=60)  # closes its input: all were sent
    finally:
        program.kill()
        program.wait()
    return [int(line) for line in output.split()]
