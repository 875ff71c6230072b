"""Letting go of whole volumes: their vnodes leave, and the servers are told so.

A promise that nobody needs costs the server memory, and a call for each change until it ends. So
promises of a volume that nothing shows any more are given back, 50 in a call, in the background:
nobody waits for it, and a server that does not answer loses nothing but the news. Of volumes that
are not read-write the promise is for the whole volume, and its fid has vnode 0.
Source: SRXAFS_FetchStatus and SRXAFS_GiveUpCallBacks in afsfileprocs.c of OpenAFS.

A promise must not be given back after it was made anew. Whoever comes back while the call is under
way asks the server again, and in which order that one takes the two calls nobody can say. So no
promise for these files counts before the call has ended, as if it had been broken: see `BreakLog`.
"""

from __future__ import annotations

import itertools
import logging
from typing import TYPE_CHECKING, NamedTuple

import trio

from afsfuse.errors import AfsError
from afsfuse.interfaces.common import FIDS_MAX, Fid
from afsfuse.model import VolumeType

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from afsfuse.cache.vnodes import Vnode, VnodeTable
    from afsfuse.cell.servers import FileServer
    from afsfuse.cell.volumes import Volume
    from afsfuse.fileserver.client import FileServerClient

log = logging.getLogger(__name__)

_CALLS = 4  # under way at a time, over all servers
_GATHERING = 1.0  # seconds: vnodes that leave one by one go into one call
_VNODE_COST = 900  # bytes of a vnode and its status; measured with tracemalloc


class Footprint(NamedTuple):
    """What the cache holds of a volume."""

    vnodes: int
    vnodes_bytes: int
    """Roughly; directories included."""
    data_bytes: int
    """File data in memory."""


class Leaving:
    """Lets volumes go, and gives their promises back in the background."""

    def __init__(
        self,
        client: FileServerClient,
        table: VnodeTable,
        save: Callable[[Vnode], object],
        giving_back: Callable[[Sequence[Fid]], AbstractContextManager[None]],
    ) -> None:
        """`save`: what is in memory of a vnode goes to the disk. `giving_back`: while that is
        entered no promise for these fids counts.
        """
        self._client = client
        self._table = table
        self._save = save
        self._giving_back = giving_back
        self._queue: dict[FileServer, dict[Fid, None]] = {}
        self._wake = trio.Event()
        self._done = trio.Event()
        self._done.set()
        self.given_up = 0
        """Promises that were given back, since the start."""

    def __len__(self) -> int:
        """Promises that wait to be given back."""
        return sum(map(len, self._queue.values()))

    def let_go(self, volume: Volume) -> int:
        """Nothing shows a volume any more: forget it, and give its promises back in the background.

        What the kernel holds stays, and what waits to be stored. Data in memory goes to the disk
        as if it were short of room. Returns how many vnodes have left. Free of await.
        """
        count = 0
        now = trio.current_time()
        self._client.forget(volume)
        for vnode in self._table.on_shelf(volume):
            if self._table.holds(vnode):
                continue
            if vnode.expires > now and vnode.server is not None:
                fid = vnode.fid if volume.type is VolumeType.RW else Fid(volume.id, 0, 0)
                self._enqueue(vnode.server, fid)
            self._save(vnode)
            self._table.remove(vnode)
            count += 1
        self._table.clear_shelf(volume)
        return count

    def evicted(self, vnode: Vnode) -> None:
        """A vnode is about to leave for want of room: its promise goes with it. Free of await.

        One for a whole volume stays, as others may rely on it.
        """
        self._save(vnode)
        if (
            vnode.server is not None
            and vnode.volume.type is VolumeType.RW
            and vnode.expires > trio.current_time()
        ):
            self._enqueue(vnode.server, vnode.fid)

    def _enqueue(self, server: FileServer, fid: Fid) -> None:
        self._queue.setdefault(server, {})[fid] = None
        if not self._wake.is_set():
            self._wake.set()
            self._done = trio.Event()

    async def settled(self) -> None:
        """Wait until there is nothing more to be given back."""
        await self._done.wait()

    def footprint(self, volume: Volume) -> Footprint:
        """What there is of a volume."""
        vnodes = self._table.on_shelf(volume)
        size = len(vnodes) * _VNODE_COST
        size += sum(vnode.directory.cost for vnode in vnodes if vnode.directory is not None)
        chunks = (vnode.data.chunks.values() for vnode in vnodes if vnode.data is not None)
        data = sum(len(chunk.buffer) for chunk in itertools.chain.from_iterable(chunks))
        return Footprint(len(vnodes), size, data)

    def close(self) -> None:
        """All promises are about to be given back at once."""
        self._queue.clear()
        self._done.set()

    async def run(self) -> None:
        """Give promises back until cancelled."""
        places = trio.CapacityLimiter(_CALLS)
        async with trio.open_nursery() as nursery:
            while True:
                await self._wake.wait()
                await trio.sleep(_GATHERING)
                while self._queue:
                    await places.acquire_on_behalf_of(token := object())
                    nursery.start_soon(self._give_up, places, token)
                self._wake = trio.Event()
                self._done.set()

    async def _give_up(self, places: trio.CapacityLimiter, token: object) -> None:
        """One call, for the server that has waited longest."""
        try:
            if self._queue:
                await self._call(*self._take())
        except Exception:  # a mistake of ours must not end this for ever
            log.exception("callbacks were not given back")
        finally:
            places.release_on_behalf_of(token)

    def _take(self) -> tuple[FileServer, list[Fid]]:
        """What goes into one call; what was asked for anew meanwhile stays."""
        server, waiting = next(iter(self._queue.items()))
        fids = list(itertools.islice(waiting, FIDS_MAX))
        for fid in fids:
            del waiting[fid]
        del self._queue[server]
        if waiting:
            self._queue[server] = waiting  # behind the others
        return server, [fid for fid in fids if not self._table.promised(fid)]

    async def _call(self, server: FileServer, fids: list[Fid]) -> None:
        if not fids:
            return
        with self._giving_back(fids):
            try:
                await self._client.give_up_callbacks(server, fids)
                self.given_up += len(fids)
            except AfsError as exc:
                log.debug("%d callbacks were not given back: %s", len(fids), exc)
