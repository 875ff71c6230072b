"""What a mount counts and has, as one frozen picture; who may be told of what.

Everybody is told what says nothing of anybody: file servers, the cache as a whole, how many calls
there are. Of operations under way, of what is not stored and of tokens each is told his own, root
and whoever runs the daemon all operations. Volumes are told of as in `trees`.
"""

from __future__ import annotations

import os
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

import trio

from afsfuse.errors import ControlRefused
from afsfuse.fileserver.figures import BOUNDS
from afsfuse.refusals import counted
from rxrpc.wire.packet import PacketType

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from afsfuse.auth.identity import Identity
    from afsfuse.cache.figures import CacheStatistics
    from afsfuse.control.mounted import Mounted
    from afsfuse.control.outlets import Outlet
    from afsfuse.control.verbs import Peer, Request, Stream, Verb, Verbs
    from afsfuse.fileserver.client import FileServerClient
    from afsfuse.fileserver.figures import OperationStatistics, Running
    from afsfuse.fileserver.health import ServerStatus
    from afsfuse.refusals import Refused
    from afsfuse.vfs.figures import VfsStatistics
    from rxrpc import Endpoint
    from rxrpc.core.statistics import PeerStatistics, Statistics

VL_PORT = 7003
"""Of volume location servers. Source: AFSCONF_VLDBPORT in OpenAFS's cellconfig.h"""

SHORTEST, LONGEST = 0.5, 3600.0
"""Seconds between two pictures that somebody may ask for."""

_PICTURES_MAX = 2  # that wait for one reader: each tells of all trees, and is soon an old one

OPERATIONS_SHOWN = 100
"""Of those under way, the oldest; more are only counted."""


class Requests(Protocol):
    """What is counted of the kernel's requests, see `afsfuse.fuse.interrupts`."""

    @property
    def at_once(self) -> int: ...
    @property
    def answered(self) -> int: ...
    @property
    def refused(self) -> int: ...
    @property
    def seconds(self) -> float: ...
    @property
    def waiting(self) -> int: ...
    @property
    def longest(self) -> float: ...


@dataclass(frozen=True, slots=True)
class MountStatistics:
    """A picture of one mount. Counts are since the daemon's start unless they say what there is."""

    uptime: float
    """Seconds."""
    requests: Requests
    operations: tuple[OperationStatistics, ...]
    running: int
    """Operations under way."""
    cache: CacheStatistics
    vfs: VfsStatistics
    network: Statistics
    servers: tuple[ServerStatus, ...]
    waiting: dict[str, int]
    """Operations that wait for a file server, by its UUID."""
    refused: Mapping[Refused, int]
    """What servers and the DNS said and was not believed, in the whole process."""

    @property
    def location_servers(self) -> tuple[PeerStatistics, ...]:
        """The volume location servers that were asked."""
        return tuple(peer for peer in self.network.peers if peer.address[1] == VL_PORT)


class Overview:
    """Takes pictures of one mount, and answers for it."""

    def __init__(
        self,
        mounted: Mounted,
        endpoint: Endpoint,
        client: FileServerClient,
        requests: Callable[[], Requests],
        verbs: Verbs,
        source: str,
    ) -> None:
        """`source` is what the mount table says that is mounted."""
        self._mounted = mounted
        self._endpoint = endpoint
        self._client = client
        self._requests = requests
        self._verbs = verbs
        self._source = source
        self._began = trio.current_time()
        self._since = time.time()
        self.verbs: dict[str, Verb] = {
            "statistics": self._statistics,
        }
        self.streams: dict[str, Stream] = {"watch": self._watch}

    def statistics(self) -> MountStatistics:
        """A picture. Only inside trio."""
        waiting: dict[str, int] = {}
        for running in self._client.operations.under_way():
            if running.server is not None:
                uuid = str(running.server.uuid)
                waiting[uuid] = waiting.get(uuid, 0) + 1
        return MountStatistics(
            uptime=trio.current_time() - self._began,
            requests=self._requests(),
            operations=self._client.operations.statistics(),
            running=len(self._client.operations.under_way()),
            cache=self._mounted.cache.statistics(),
            vfs=self._mounted.filesystem.statistics(),
            network=self._endpoint.statistics(),
            servers=tuple(self._client.servers()),
            waiting=waiting,
            refused=counted(),
        )

    async def _statistics(self, request: Request, peer: Peer) -> dict[str, Any]:
        return self.shown(peer)

    async def _watch(self, request: Request, peer: Peer, outlet: Outlet) -> dict[str, Any]:
        """A picture now, and one `every` so many seconds."""
        every = request.get("every")
        if not isinstance(every, int | float) or not SHORTEST <= every <= LONGEST:
            raise ControlRefused(f"a period from {SHORTEST} to {LONGEST:.0f} seconds is expected")
        while True:
            if outlet.waiting < _PICTURES_MAX:
                outlet.put(self.shown(peer))
            await trio.sleep(every)

    def shown(self, peer: Peer) -> dict[str, Any]:
        """What this peer is told. Times are seconds, sizes bytes."""
        who = self._verbs.identity(peer)
        now = self.statistics()
        asked = {"do": "", "all": False}
        return {
            "mount": self._mounted.directory,
            "source": self._source,
            "pid": os.getpid(),
            "identity": who.text,
            "since": self._since,
            "uptime": now.uptime,
            "requests": _requests(now.requests),
            "operations": [
                {
                    "name": one.name,
                    "count": one.count,
                    "failures": one.failures,
                    "seconds": one.seconds,
                    "durations": list(one.durations),
                }
                for one in now.operations
            ],
            "bounds": list(BOUNDS),
            "servers": [_server(one, now.waiting) for one in now.servers],
            "location_servers": [
                {"address": one.address[0], "rtt": one.rtt, "silent": round(one.silent, 3)}
                for one in now.location_servers
            ],
            "network": _network(now.network),
            "refused": {kind.value: count for kind, count in now.refused.items()},
            "volumes": self._volumes(None if peer.owns_daemon else who),
            "cache": {k: v for k, v in asdict(now.cache).items() if k != "disk"},
            "disk": asdict(now.cache.disk),
            "nodes": now.vfs.nodes.nodes,
            "open_files": now.vfs.open_files,
            "in_flight": now.running,
            "calls": self._calls(None if peer.owns_daemon else who),
            "tokens": self._verbs.do({**asked, "do": "tokens"}, peer)["tokens"],
            "files": self._verbs.do({**asked, "do": "unstored"}, peer)["files"],
        }

    def _calls(self, who: Identity | None) -> list[dict[str, Any]]:
        """The operations under way of an identity, or of everybody; oldest first."""
        under_way = self._client.operations.under_way()
        mine = [one for one in under_way if who is None or self._is_of(one, who)]
        return [call(one) for one in mine[:OPERATIONS_SHOWN]]

    def _is_of(self, running: Running, who: Identity) -> bool:
        """Whether an operation is done in this name; who has no token is nobody in the cell."""
        operation = running.operation
        return operation.who in (who, self._client.speaker(who, operation.volume.cell.name))

    def _volumes(self, who: Identity | None) -> list[dict[str, Any]]:
        """The volumes in use, as far as an identity may know of them."""
        filesystem = self._mounted.filesystem
        return [
            {
                "path": self._mounted.shown(tree.point.path()),
                "volume": tree.volume.name,
                "cell": tree.volume.cell.name,
                "servers": [site.server.host for site in tree.volume.sites if site.server.host],
                "refused": {
                    server.host: refusal.word
                    for server, refusal in self._client.refusals.of(tree.volume).items()
                    if server.host
                },
                "nodes": len(tree.nodes) + 1,
            }
            for tree in filesystem.trees
            if who is None or filesystem.may_see(tree.point, who)
        ]


def call(running: Running) -> dict[str, Any]:
    """What is told of an operation under way."""
    operation, server = running.operation, running.server
    return {
        "name": operation.name,
        "cell": operation.volume.cell.name,
        "volume": operation.volume.name,
        "server": None if server is None else server.host,
        "identity": operation.who.text,
        "lasting": round(trio.current_time() - running.since, 3),
    }


def _requests(requests: Requests) -> dict[str, Any]:
    return {
        "at_once": requests.at_once,
        "answered": requests.answered,
        "refused": requests.refused,
        "seconds": requests.seconds,
        "waiting": requests.waiting,
        "longest": requests.longest,
    }


def _server(server: ServerStatus, waiting: dict[str, int]) -> dict[str, Any]:
    return {
        "cell": server.cell,
        "uuid": server.uuid,
        "up": server.up,
        "used": server.used,
        "rtt": server.rtt,
        "waiting": waiting.get(server.uuid, 0),
        "addresses": [
            {"address": address, "rank": rank, "rtt": rtt}
            for address, rank, rtt in server.addresses
        ],
    }


def _network(network: Statistics) -> dict[str, Any]:
    return {
        "received": sum(network.received.values()),
        "sent": sum(network.sent.values()),
        "received_data": network.received[PacketType.DATA],
        "sent_data": network.sent[PacketType.DATA],
        "resent": network.resent,
        "dropped": sum(network.drops.values()),
        "drops": {reason.value: count for reason, count in network.drops.items()},
        "connections": network.client_connections,
        "active_calls": network.active_calls,
        "waiting_calls": network.waiting_calls,
        "server_calls": network.server_calls,
    }
