"""Forgetting what is cached, because somebody says so.

Promises end, statuses and directories are asked for anew, and data is fetched again, be it in
memory or on the disk. What was written and is not stored yet is not given up by that, nor the data
under it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from afsfuse.cache.chunks import ChunkStore
    from afsfuse.cache.disk import NoDisk
    from afsfuse.cache.vnodes import Vnode, VnodeTable
    from afsfuse.cell.volumes import Volume


_AT_ONCE = 256  # vnodes: the index of the disk is asked about each file


class Flusher:
    """Forgets, and says how much room there is."""

    def __init__(
        self,
        table: VnodeTable,
        store: ChunkStore,
        disk: NoDisk,
        doubt: Callable[[Vnode, bool], None],
    ) -> None:
        """`doubt` ends all that is believed of a vnode; its second argument says whether versions
        can still be compared.
        """
        self._table = table
        self._store = store
        self._disk = disk
        self._doubt = doubt
        self._first_limits = store.limit, disk.statistics().limit
        self.left = 0
        """How many vnodes are still to be forgotten, of those that are being forgotten now."""

    def flush(self, vnodes: Iterable[Vnode]) -> int:
        """Forget what is known of these. Free of await.

        Returns for how many data is kept, since some of it waits to be stored.
        """
        kept = 0
        for vnode in list(vnodes):
            if vnode.dirty is not None:
                kept += 1
                self._doubt(vnode, True)
                continue
            status = vnode.status
            file = vnode.data or self._store.data_of(vnode, status.data_version, status.length)
            file.disk.drop()
            self._doubt(vnode, False)
        return kept

    async def flush_volume(self, volume: Volume) -> int:
        """The same for all of a volume, with a breath now and then."""
        return await self._flush_many(self._table.on_shelf(volume))

    async def flush_all(self) -> int:
        """The same for everything."""
        return await self._flush_many(list(self._table))

    async def _flush_many(self, vnodes: list[Vnode]) -> int:
        kept, left = 0, len(vnodes)
        self.left += left
        try:
            for start in range(0, len(vnodes), _AT_ONCE):
                some = vnodes[start : start + _AT_ONCE]
                kept += self.flush(some)
                self.left -= len(some)
                left -= len(some)
                await trio.lowlevel.checkpoint()
        finally:
            self.left -= left  # whoever asked for it has gone
        return kept

    @property
    def on_disk(self) -> bool:
        """Whether the cache has a limit on the disk, which is then the one that counts."""
        return self._disk.statistics().limit > 0

    @property
    def limit(self) -> int:
        """How many bytes of data are kept at most."""
        return self._disk.statistics().limit or self._store.limit

    @property
    def used(self) -> int:
        """Bytes of data that are there."""
        return self._disk.statistics().used if self.on_disk else self._store.used

    @property
    def first_limit(self) -> int:
        """The limit with which the cache was started."""
        in_memory, on_disk = self._first_limits
        return on_disk if self.on_disk else in_memory

    def resize(self, limit: int) -> None:
        """Keep at most so many bytes from now on. On the disk the rest goes in the background."""
        if self.on_disk:
            self._disk.resize(limit)
        else:
            self._store.limit = limit
            self._store.reserve(0)
