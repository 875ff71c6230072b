"""Looking up many names of one directory: statuses fetched in bulk before they are asked for.

A program that opens the files of a directory one after the other, by names that it knows, asks for
one status at a time. From the second such miss on, each call brings the statuses of other files
of the directory along, up to what a bulk call holds. Which ones is left to a cursor that goes
round the directory: in whatever order the program asks, the whole directory is there after as
many calls as a listing takes. Source: afs_DoBulkStat in OpenAFS, afs_do_lookup in Linux, which do
so at the first miss already.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from typing import TYPE_CHECKING

import trio

from afsfuse.errors import AfsError
from afsfuse.interfaces.common import FIDS_MAX, Fid

if TYPE_CHECKING:
    from afsfuse.auth.identity import Identity
    from afsfuse.cache import CacheManager, Directory, Vnode
    from afsfuse.cell.volumes import Volume

_COMPANIONS = FIDS_MAX - 2  # beside the file itself and the directory, which goes first
_SIZES = (0, 7, _COMPANIONS)  # companions of the first, second, and every further miss
_MEMORY = 5.0  # seconds after which a miss counts as the first again
_DIRECTORIES = 256  # directories whose misses are remembered
_STEPS = 1024  # entries looked at for one call


class _Walk:
    """The misses in one directory."""

    __slots__ = ("cursor", "latest", "misses")

    def __init__(self) -> None:
        self.misses = 0
        self.latest = 0.0
        self.cursor = 0
        """The slot where companions are taken from next."""


class LookAhead:
    """Fetches the status of a file and perhaps of others in its directory."""

    def __init__(self, cache: CacheManager) -> None:
        self._cache = cache
        self._walks: OrderedDict[tuple[str, Fid], _Walk] = OrderedDict()
        """By cell and directory: volumes are not to be kept."""

    async def status(
        self, volume: Volume, parent: Fid, directory: Directory, fid: Fid, who: Identity
    ) -> Vnode:
        """The vnode of `fid`, an entry of `directory`, with a status that is true now."""
        vnode = self._cache.peek(volume, fid)
        if vnode is not None and vnode.valid(trio.current_time()):
            return vnode
        companions = self._companions(volume, parent, directory, fid)
        if not companions:
            return await self._cache.status(volume, fid, who)
        found = (await self._cache.statuses(volume, parent, [fid, *companions], who))[0]
        if isinstance(found, AfsError):
            raise found.again()
        return found

    def _companions(self, volume: Volume, parent: Fid, directory: Directory, fid: Fid) -> list[Fid]:
        """Note a miss, and say what to ask for with it."""
        now = trio.current_time()
        key = (volume.cell.name, parent)
        walk = self._walks.pop(key, None) or _Walk()
        self._walks[key] = walk
        if len(self._walks) > _DIRECTORIES:
            self._walks.popitem(last=False)
        if now - walk.latest > _MEMORY:
            walk.misses = 0
        walk.latest = now
        wanted = _SIZES[min(walk.misses, len(_SIZES) - 1)]
        walk.misses += 1
        companions: list[Fid] = []
        if wanted:
            entries = itertools.islice(directory.entries_from(walk.cursor), _STEPS)
            walk.cursor = 0  # round again, unless there is more
            for slot, name, number, unique in entries:
                if len(companions) == wanted:
                    walk.cursor = slot
                    break
                other = Fid(fid.volume, number, unique)
                if name not in (b".", b"..") and other != fid and not self._known(volume, other):
                    companions.append(other)
        return companions

    def _known(self, volume: Volume, fid: Fid) -> bool:
        vnode = self._cache.peek(volume, fid)
        return vnode is not None and vnode.valid(trio.current_time())
