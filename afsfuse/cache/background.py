"""Fetches that nobody has asked for yet: read-ahead of sequential readers, small files at open."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import trio

from afsfuse.cache.readahead import FIRST_READ, LEAST_SHORT_CALL, ReadState
from afsfuse.cache.tasks import Tasks
from afsfuse.fileserver.transfers import SMALL
from afsfuse.model import FileKind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from afsfuse.auth.identity import Identity
    from afsfuse.cache.chunks import FileData, Run
    from afsfuse.cache.fetching import Fetcher
    from afsfuse.cache.readahead import Pace
    from afsfuse.cache.vnodes import Vnode

log = logging.getLogger(__name__)

_SLOW = 0.03  # seconds in which a first read has usually ended
_MEANWHILE = 16 << 20  # bytes to read ahead of one that has not ended
_LOOKS = 8  # whether that is so, each after twice the time of the one before
_ACTIVE = 5.0  # seconds: a stream that has not been read for longer shares no read-ahead memory


class ReadAhead(Tasks):
    """Runs fetches in the background, within bounds for each reader, server and the whole store."""

    def __init__(self, fetcher: Fetcher) -> None:
        """Without `run` nothing is fetched in the background."""
        super().__init__()
        self._fetcher = fetcher
        self._store = fetcher.store
        self._streams: set[ReadState] = set()  # those that may have a window open
        self._bytes = 0  # being fetched in the background

    def prefetch(self, vnodes: Iterable[Vnode], who: Identity) -> None:
        """Fetch small files of one volume before anybody asks; never waits or fails."""
        if self._nursery is None:
            return
        now = trio.current_time()
        together: list[Run] = []
        for vnode in vnodes:
            length = vnode.status.length
            if (
                not 0 < length <= FIRST_READ
                or vnode.status.kind is not FileKind.FILE
                or not vnode.valid(now)
            ):
                continue
            file = self._store.open(vnode)
            pace = self._fetcher.pace(vnode.server)
            if file.known(0) or pace.in_flight + len(together) >= pace.most:
                continue
            run = self._fetcher.plan(file, 0, (length - 1) >> self._store.shift, who)
            if length <= SMALL:
                together.append(run)
            else:
                self._start(run, pace, ReadState())
        if together:
            self._start_together(together)

    def _start_together(self, runs: list[Run]) -> None:
        """Fetch small files of one volume in the background, in one task."""
        assert self._nursery is not None
        pace = self._fetcher.pace(runs[0].file.vnode.server)
        for run in runs:
            self._count(run, pace, 1)
        self._fetcher.counters.ahead_fetches += len(runs)
        self._nursery.start_soon(self._fetch_together, runs, pace)

    async def _fetch_together(self, runs: list[Run], pace: Pace) -> None:
        try:
            await self._fetcher.fetch_small(runs, lambda run: self._count(run, pace, -1))
        except Exception:  # a mistake of ours must not end read-ahead for ever
            log.exception("a fetch in the background failed")

    def _count(self, run: Run, pace: Pace, step: int) -> None:
        """A fetch begins (1) or has ended (-1)."""
        pace.in_flight += step
        self._bytes += step * run.count << self._store.shift

    def close(self, stream: ReadState) -> None:
        """The open file is closed: it takes no more part in the share of memory."""
        stream.window = 0
        self._streams.discard(stream)

    def note(self, stream: ReadState, file: FileData, offset: int, end: int) -> None:
        """Note a read, and start the fetches that keep a sequential reader from waiting."""
        pace = self._fetcher.pace(file.vnode.server)
        stream.note(offset, end, pace.window(), wide=pace.loss > 0)
        if stream.run == 1 and end - offset > FIRST_READ and end < file.length and self._nursery:
            self._nursery.start_soon(self._watch, stream, file, pace)
        if pace.much_loss:
            self._share_out(stream, file, offset, end, pace)
        if stream.window:
            self._use(stream)
            # The reader fetches the chunks of this read itself.
            stream.edge = max(
                stream.edge, ((end - 1 >> self._store.shift) + 1) << self._store.shift
            )
            self._extend(stream, file, pace)

    def _share_out(
        self, stream: ReadState, file: FileData, offset: int, end: int, pace: Pace
    ) -> None:
        """Where packets are lost have several calls fetch what is being read. Free of await."""
        shift = self._store.shift
        step = max(LEAST_SHORT_CALL >> shift, 1)
        last = min(end - 1, file.length - 1) >> shift
        if last - (offset >> shift) < step:
            return  # one call will do, the reader's own
        for first in range(offset >> shift, last + 1, step):
            if file.known(first) or not self._room(pace):
                continue
            run = self._fetcher.plan(file, first, min(first + step - 1, last), stream.who)
            self._start(run, pace, stream)

    async def _watch(self, stream: ReadState, file: FileData, pace: Pace) -> None:
        """Where packets are lost the first large read of a file takes long: go on meanwhile.

        Before its end no call says anything of the line; but by its packets something is known.
        """
        for doublings in range(_LOOKS):
            await trio.sleep(_SLOW * 2**doublings)
            if stream.run != 1 or stream.position - 1 >> self._store.shift not in file.runs:
                return  # nobody waits any more
            if self._fetcher.notice_losses(file.vnode.server):
                stream.window = min(pace.window(), _MEANWHILE)
                self._use(stream)
                self._extend(stream, file, pace)
                return

    def _use(self, stream: ReadState) -> None:
        """A reader with an open window takes its part in the share of memory."""
        stream.last_used = trio.current_time()
        self._streams.add(stream)

    def _extend(self, stream: ReadState, file: FileData, pace: Pace) -> None:
        """Start as many calls as the window of a reader has room for. Free of await."""
        shift = self._store.shift
        window = min(stream.window, self._share())
        size = stream.call_size(pace, window)
        limit = stream.position + window
        while stream.edge < min(limit, file.length):
            reach = min(stream.edge + size, file.length)
            if reach > limit and reach < file.length:
                return  # no room for a call of full size yet
            first = stream.edge >> shift
            last = (reach - 1) >> shift
            while first <= last and file.known(first):
                first += 1
            if first <= last:
                if stream.in_flight >= int(pace.calls) or not self._room(pace):
                    return
                run = self._fetcher.plan(file, first, last, stream.who)
                self._start(run, pace, stream)
                last = run.first + run.count - 1
            stream.edge = (last + 1) << shift

    def _room(self, pace: Pace) -> bool:
        """Whether one more call may be sent ahead of readers."""
        return (
            self._nursery is not None
            and pace.in_flight < pace.most
            and self._bytes < self._store.limit // 2
        )

    def _share(self) -> int:
        """How many bytes a stream may have ahead of it: half the store for all of them."""
        if len(self._streams) > 1:
            oldest = trio.current_time() - _ACTIVE
            self._streams = {s for s in self._streams if s.last_used > oldest}
        return self._store.limit // (2 * max(1, len(self._streams)))

    def _start(self, run: Run, pace: Pace, stream: ReadState) -> None:
        """Fetch a run in the background."""
        assert self._nursery is not None
        self._count(run, pace, 1)
        stream.in_flight += 1
        self._fetcher.counters.ahead_fetches += 1
        self._nursery.start_soon(self._fetch, run, pace, stream)

    async def _fetch(self, run: Run, pace: Pace, stream: ReadState) -> None:
        """One background fetch, and then the next. Who needs what did not come asks again."""
        try:
            await self._fetcher.fetch(run)
        except Exception:  # a mistake of ours must not end read-ahead for ever
            log.exception("a fetch in the background failed")
        finally:
            self._count(run, pace, -1)
            stream.in_flight -= 1
        # The reader may be waiting for an earlier call still; the line need not.
        if run.chunks and stream.window and run.file.vnode.data is run.file:
            self._extend(stream, run.file, pace)
