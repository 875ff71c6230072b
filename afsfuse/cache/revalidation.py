"""After a break: find out in the background what really changed in what the kernel holds."""

from __future__ import annotations

import logging
from collections import Counter
from math import inf
from typing import TYPE_CHECKING

import trio

from afsfuse.cache.listener import NullListener
from afsfuse.cache.pacing import Pace
from afsfuse.cell.tables import compacted
from afsfuse.errors import AfsError
from afsfuse.interfaces.common import FIDS_MAX
from afsfuse.model import FileKind

if TYPE_CHECKING:
    from afsfuse.cache.listener import KernelListener
    from afsfuse.cache.listings import Listings
    from afsfuse.cache.statuses import StatusKeeper
    from afsfuse.cache.vnodes import Vnode
    from afsfuse.cell.servers import FileServer
    from afsfuse.cell.volumes import Volume
    from afsfuse.interfaces.common import Fid

log = logging.getLogger(__name__)

_AT_A_SERVER = 6  # bulk calls in flight for revalidation
_IN_A_VOLUME = 4  # ... of these: others on the server need not be busy because one is
_PATIENCE = 5.0
"""Seconds after which the kernel is not to believe any more what nobody has confirmed: a server may
be silent, or a volume busy."""
_FILES_MAX = 4096
"""Vnodes in the queue beyond which files are not asked about any more, but for by who uses them."""


class Revalidator:
    """A queue of vnodes whose promise was broken, worked off volume by volume, in bulk.

    A vnode that is broken again while it is being asked about is simply queued again: the status
    under way loses its promise by the break, so nothing is believed that the break made void. One
    that is broken all the time has to wait (`pacing`); meanwhile the kernel holds nothing of it,
    and comes to us with what it is asked for.

    So it is with what has not been answered for some seconds. And a server that does not answer, or
    a volume that is busy, holds up no other: each has so many calls to itself.

    So it is with files beyond a number, too. A server takes all promises back when it has no room
    for more of them. To ask about everything then would have it make them all again, and have to
    take them back for the next file that somebody looks at, for ever.
    """

    def __init__(self, statuses: StatusKeeper, listings: Listings) -> None:
        """Work happens in `run`; until then vnodes only queue."""
        self._statuses = statuses
        self._listings = listings
        self._queue: dict[Vnode, None] = {}
        self._later: dict[Vnode, float] = {}  # from when on it may be asked about, in that order
        self._since: dict[Vnode, float] = {}  # since when there is no answer, in that order
        self._at_server: Counter[FileServer | None] = Counter()  # groups under way
        self._in_volume: Counter[Volume] = Counter()
        self._pace = Pace()
        self._wake = trio.Event()
        self._listener: KernelListener = NullListener()
        self.revalidated = 0
        self.failed = 0
        self._closed = False

    def submit(self, vnode: Vnode) -> None:
        """Queue a vnode that the kernel holds. Free of await."""
        if self._closed:
            return
        now = trio.current_time()
        pause = self._pace.pause(vnode, now)
        if pause or vnode in self._later:
            self._distrust(vnode, self._listener)
            self._later.setdefault(vnode, now + pause)
        elif len(self._queue) >= _FILES_MAX and vnode.status.kind is not FileKind.DIRECTORY:
            self._distrust(vnode, self._listener)
            return
        else:
            self._queue[vnode] = None
            self._since.setdefault(vnode, now)
        self._wake.set()

    def close(self) -> None:
        """Ask about nothing any more: each answer would bring a new promise."""
        self._closed = True
        self._queue.clear()
        self._later.clear()
        self._since.clear()

    def forget(self, vnode: Vnode) -> None:
        """The vnode has left the table."""
        self._queue.pop(vnode, None)
        self._later.pop(vnode, None)
        self._since.pop(vnode, None)
        self._pace.forget(vnode)

    def compact(self) -> None:
        """Give back the room of what has been asked about."""
        self._queue = compacted(self._queue)
        self._later = compacted(self._later)
        self._since = compacted(self._since)
        self._pace.compact()

    def __len__(self) -> int:
        """Number of vnodes waiting."""
        return len(self._queue) + len(self._later)

    async def run(self, listener: KernelListener) -> None:
        """Revalidate until cancelled."""
        self._listener = listener
        async with trio.open_nursery() as nursery:
            while True:
                overdue = next(iter(self._since.values()), inf) + _PATIENCE
                with trio.move_on_at(min(overdue, next(iter(self._later.values()), inf))):
                    await self._wake.wait()
                self._wake = trio.Event()
                self._lose_patience()
                self._resume()
                while group := self._take_group():
                    nursery.start_soon(self._work, group, group[0].server, listener)

    def _lose_patience(self) -> None:
        """What nobody has confirmed in time is not to be believed until it is asked for."""
        now = trio.current_time()
        for vnode, since in list(self._since.items()):
            if since + _PATIENCE > now:  # in this way, as it was reckoned for the wait
                break
            del self._since[vnode]
            self._distrust(vnode, self._listener)

    def _resume(self) -> None:
        """Those that have waited long enough are next."""
        now = trio.current_time()
        for vnode, due in list(self._later.items()):
            if due > now:
                break
            del self._later[vnode]
            self._queue[vnode] = None

    def _take_group(self) -> list[Vnode]:
        """The first vnode that may be asked about now, with others of its volume, as many as one
        bulk call holds; none if all have to wait. The call is counted.

        They are asked for in the name of whoever asked last: nobody else may be told.
        """
        group: list[Vnode] = []
        for vnode in self._queue:
            if not group:
                if (
                    self._in_volume[vnode.volume] >= _IN_A_VOLUME
                    or self._at_server[vnode.server] >= _AT_A_SERVER
                ):
                    continue
                group.append(vnode)
            elif vnode.volume is group[0].volume and vnode.asked_by == group[0].asked_by:
                group.append(vnode)
                if len(group) == FIDS_MAX:
                    break
        if group:
            self._in_volume[group[0].volume] += 1
            self._at_server[group[0].server] += 1
        now = trio.current_time()
        for vnode in group:
            del self._queue[vnode]
            self._pace.asked(vnode, now)
        return group

    async def _work(
        self,
        group: list[Vnode],
        server: FileServer | None,
        listener: KernelListener,
    ) -> None:
        """Ask about one group, then compare what is new in its directories."""
        try:
            now = trio.current_time()
            found: dict[Fid, Vnode | AfsError] = {}
            is_valid = self._statuses.is_valid
            asked = [vnode for vnode in group if not is_valid(vnode, now)]
            if asked and asked[0].created:  # its answer may be one for the whole volume
                await self._ask(asked[:1], found)
                asked = [vnode for vnode in asked[1:] if not is_valid(vnode, now)]
            await self._ask(asked, found)
            for vnode in group:
                outcome = found.get(vnode.fid, vnode)
                if isinstance(outcome, AfsError):
                    self._give_up(vnode, outcome, listener)
                    continue
                self.revalidated += 1
                if vnode.valid(now):
                    self._queue.pop(vnode, None)  # queued by the new version that we just saw
                if vnode.status.kind is FileKind.DIRECTORY:
                    await self._compare(vnode, listener)
        except Exception:  # a mistake of ours must not end revalidation for ever
            log.exception("revalidation failed")
            self.failed += len(group)
            for vnode in group:
                self._distrust(vnode, listener)
        finally:
            self._answered(group, server)

    def _answered(self, group: list[Vnode], server: FileServer | None) -> None:
        """There is room for another group. Counters keep nothing of what is not under way."""
        for vnode in group:
            if vnode not in self._queue:
                self._since.pop(vnode, None)
        volume = group[0].volume
        self._in_volume[volume] -= 1
        self._at_server[server] -= 1
        if not self._in_volume[volume]:
            del self._in_volume[volume]
        if not self._at_server[server]:
            del self._at_server[server]
        self._wake.set()

    async def _ask(self, group: list[Vnode], found: dict[Fid, Vnode | AfsError]) -> None:
        if group:
            fids = [vnode.fid for vnode in group]
            await self._statuses.refresh(group[0].volume, None, fids, found, group[0].asked_by)

    async def _compare(self, vnode: Vnode, listener: KernelListener) -> None:
        """Fetch a directory anew if its version moved; installing it tells the difference."""
        known = vnode.directory
        version = vnode.evicted_version if known is None else known.data_version
        if version is None or version == vnode.status.data_version:
            return  # nobody has seen its names, or they are still the same
        try:
            await self._listings.directory(vnode.volume, vnode.fid, listener, vnode.asked_by)
        except AfsError as exc:
            self._give_up(vnode, exc, listener)

    def _give_up(self, vnode: Vnode, error: AfsError, listener: KernelListener) -> None:
        """It cannot be found out, so nothing that the kernel holds of it may stay."""
        log.debug("cannot revalidate %r: %s", vnode, error)
        self.failed += 1
        self._distrust(vnode, listener)

    def _distrust(self, vnode: Vnode, listener: KernelListener) -> None:
        """Have the kernel drop all it holds of a vnode."""
        if vnode.status.kind is FileKind.DIRECTORY:
            listener.names_changed(vnode, None)
        else:
            listener.data_changed(vnode)
