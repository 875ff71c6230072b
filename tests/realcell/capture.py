"""What goes over a host's wire, as the kernel shows it to anybody who may look."""

from __future__ import annotations

import struct
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import IO

    from tests.realcell.hosts import Host

_ETHERNET, _UDP = 14, 8
_SOURCE = _ETHERNET + 12  # of the addresses, in a frame
_RX_TYPE, _RX_SECURITY = 20, 23  # bytes of the Rx header. Source: rx_packet.h
_DATA = 1
_CAPTURE = """
import select, socket, sys
sniffer = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
sniffer.setsockopt(socket.SOL_SOCKET, 33, 1 << 26)  # SO_RCVBUFFORCE
sniffer.bind(("eth0", 0))
out = sys.stdout.buffer
out.write(b"ready\\n")
out.flush()
while True:
    readable = select.select([sniffer, sys.stdin], [], [], 10)[0]
    if sniffer in readable:
        frame = sniffer.recv(70000)
        out.write(len(frame).to_bytes(4, "big") + frame)
    elif sys.stdin in readable:
        break
"""


@dataclass(frozen=True)
class Packet:
    """One UDP packet."""

    ports: tuple[int, int]
    payload: bytes

    @property
    def is_data(self) -> bool:
        """Whether it is DATA of Rx."""
        return len(self.payload) > 28 and self.payload[_RX_TYPE] == _DATA

    @property
    def security(self) -> int:
        """The security index in its Rx header."""
        return self.payload[_RX_SECURITY]


@dataclass
class Capture:
    """All packets; complete when the context has ended."""

    packets: list[Packet] = field(default_factory=list)

    def data(self, port: int) -> list[Packet]:
        """DATA to and from a port."""
        return [packet for packet in self.packets if port in packet.ports and packet.is_data]

    def shows(self, needle: bytes) -> bool:
        """Whether somebody who looks can read this."""
        return any(needle in packet.payload for packet in self.packets)


@contextmanager
def captured(host: Host) -> Iterator[Capture]:
    """What a host sends and gets while the context lasts."""
    capture = Capture()
    process = host.popen(
        [sys.executable, "-c", _CAPTURE],
        mounts=False,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    reader = process.stdout
    try:
        assert reader.readline() == b"ready\n"
        with _collecting(reader) as chunks:
            yield capture
            process.stdin.close()
        capture.packets += _packets(b"".join(chunks), IPv4Address(host.address).packed)
    finally:
        process.kill()
        process.wait()
        reader.close()


@contextmanager
def _collecting(reader: IO[bytes]) -> Iterator[list[bytes]]:
    """Read to the end beside what goes on; a pipe that is full would lose packets."""
    chunks: list[bytes] = []
    thread = threading.Thread(target=lambda: chunks.append(reader.read()))
    thread.start()
    try:
        yield chunks
    finally:
        thread.join(30)


def _packets(data: bytes, address: bytes) -> Iterator[Packet]:
    """The UDP packets to and from an address in frames with their lengths in front.

    A bridge that does not know where a host is sends the frames for it to all: others' packets come
    here, too.
    """
    at = 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        frame = data[at + 4 : at + 4 + size]
        at += 4 + size
        if frame[12:14] != b"\x08\x00" or frame[_ETHERNET + 9] != 17:  # IPv4, UDP
            continue
        if address not in (frame[_SOURCE : _SOURCE + 4], frame[_SOURCE + 4 : _SOURCE + 8]):
            continue
        begin = _ETHERNET + 4 * (frame[_ETHERNET] & 15)
        ports = struct.unpack_from("!2H", frame, begin)
        yield Packet((ports[0], ports[1]), frame[begin + _UDP :])
