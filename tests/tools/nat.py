"""A client host behind a NAT: a router of its own that hides it behind one address, and forgets.

The router is a network namespace with a cable to the host and one to the cell's bridge; a rule of
nftables changes the source of what leaves, as the boxes in homes and hotels do, and what comes in
without belonging to anything is dropped without a word. The host's former cable is down meanwhile.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

from tests.realcell.network import run

if TYPE_CHECKING:
    from tests.realcell.cell import RealCell

OUTSIDE, OTHER = 190, 191
"""Host numbers of the router's addresses in the cell's network."""
_INSIDE = "192.168.77"
# Deletes all entries: a request of type IPCTNL_MSG_CT_DELETE that names none, and its answer, an
# NLMSG_ERROR with 0. Sources: linux/netlink.h, linux/netfilter/nfnetlink_conntrack.h.
_FORGET = """
import socket, struct
with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12) as kernel:
    kernel.send(struct.pack("=IHHIIBBH", 20, 1 << 8 | 2, 1 | 4, 1, 0, 0, 0, 0))
    kind, error = struct.unpack_from("=4xH10xi", kernel.recv(4096))
    assert (kind, error) == (2, 0), (kind, error)
"""
_TIMEOUTS = ("nf_conntrack_udp_timeout", "nf_conntrack_udp_timeout_stream")


class Nat:
    """Puts a host behind the router while the context lasts: `with Nat(cell, "client1") as nat`.

    `seconds` is how long the router remembers who spoke to whom over UDP when nothing more comes.
    Raises RuntimeError when it cannot be made.
    """

    def __init__(self, cell: RealCell, host: str, seconds: int = 30) -> None:
        self._host = cell.clients[host]
        self._network = cell.network
        self._seconds = seconds
        self._address = cell.network.address(OUTSIDE)
        self._router: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Nat:
        self._router = subprocess.Popen(
            ["unshare", "--net", "--", "sh", "-c", "echo ready; exec cat"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert self._router.stdout is not None
        assert self._router.stdout.readline() == b"ready\n"
        try:
            self._lay()
            self.map()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        assert self._router is not None
        assert self._router.stdin is not None
        assert self._router.stdout is not None
        # Each with its other end, and now: a namespace is taken apart some time after its end.
        for holder, cable in ((self._host.holder, "nat0"), (self._network.lan, "p-nat")):
            links = json.loads(run([*self._enter(holder), "ip", "-json", "link"]))
            if any(link["ifname"] == cable for link in links):
                self._ip(holder, f"link del {cable}")
        self._ip(self._host.holder, "link set eth0 up")
        self._router.stdin.close()
        self._router.wait()
        self._router.stdout.close()

    @property
    def address(self) -> str:
        """Where the servers see the host."""
        return self._address

    def map(self, ports: str = "") -> None:
        """Hide the host behind these ports of the router (`20000-20099`), or let it have its own
        ones. What is known of earlier packets stays until `forget`.
        """
        target = f"snat to {self._address}{':' + ports if ports else ''}"
        kind = "meta l4proto udp " if ports else ""
        self._nft(
            "add table ip nat\ndelete table ip nat\ntable ip nat {\nchain out {\n"
            "type nat hook postrouting priority srcnat\n"
            f'oifname "outside" {kind}{target}\n}}\n}}\n'
        )

    def forget(self) -> None:
        """Lose all that is known of who spoke to whom, as after a restart of the router."""
        run([*self._enter(self._pid), sys.executable, "-S", "-c", _FORGET])

    def move(self) -> None:
        """Have the other address from now on, as after a new contract with the provider's line."""
        before, self._address = self._address, self._network.address(OTHER)
        self._ip(self._pid, f"address del {before}/24 dev outside")
        self._ip(self._pid, f"address add {self._address}/24 dev outside")
        self.map()

    @property
    def _pid(self) -> int:
        assert self._router is not None
        return self._router.pid

    def _lay(self) -> None:
        """Both cables, the way, and what the router does with strangers."""
        lan, holder, router = self._network.lan, self._host.holder, self._pid
        self._ip(
            lan,
            f"link add p-nat type veth peer name outside netns {router}",
            "link set p-nat master br0 up",
        )
        self._ip(holder, f"link add nat0 type veth peer name inside netns {router}")
        self._ip(
            router,
            f"address add {self._address}/24 dev outside", "link set outside up",
            f"address add {_INSIDE}.1/24 dev inside", "link set inside up", "link set lo up",
        )  # fmt: skip
        self._ip(
            holder,
            "link set eth0 down", f"address add {_INSIDE}.2/24 dev nat0", "link set nat0 up",
            f"route add default via {_INSIDE}.1",
        )  # fmt: skip
        self._sysctl(dict.fromkeys(_TIMEOUTS, self._seconds), "net.netfilter")
        self._sysctl({"ip_forward": 1}, "net.ipv4")
        self._nft(
            "table ip filter {\n"
            "chain own {\ntype filter hook input priority filter\n"
            'iifname "outside" ct state new drop\n}\n'
            "chain through {\ntype filter hook forward priority filter\n"
            'iifname "outside" ct state new drop\n}\n}\n'
        )

    def _sysctl(self, values: dict[str, int], where: str = "net.netfilter") -> None:
        words = [f"{where}.{name}={value}" for name, value in values.items()]
        run([*self._enter(self._pid), "sysctl", "-q", "-w", *words])

    def _nft(self, rules: str) -> None:
        run([*self._enter(self._pid), "nft", "-f", "-"], rules)

    def _ip(self, holder: int, *lines: str) -> None:
        run([*self._enter(holder), "ip", "-batch", "-"], "\n".join(lines) + "\n")

    @staticmethod
    def _enter(holder: int) -> list[str]:
        return ["nsenter", "-t", str(holder), "--net", "--"]
