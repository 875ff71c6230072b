"""Looking at many files of one directory: statuses fetched in bulk before they are asked for.

A program that opens the files of a directory one after the other, by names that it knows, asks for
one status at a time; so does one that looks again at files whose promises have ended. From the
second such miss on, each call brings the statuses of other files of the directory along, up to what
a bulk call holds. Which ones is left to a cursor that goes round the directory: in whatever order
the program asks, the whole directory is there after as many calls as a listing takes. Source:
afs_DoBulkStat in OpenAFS, afs_do_lookup in Linux, which do so at the first miss already.

A server that promises nothing is asked for one file at a time: what it said of others would not
count any more when they are asked for.
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
_CALLS = 6  # under way in one directory, beyond which a file is asked for alone


class _Walk:
    """The misses in one directory."""

    __slots__ = ("calls", "cursor", "latest", "misses")

    def __init__(self) -> None:
        self.calls = 0
        """With companions, under way."""
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
        walk = self._walk(volume, parent)
        companions = self._companions(walk, volume, directory, fid)
        if companions:
            vnode = await self._with_companions(walk, volume, parent, [fid, *companions], who)
        else:
            vnode = await self._cache.status(volume, fid, who)
        if not vnode.valid(trio.current_time()):
            walk.misses = 0
        return vnode

    async def _with_companions(
        self, walk: _Walk, volume: Volume, parent: Fid, fids: list[Fid], who: Identity
    ) -> Vnode:
        """The vnode of the first of these."""
        walk.calls += 1
        try:
            found = (await self._cache.statuses(volume, parent, fids, who))[0]
        finally:
            walk.calls -= 1
        if isinstance(found, AfsError):
            raise found.again()
        return found

    def _walk(self, volume: Volume, parent: Fid) -> _Walk:
        """What is known of the misses in a directory."""
        key = (volume.cell.name, parent)
        walk = self._walks.pop(key, None) or _Walk()
        self._walks[key] = walk
        if len(self._walks) > _DIRECTORIES:
            self._walks.popitem(last=False)
        return walk

    def _companions(self, walk: _Walk, volume: Volume, directory: Directory, fid: Fid) -> list[Fid]:
        """Note a miss, and say what to ask for with it."""
        now = trio.current_time()
        if now - walk.latest > _MEMORY:
            walk.misses = 0
        walk.latest = now
        wanted = _SIZES[min(walk.misses, len(_SIZES) - 1)]
        walk.misses += 1
        companions: list[Fid] = []
        if wanted and walk.calls < _CALLS:
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
