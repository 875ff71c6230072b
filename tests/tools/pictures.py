"""A picture of a mount of which every figure is something."""

from __future__ import annotations

from typing import Any

from afsfuse.cache.disk.store import DiskStatistics
from afsfuse.cache.figures import CacheStatistics
from afsfuse.control.statistics import MountStatistics
from afsfuse.fileserver.figures import OperationStatistics
from afsfuse.fileserver.health import ServerStatus
from afsfuse.fuse.interrupts import RequestStatistics
from afsfuse.refusals import Refused
from afsfuse.vfs.figures import VfsStatistics
from afsfuse.vfs.inodes import NodeStatistics
from rxrpc.core.statistics import Statistics
from rxrpc.trace import DropReason
from rxrpc.wire.packet import PacketType


def picture() -> MountStatistics:
    fields: dict[str, Any] = dict.fromkeys(CacheStatistics.__slots__, 7)
    return MountStatistics(
        uptime=12.5,
        requests=RequestStatistics(100, 20, 1, 2.5, 3, 0.5),
        operations=(OperationStatistics("FetchStatus", 3, 1, 0.6, (1, 0, 1, *[0] * 7, 1)),),
        running=2,
        cache=CacheStatistics(**{**fields, "disk": DiskStatistics(limit=9, used=8)}),
        vfs=VfsStatistics(NodeStatistics(5, 6, 7, 0), 2, 1),
        network=Statistics(
            dict.fromkeys(PacketType, 4), dict.fromkeys(PacketType, 0),
            {DropReason.BAD_ACK: 2}, 1, 1, 0, 2, 0, 0, 0, (),
        ),
        servers=(
            ServerStatus("example.org", "u1", (("192.0.2.1", 1, 0.1),), "192.0.2.1", True, 0.01),
            ServerStatus("example.org", "u2", (("192.0.2.2", 1, None),), "192.0.2.2", False, None),
        ),
        waiting={"u2": 4},
        refused=dict.fromkeys(Refused, 3),
    )  # fmt: skip
