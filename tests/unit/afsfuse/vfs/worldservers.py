"""Who answers in a small world: file servers, location servers and the DNS.

Servers take `World.rtt` for an answer; those in `World.dead` take `DEAD_TIME` to be given up. Every
call is counted.
"""

import errno
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import trio

from afsfuse.auth.identity import NOBODY, Identity
from afsfuse.cell.resolver import DnsAnswer
from afsfuse.cell.volumes import Preference
from afsfuse.errors import (
    AfsError,
    CellUnknown,
    CellUnreachable,
    NotPermitted,
    ServerUnreachable,
    StaleInode,
    VolumeMissing,
)
from afsfuse.fileserver.replies import DataReply, Promise, StatusReply, VolumeStatusReply
from afsfuse.interfaces.common import Fid
from afsfuse.interfaces.fileserver import VolSync, VolumeStatus
from tests.unit.afsfuse.cache.fakes import SmallFiles
from tests.unit.afsfuse.vfs.worldfiles import FakeFile, FakeVolume

if TYPE_CHECKING:
    from tests.unit.afsfuse.vfs.world import World

DEAD_TIME = 20.0
PROMISE = 3600.0


def not_permitted() -> AfsError:
    return NotPermitted("the access list does not allow it")


def io_error() -> AfsError:
    return AfsError("an error of the server", errno=errno.EIO)


class FakeClient(SmallFiles):
    """A file server client that answers from the world."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self.calls: Counter[str] = Counter()
        self.statuses = 0
        """That were told, one by one or in bulk."""
        self.promise = PROMISE
        """Seconds; 0: nothing is promised."""
        self.callers: Counter[Identity] = Counter()
        self.tokens: set[Identity] = set()
        self.returned: list[Fid] = []
        """Promises that were given back."""
        self.forgotten: list[FakeVolume] = []

    def release_seen(self, volume: FakeVolume) -> None: ...

    async def _reach(self, volume: FakeVolume, call: str, who: Identity) -> None:
        self.calls[call] += 1
        self.callers[who] += 1
        if volume.server in self.world.dead:
            await trio.sleep(DEAD_TIME)
            raise ServerUnreachable("no answer", volume=volume.name)
        await trio.sleep(self.world.rtt)
        if (volume.cell.name, volume.name) not in self.world.volumes:
            raise VolumeMissing("no such volume here", volume=volume.name)

    def _reply(
        self, volume: FakeVolume, fid: Fid, who: Identity, *, data: bool = False
    ) -> StatusReply | AfsError:
        assert who == self.speaker(who, volume.cell.name)
        file = volume.files.get((fid.vnode, fid.unique))
        if file is None:
            return StaleInode("the file does not exist any more")
        if file.error is not None:
            return file.error.again()
        if file.refuses(who, data=data):
            return not_permitted()
        server = cast("Any", volume.sites[0].server)
        promise = Promise(trio.current_time() + self.promise, server) if self.promise else None
        sync = VolSync(volume.created)
        return StatusReply(file.status(who), promise, sync, server)

    async def fetch_status(self, volume: Any, fid: Fid, who: Identity = NOBODY) -> StatusReply:
        await self._reach(volume, "fetch_status", who)
        self.statuses += 1
        reply = self._reply(volume, fid, who)
        if isinstance(reply, AfsError):
            raise reply
        return reply

    async def bulk_status(
        self, volume: Any, fids: Sequence[Fid], who: Identity = NOBODY
    ) -> list[StatusReply | AfsError]:
        assert len(fids) <= 50
        await self._reach(volume, "bulk_status", who)
        self.statuses += len(fids)
        return [self._reply(volume, fid, who) for fid in fids]

    def loss(self, server: object) -> float:
        return 0.0

    async def fetch_data(
        self,
        volume: Any,
        fid: Fid,
        position: int,
        buffers: Sequence[memoryview],
        who: Identity = NOBODY,
        *,
        versioned: bool = False,
    ) -> DataReply:
        await self._reach(volume, "fetch_data", who)
        reply = self._reply(volume, fid, who, data=True)
        if isinstance(reply, AfsError):
            raise reply
        data = volume.files[fid.vnode, fid.unique].data[position:]
        given = 0
        for buffer in buffers:
            piece = data[given : given + len(buffer)]
            buffer[: len(piece)] = piece
            given += len(piece)
        return DataReply(given, reply.status, reply.promise, reply.sync, reply.server)

    async def fetch_acl(self, volume: Any, fid: Fid, who: Identity = NOBODY) -> bytes:
        await self._reach(volume, "fetch_acl", who)
        file: FakeFile = volume.files[fid.vnode, fid.unique]
        if file.refuses(who, data=True):
            raise not_permitted()
        return file.acl + b"\0"  # as real servers send it

    async def give_up_callbacks(self, server: Any, fids: Sequence[Fid]) -> None:
        self.calls["give_up_callbacks"] += 1
        self.returned += fids
        await trio.sleep(self.world.rtt)

    def forget(self, volume: Any) -> None:
        self.forgotten.append(volume)

    async def volume_status(self, volume: Any, who: Identity = NOBODY) -> VolumeStatusReply:
        await self._reach(volume, "volume_status", who)
        status = VolumeStatus(
            volume.id, volume.id, 1, 1, 1, 0, 0, 0, volume.quota, 1200, 90_000, 100_000
        )
        return VolumeStatusReply(status, volume.name.encode())


class FakeDns:
    """The DNS: knows some cells, counts questions."""

    def __init__(self) -> None:
        self.cells: set[str] = set()
        self.queries: list[str] = []

    async def lookup(self, cell: str) -> DnsAnswer:
        self.queries.append(cell)
        await trio.sleep(0.02)
        if cell not in self.cells:
            raise CellUnknown("no such cell", cell=cell)
        return DnsAnswer((("192.0.2.99", 7003),), 3600.0)


class FakeLocator:
    """A volume locator with the rules of the real one, and cells that do not answer."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self.calls: Counter[str] = Counter()
        self.forgotten: list[FakeVolume] = []

    async def volume(
        self, cell: str, name: str, want: Preference, who: Identity = NOBODY
    ) -> FakeVolume:
        self.calls[f"{cell}:{name}"] += 1
        if cell in self.world.dead:
            await trio.sleep(DEAD_TIME)
            raise CellUnreachable("no answer", cell=cell)
        await trio.sleep(self.world.rtt)
        suffixes = {
            Preference.RO: (".readonly",),
            Preference.BACKUP: (".backup",),
            Preference.FORCE_RW: ("",),
            Preference.PREFER_RO: (".readonly", ""),
        }
        for suffix in suffixes[want]:
            volume = self.world.volumes.get((cell, name + suffix))
            if volume is not None:
                return volume
        raise VolumeMissing("the cell has no such volume", cell=cell, volume=name)

    def compact(self) -> None: ...

    def forget(self, volume: FakeVolume) -> None:
        self.forgotten.append(volume)
