"""About whole volumes, and about the server."""

from __future__ import annotations

import errno
import time
from typing import TYPE_CHECKING

from afsfuse.democell.fileservice.access import open_vnode
from afsfuse.democell.refusal import Refused
from afsfuse.democell.times import seconds
from afsfuse.democell.vnode import ROOT
from afsfuse.interfaces import fileserver as fs
from rxrpc.rpc import Void

if TYPE_CHECKING:
    from afsfuse.democell.fileservice.server import Request, Serve, Server

NOT_SUPPORTED = 122
"""Not an errno of Linux. Source: FSERR_EOPNOTSUPP in afsfileprocs.c."""
_PARTITION = b"/vicepa"
_NO_DISK = fs.Disk(0, -1, (0,) * 8)
_LARGEST = 2**31 - 1


def register(server: Server, serve: Serve) -> None:
    """Bring the handlers in."""
    service = _Volumes(server)
    serve(fs.GET_VOLUME_STATUS, service.get_volume_status)
    serve(fs.SET_VOLUME_STATUS, service.set_volume_status)
    serve(fs.GET_ROOT_VOLUME, service.get_root_volume)
    serve(fs.GET_TIME, service.get_time)
    serve(fs.GET_STATISTICS, service.get_statistics)
    serve(fs.GET_STATISTICS64, service.get_statistics64)


class _Volumes:
    def __init__(self, server: Server) -> None:
        self._server = server

    async def get_volume_status(
        self, request: Request, args: fs.GetVolumeStatusArgs
    ) -> fs.GetVolumeStatusReply:
        volume = open_vnode(self._server, request, fs.Fid(args.volume, ROOT, ROOT)).volume
        partition = self._server.partition
        status = fs.VolumeStatus(
            volume=volume.id,
            parent=volume.parent,
            online=1,
            in_service=1,
            blessed=1,
            needs_salvage=0,
            type=int(volume.writable),
            min_quota=volume.min_quota,
            max_quota=volume.quota,
            blocks_in_use=min(volume.used, _LARGEST),
            partition_blocks_available=min(partition.available, _LARGEST),
            partition_blocks=min(partition.total, _LARGEST),
        )
        return fs.GetVolumeStatusReply(status, volume.name.encode(), volume.offline_message, b"")

    async def set_volume_status(self, request: Request, args: fs.SetVolumeStatusArgs) -> Void:
        volume = open_vnode(self._server, request, fs.Fid(args.volume, ROOT, ROOT)).volume
        if not volume.writable:
            raise Refused(errno.EROFS)
        if not request.who.administrator:
            raise Refused(errno.EACCES)
        if args.status.mask & fs.VolumeMask.MIN_QUOTA:
            volume.min_quota = args.status.min_quota
        if args.status.mask & fs.VolumeMask.MAX_QUOTA:
            volume.quota = max(0, args.status.max_quota)
        if args.offline_message:
            volume.offline_message = args.offline_message
        self._server.keep(volume, False)
        return Void()

    async def get_root_volume(self, request: Request, args: Void) -> fs.RootVolumeReply:
        """OpenAFS's servers do not tell, either: each client has it in its configuration."""
        raise Refused(NOT_SUPPORTED, plain=True)

    async def get_time(self, request: Request, args: Void) -> fs.GetTimeReply:
        now = time.time()
        return fs.GetTimeReply(int(now) & 0xFFFFFFFF, int(now % 1 * 1_000_000))

    async def get_statistics(self, request: Request, args: Void) -> fs.StatisticsReply:
        words = [0] * fs.STATISTICS_WORDS
        words[2], words[3], words[4] = seconds(), *[int(self._server.started)] * 2
        words[6] = sum(self._server.faults.counts.values()) & 0xFFFFFFFF
        words[35] = words[36] = len(self._server.hosts)
        partition = self._server.partition
        name = _PARTITION.ljust(32, b"\0")
        disk = fs.Disk(
            min(partition.available, _LARGEST),
            min(partition.total, _LARGEST),
            tuple(int.from_bytes(name[at : at + 4], "big") for at in range(0, 32, 4)),
        )
        disks = (disk, *[_NO_DISK] * (fs.STATISTICS_DISKS - 1))
        return fs.StatisticsReply(tuple(words), disks)

    async def get_statistics64(
        self, request: Request, args: fs.StatisticsVersionArgs
    ) -> fs.Statistics64Reply:
        numbers = [0] * fs.STATISTICS64_MAX
        numbers[0], numbers[1], numbers[2] = (
            seconds(),
            *[int(self._server.started)] * 2,
        )
        numbers[12] = sum(self._server.faults.counts.values())
        numbers[13] = numbers[14] = len(self._server.hosts)
        return fs.Statistics64Reply(tuple(numbers[: max(0, args.version)]))
