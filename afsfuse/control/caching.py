"""The cache: forgetting what is in it, and its size."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from afsfuse.cell.sharing import Rounds, RoundsOfEach
from afsfuse.control.verbs import require_owner
from afsfuse.errors import ControlRefused

if TYPE_CHECKING:
    from afsfuse.control.paths import Paths
    from afsfuse.control.verbs import Peer, Request, Verb
    from afsfuse.vfs.forgetting import Forgetting

log = logging.getLogger(__name__)

LEAST = 8 << 20
"""Bytes: with less a few readers would push out each other's data before they have read it."""
ALL_PAUSE, VOLUME_PAUSE = 30.0, 5.0
"""Seconds between two times at which all, or a volume, is forgotten for those who own nothing."""


class CacheVerbs:
    """Answers for one mount. Forgetting costs everybody a round trip and nobody any data: whoever
    may see a path may have it forgotten, and everybody may have all of it. But those who neither
    are root nor run the daemon share that with all who ask meanwhile, and wait until the next time
    comes: else any of them could keep the cache empty for everybody.
    """

    def __init__(self, paths: Paths, forgetting: Forgetting) -> None:
        self._forgetting = forgetting
        self._paths = paths
        self._cache = paths.mounted.cache
        flusher = self._cache.flusher
        self._rounds = Rounds(flusher.flush_all, ALL_PAUSE)
        self._rounds_of_volumes = RoundsOfEach(flusher.flush_volume, VOLUME_PAUSE)
        self.verbs: dict[str, Verb] = {
            "flush": self._flush,
            "flush-volume": self._flush_volume,
            "flush-all": self._flush_all,
            "cache-size": self._size,
        }

    async def _flush(self, request: Request, peer: Peer) -> dict[str, Any]:
        found = await self._paths.find(request, peer)
        return await self._settled(self._cache.flusher.flush([found.vnode]))

    async def _flush_volume(self, request: Request, peer: Peer) -> dict[str, Any]:
        found = await self._paths.find(request, peer)
        volume = found.mount.volume
        if peer.owns_daemon:
            return await self._settled(await self._cache.flusher.flush_volume(volume))
        return await self._settled(await self._rounds_of_volumes.next(volume))

    async def _flush_all(self, request: Request, peer: Peer) -> dict[str, Any]:
        if peer.owns_daemon:
            return await self._settled(await self._cache.flusher.flush_all())
        return await self._settled(await self._rounds.next())

    async def _settled(self, unstored: int) -> dict[str, Any]:
        """The answer, when the kernel has let go as well; for how many files data is kept."""
        await self._forgetting.settled()
        return {"unstored": unstored}

    async def _size(self, request: Request, peer: Peer) -> dict[str, Any]:
        """Sizes in bytes; with `limit` set it, where 0 is what it was at the start."""
        flusher = self._cache.flusher
        if "limit" in request:
            require_owner(peer, "set the size of the cache")
            limit = request["limit"] or flusher.first_limit
            if not isinstance(limit, int) or limit < LEAST:
                raise ControlRefused(f"the cache has {LEAST >> 10} KiB at least")
            flusher.resize(limit)
            log.info("the limit of the cache is %d KiB now", limit >> 10)
        figures = self._cache.statistics()
        return {
            "limit": flusher.limit,
            "used": flusher.used,
            "on_disk": flusher.on_disk,
            "files": figures.vnodes,
            "chunks": figures.chunks,
            "memory": figures.data_bytes,
            "unstored": figures.dirty_bytes,
            "evicted": figures.chunks_evicted,
            "forgetting": flusher.left,
        }
