"""The cell's Ethernet: a bridge in a namespace of its own, one port for each host and one for the
machine, and the faults that can be made on it: loss and partition.

Faults are rules of nftables where a packet comes in (on the far side of the cable for what a host
sends): a drop on the way out would be told to the sender as EPERM, which no real network does.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import subprocess
import tempfile
import time
from enum import Flag
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

PREFIX = "10.77"
MAIN_HOST_NUMBER = 1
FREE_NETWORKS = range(1, 255)
_LOSS_SCALE = 100_000


class Direction(Flag):
    """Which way packets are hit, seen from the host that is named."""

    IN = 1
    OUT = 2
    BOTH = 3


@contextlib.contextmanager
def machine_lock() -> Iterator[None]:
    """Held while a cell chooses its network. The lock is on a folder: no file is left behind."""
    descriptor = os.open(tempfile.gettempdir(), os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def run(argv: Sequence[str], input: str = "") -> str:
    """Run a command of the machine; raises RuntimeError with its output when it fails."""
    done = subprocess.run(argv, input=input, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(argv)}: {done.stderr or done.stdout}")
    return done.stdout


def link_name(network: int) -> str:
    """The machine's own port, by network number."""
    return f"afscell{network}"


def free_network() -> int:
    """A third octet that no address of this machine uses. Call it under `machine_lock`."""
    addresses = run(["ip", "-o", "-4", "address"])
    used = {int(octet) for octet in re.findall(rf"\b{re.escape(PREFIX)}\.(\d+)\.", addresses)}
    for network in FREE_NETWORKS:
        if network not in used:
            return network
    raise RuntimeError(f"all networks of {PREFIX}.0.0/16 are in use on this machine")


class Network:
    """The wires. `lan` is the process whose namespace has the bridge `br0`; `holders` maps a
    host's name to the process whose namespace gets the other end of the cable, `eth0`."""

    def __init__(self, network: int, lan: int, holders: Mapping[str, int]) -> None:
        self.number = network
        self.lan = lan
        self._holders = holders

    def address(self, host_number: int) -> str:
        return f"{PREFIX}.{self.number}.{host_number}"

    def connect_machine(self) -> None:
        """Give the machine itself a port and the address .1."""
        link = link_name(self.number)
        self._in(None, f"link add {link} type veth peer name main netns {self.lan}\n")
        self._in(self.lan, "link add br0 type bridge\nlink set br0 up\nlink set lo up\n")
        self._in(self.lan, "link set main master br0 up\n")
        self._in(
            None,
            f"address add {self.address(MAIN_HOST_NUMBER)}/24 dev {link}\nlink set {link} up\n",
        )

    def connect(self, host: str, address: str) -> None:
        """Lay the cable of one host."""
        holder = self._holders[host]
        self._in(
            self.lan,
            f"link add p-{host} type veth peer name eth0 netns {holder}\n"
            f"link set p-{host} master br0 up\n",
        )
        self._in(holder, f"link set lo up\naddress add {address}/24 dev eth0\nlink set eth0 up\n")

    def add_address(self, host: str, address: str) -> None:
        """One more address for a host."""
        self._in(self._holders[host], f"address add {address}/24 dev eth0\n")

    def remove_address(self, host: str, address: str) -> None:
        """Take that back."""
        self._in(self._holders[host], f"address del {address}/24 dev eth0\n")

    def lose(
        self,
        host: str,
        percent: float,
        direction: Direction = Direction.BOTH,
        match: str = "meta l4proto udp",
    ) -> None:
        """Drop a share of the UDP packets (or of what the nft expression `match` selects) of a
        host, at random, in each direction given. Replaces what was set before."""
        if not 0 <= percent <= 100:
            raise ValueError(f"{percent} is no percentage")
        self.heal(host)
        share = round(percent * _LOSS_SCALE / 100)
        chance = f"numgen random mod {_LOSS_SCALE} < {share}" if share < _LOSS_SCALE else ""
        self._rules(host, f"{match} {chance} counter drop", direction)

    def partition(self, host: str, direction: Direction = Direction.BOTH) -> None:
        """Cut a host off, silently: packets vanish, links stay up.

        ARP goes on: without its answers a host that only cannot hear could not speak either.
        """
        self.heal(host)
        self._rules(host, "ether type ip counter drop", direction)

    def sever(self, host: str, address: str) -> None:
        """Cut a host off from one address, silently, and from no other."""
        self.heal(host)
        for way, end in ((Direction.IN, "saddr"), (Direction.OUT, "daddr")):
            self._rules(host, f"ip {end} {address} counter drop", way)

    def connect_second(self, host: str, address: str) -> None:
        """Lay a second cable to a host, with an address in a network of its own."""
        holder = self._holders[host]
        self._in(
            self.lan,
            f"link add q-{host} type veth peer name eth1 netns {holder}\n"
            f"link set q-{host} master br0 up\n",
        )
        # Both cables are in one bridge: each answers for its own address only.
        enter = ["nsenter", "-t", str(holder), "--net", "--"]
        run([*enter, "sysctl", "-q", "-w", "net.ipv4.conf.all.arp_ignore=1"])
        self._in(holder, f"address add {address}/24 dev eth1\nlink set eth1 up\n")

    def disconnect_second(self, host: str) -> None:
        """Take the second cable of a host away."""
        self._in(self.lan, f"link del q-{host}\n")

    def heal(self, host: str) -> None:
        """Take all faults of a host away."""
        for holder, _ in self._ends(host).values():
            self._nft(holder, f"add table netdev fault-{host}\ndelete table netdev fault-{host}\n")

    def wait_until_gone(self, seconds: float) -> bool:
        """Whether the machine's port vanished in time: the kernel takes a namespace apart some
        moments after the end of its last process."""
        deadline = time.monotonic() + seconds
        while os.path.exists(f"/sys/class/net/{link_name(self.number)}"):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True

    def _rules(self, host: str, rule: str, direction: Direction) -> None:
        for way, (holder, device) in self._ends(host).items():
            if way in direction:
                self._nft(
                    holder,
                    f"table netdev fault-{host} {{\nchain ingress {{\n"
                    f"type filter hook ingress device {device} priority 0\n{rule}\n}}\n}}\n",
                )

    def _ends(self, host: str) -> dict[Direction, tuple[int, str]]:
        """Where packets of a host come in: (process in that namespace, device) by direction."""
        return {
            Direction.OUT: (self.lan, f"p-{host}"),
            Direction.IN: (self._holders[host], "eth0"),
        }

    def _nft(self, holder: int, rules: str) -> None:
        run(["nsenter", "-t", str(holder), "--net", "nft", "-f", "-"], rules)

    def _in(self, holder: int | None, batch: str) -> None:
        enter = [] if holder is None else ["nsenter", "-t", str(holder), "--net"]
        run([*enter, "ip", "-batch", "-"], batch)
