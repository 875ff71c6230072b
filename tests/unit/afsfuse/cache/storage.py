"""What a file server does with stores: the other half of `fakes.FakeClient`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio

from afsfuse.auth.identity import NOBODY
from afsfuse.fileserver.changes import UNCHANGED, StatusChange
from afsfuse.fileserver.replies import ChangeReply
from afsfuse.interfaces.fileserver import VolSync
from tests.unit.afsfuse.cache.fakes import FakeClient

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from afsfuse.auth.identity import Identity
    from afsfuse.cell.volumes import Volume
    from afsfuse.errors import AfsError
    from afsfuse.interfaces.fileserver import Fid
    from afsfuse.model import Status


def stored(data: bytes, position: int, new: bytes, file_length: int) -> bytes:
    """What a server makes of a file. Source: tests/cell/test_storing.py."""
    kept = bytearray(data[:file_length])
    if not new:
        return bytes(kept.ljust(position, b"\0"))
    kept = kept.ljust(position + len(new), b"\0")
    kept[position : position + len(new)] = new
    return bytes(kept)


@dataclass(frozen=True)
class Store:
    """One call that was made."""

    position: int
    size: int
    file_length: int
    who: Identity
    change: StatusChange


@dataclass
class FakeChanges:
    """`FileServerClient.changes`. Orders: `refuse` each call of these, `lose` replies."""

    client: WritableClient
    refuse: Callable[[Store], AfsError | None] = lambda store: None
    lose: Callable[[Store], AfsError | None] = lambda store: None
    stores: list[Store] = field(default_factory=list)
    statuses: list[StatusChange] = field(default_factory=list)
    in_flight: int = 0
    most_in_flight: int = 0

    async def store_data(
        self,
        volume: Volume,
        fid: Fid,
        position: int,
        buffers: Sequence[bytes | bytearray | memoryview],
        file_length: int,
        who: Identity,
        change: StatusChange = UNCHANGED,
    ) -> ChangeReply:
        store = Store(position, sum(map(len, buffers)), file_length, who, change)
        self.stores.append(store)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await self.client.travel()
            refusal = self.refuse(store)
            if refusal is not None:
                raise refusal
            file = self.client.files[fid]
            file.data = stored(file.data, position, b"".join(buffers), file_length)
            file.version += 1
            file.mtime = change.mtime or 0
            reply = self._reply(fid, who)
            loss = self.lose(store)
            await self.client.travel()
            if loss is not None:
                raise loss
            return reply
        finally:
            self.in_flight -= 1

    async def store_status(
        self, volume: Volume, fid: Fid, change: StatusChange, who: Identity
    ) -> ChangeReply:
        self.statuses.append(change)
        await self.client.travel()
        refusal = self.refuse(Store(0, 0, 0, who, change))
        if refusal is not None:
            raise refusal
        file = self.client.files[fid]
        if change.mode is not None:
            file.mode = change.mode
        if change.mtime is not None:
            file.mtime = change.mtime
        reply = self._reply(fid, who)
        await self.client.travel()
        return reply

    def _reply(self, fid: Fid, who: Identity) -> ChangeReply:
        status = self.client.status_of(fid, who)
        return ChangeReply(status, VolSync(self.client.creation_time), self.client.server)


class WritableClient(FakeClient):
    """A server that takes stores."""

    def __init__(self, *args: object, **more: object) -> None:
        super().__init__(*args, **more)  # type: ignore[arg-type]
        self.changes = FakeChanges(self)

    async def travel(self) -> None:
        await self._travel()
        if self.delay() == 0.0:
            await trio.lowlevel.checkpoint()

    def status_of(self, fid: Fid, who: Identity = NOBODY) -> Status:
        """What is told of a file."""
        return self._status(fid, who)
