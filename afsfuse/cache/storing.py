"""Storing dirty data: calls under way, what their replies mean, and what is tried again when.

Stores of one file go out up to `IN_FLIGHT` at a time, those of different files side by side. Each
of them makes a data version. As long as the versions in the replies are those that our own calls
must have made, one by one, all chunks that we have of the file are still good and the stored
extents become chunks, too. Replies can come out of order: one that is early waits for those before.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

import trio

from afsfuse.cache.dirty import trouble
from afsfuse.cache.journal import JournalLost
from afsfuse.cache.tasks import Tasks
from afsfuse.errors import AfsError, DataCorrupt
from afsfuse.fileserver.changes import StatusChange
from afsfuse.model import FileKind

if TYPE_CHECKING:
    from collections.abc import Callable

    from afsfuse.cache.callbacks import BreakLog
    from afsfuse.cache.chunks import ChunkStore
    from afsfuse.cache.dirty import DirtyFile, Flight
    from afsfuse.cache.extents import Extent
    from afsfuse.cache.journal import Journal
    from afsfuse.cache.vnodes import Vnode
    from afsfuse.fileserver.client import FileServerClient
    from afsfuse.fileserver.replies import ChangeReply

log = logging.getLogger(__name__)

IN_FLIGHT = 2
"""Stores of one file under way."""
CALL_SIZE = 4 << 20
"""Bytes of one store."""


class StoreCounters:
    """What stores did, since the start."""

    def __init__(self) -> None:
        self.written_bytes = 0  # that writers gave us
        self.stores = 0
        self.stored_bytes = 0
        self.failures = 0
        self.conflicts = 0  # times that somebody else was seen to store in between


def _check(file: DirtyFile, reply: ChangeReply) -> None:
    """Raise `DataCorrupt` for a status that the file cannot have after this store."""
    if (reply.status.kind is FileKind.FILE) is not (file.vnode.status.kind is FileKind.FILE):
        raise DataCorrupt(f"a server says that {file.path} has become another kind of file")


class Storer(Tasks):
    """Sends flights, and accounts for what became of them."""

    def __init__(
        self,
        client: FileServerClient,
        log: BreakLog,
        store: ChunkStore,
        journal: Journal,
        *,
        data_lost: Callable[[Vnode], None],
        version_stored: Callable[[Vnode, int], None],
        ended: Callable[[DirtyFile], None],
    ) -> None:
        """`data_lost` drops what is cached of a vnode's data and tells the kernel;
        `version_stored` hears of versions that we made ourselves, with the one before;
        `ended` is called when a flight is over, whatever its outcome.
        """
        super().__init__()
        self.counters = StoreCounters()
        self.journal = journal
        self._client = client
        self._log = log
        self._store = store
        self.data_lost = data_lost
        self._version_stored = version_stored
        self._ended = ended

    # Sending

    def begin(self, flight: Flight) -> None:
        """The flight is about to be sent: whoever calls must `fly` it. Free of await."""
        flight.safe = flight.file.safe > 0
        flight.mark = self.journal.mark()
        for extent in flight.extents:
            extent.flight = flight
            if isinstance(extent.data, bytearray):
                extent.data = memoryview(extent.data)  # nothing is gathered in it any more
        flight.file.flights.append(flight)
        flight.file.reach = max(flight.file.reach, flight.end)

    def send(self, flight: Flight) -> None:
        """Send a flight in the background. Free of await."""
        assert self._nursery is not None
        self.begin(flight)
        self._nursery.start_soon(self._send, flight)

    def pump(self, file: DirtyFile, *, everything: bool) -> None:
        """Send what there is to send, as many calls as may be under way. Free of await."""
        if self._nursery is None:
            return
        while len(file.flights) < IN_FLIGHT:
            flight = file.next_flight(CALL_SIZE, everything=everything)
            if flight is None:
                return
            self.send(flight)

    async def _send(self, flight: Flight) -> None:
        try:
            await self.fly(flight)
        except Exception:  # a mistake of ours must not end storing for ever
            log.exception("a store failed: a bug")

    async def fly(self, flight: Flight) -> None:
        """Send a flight that has begun, in this task. What became of it is in its file."""
        file = flight.file
        ticket = self._log.begin()
        failure: AfsError | None = AfsError("the store was not finished")
        try:
            reply = await self._call(flight)
            _check(file, reply)
            file.flights.remove(flight)
            self._landed(flight, reply, ticket)
            failure = None
        except AfsError as exc:
            failure = exc
        except trio.Cancelled:
            failure = None
            self._lost(flight)
            raise
        finally:
            self._log.end()
            if failure is not None:
                self._failed(flight, failure)
            flight.extents = []  # a circle would keep megabytes until it is found
            if not file.flights:
                self._settle_versions(file)
            file.moved()
            self._ended(file)

    async def _call(self, flight: Flight) -> ChangeReply:
        file = flight.file
        vnode = file.vnode
        changes = self._client.changes
        self.counters.stores += 1
        if flight.stamp is not None:
            change = StatusChange(mtime=flight.stamp.value, safe=flight.safe)
            return await changes.store_status(vnode.volume, vnode.fid, change, flight.who)
        buffers = [extent.view(self.journal) for extent in flight.extents]
        return await changes.store_data(
            vnode.volume,
            vnode.fid,
            flight.position,
            buffers,
            file.file_length(flight),
            flight.who,
            StatusChange(mtime=file.mtime, safe=flight.safe),
        )

    # Outcomes: all of this is free of await

    def _landed(self, flight: Flight, reply: ChangeReply, ticket: int) -> None:
        """The server has it."""
        file = flight.file
        self.counters.stored_bytes += flight.size
        if file.trouble.pop(flight.who, None) is not None:
            log.info("%s: can be stored again", file.path)
        file.vnode.unsafe = 0 if flight.safe and not file.flights else self._log.now
        version = reply.status.data_version
        if flight.stamp is not None:
            if file.stamp is flight.stamp:
                file.stamp = None
            if version == file.vnode.status.data_version:
                file.vnode.status = reply.status
            return
        file.early[version] = (flight, reply, ticket)
        while not file.foreign and file.base + 1 in file.early:
            self._accept(file, *file.early.pop(file.base + 1))

    def _accept(self, file: DirtyFile, flight: Flight, reply: ChangeReply, ticket: int) -> None:
        """The next version is one that we made ourselves, with nothing but this flight."""
        vnode = file.vnode
        status = reply.status
        before = file.base
        file.base = status.data_version
        data = vnode.data
        if data is not None and data.data_version != before:
            self._store.drop(data)
            data = None
        if data is None:
            length = min(vnode.status.length, status.length)
            data = vnode.data = self._store.data_of(vnode, before, length)
        if flight.cut is not None:
            self._store.cut(data, flight.cut.value)
        self._store.cut(data, status.length)
        try:
            pieces = [
                (extent.start, extent.view(self.journal)[: status.length - extent.start])
                for extent in self._remove(flight)
                if extent.start < status.length
            ]
        except JournalLost as exc:  # the server has got them; we have not, any more
            log.debug("%s: %s", file.path, exc)
            self._store.drop(data)
            vnode.data = None
        else:
            # What was written over since is on the server all the same, under what lies over it.
            span = flight.position, min(flight.end, status.length)
            self._store.advance(data, status.data_version, status.length, pieces, span)
        self._enter(vnode, reply, ticket)
        self._version_stored(vnode, before)
        self._note_changes(file, flight)
        self._tell_journal(file, flight)

    def _enter(self, vnode: Vnode, reply: ChangeReply, ticket: int) -> None:
        """The status that a change has brought, which is newer than what is known."""
        vnode.status = reply.status
        vnode.ticket = ticket
        vnode.applied = self._log.now
        vnode.used = True

    def _remove(self, flight: Flight) -> list[Extent]:
        """Take what a flight carried out of the file; returns what of it nobody has overwritten."""
        extents = flight.file.extents
        done = [
            extent
            for extent in extents.between(flight.position, flight.end)
            if extent.flight is flight
        ]
        for extent in done:
            extents.drop(extent)
        return done

    def _note_changes(self, file: DirtyFile, flight: Flight) -> None:
        """What a flight has told the server of the file's length is told."""
        if flight.cut is not None and file.cut is flight.cut:
            file.cut = None
        grow = file.grow
        if grow is not None and file.cut is None and file.base_end >= grow.value:
            file.grow = None
        stamp = file.stamp
        if stamp is not None and not file.extents and stamp.value == file.vnode.status.mtime:
            file.stamp = None

    def _tell_journal(self, file: DirtyFile, flight: Flight) -> None:
        """What a flight carried need not be stored by the next daemon, in whatever name."""
        version = file.vnode.status.data_version
        others = [file.key(who) for who in file.keys if who != flight.who]
        for key in others:
            self.journal.stored(key, 0, 0, flight.mark, version)
        key = file.key(flight.who)
        self.journal.stored(key, flight.position, flight.end, flight.mark, version, others)

    def _failed(self, flight: Flight, error: AfsError) -> None:
        """It could not be stored: the data stays, and is tried again."""
        file = flight.file
        self.counters.failures += 1
        self._lost(flight)
        if flight.given_up:
            return
        now = trio.current_time()
        known = file.trouble.get(flight.who)
        if known is None:
            file.trouble[flight.who] = trouble(error, now, time.time())
            log.warning(
                "%s: %d bytes cannot be stored, and are kept: %s",
                file.path, file.extents.size, error,
            )  # fmt: skip
        elif not known.waiting:  # of two flights the first one counts
            known.again(error, now)

    def _lost(self, flight: Flight) -> None:
        """A flight is over, and nobody knows what of it the server has."""
        file = flight.file
        if flight in file.flights:
            file.flights.remove(flight)
        for extent in file.extents.between(flight.position, flight.end) if flight.size else ():
            if extent.flight is flight:
                extent.flight = None
        cut = None if flight.given_up else flight.cut
        if cut is not None and (file.cut is None or file.cut.value > cut.value):
            file.cut = cut  # what the file was cut to since does not stand for it
        file.unsure = True
        file.unsure_since = self._log.now

    def _settle_versions(self, file: DirtyFile) -> None:
        """No flight is under way: what is known of versions now is all that can be known."""
        vnode = file.vnode
        if not (file.early or file.foreign or file.unsure):
            return
        if file.unsure:
            vnode.void()  # of our own changes the server tells us nothing
        else:
            self.conflict(file)
        for version in sorted(file.early):
            flight, reply, ticket = file.early.pop(version)
            self._remove(flight)
            if version > vnode.status.data_version:
                self._enter(vnode, reply, ticket)
            self._note_changes(file, flight)
            self._tell_journal(file, flight)
        file.base = vnode.status.data_version
        file.foreign = False
        self.data_lost(vnode)

    def version_moved(self, file: DirtyFile) -> None:
        """A status names another version than the one known before; we have made none of them."""
        if file.flights:
            return  # see `_settle_versions`
        if not file.unsure:
            self.conflict(file)
        elif file.vnode.ticket > file.unsure_since:
            file.unsure = False
        file.base = file.vnode.status.data_version

    def conflict(self, file: DirtyFile) -> None:
        """Somebody else has stored in a file of which we have changes. Say so if bytes mix."""
        self.counters.conflicts += 1
        if not file.warned and file.mixes(self._store.chunk_size):
            file.warned = True
            log.warning(
                "%s: another client has changed the file while it is being written here: each "
                "range of it has what was stored last, and the whole may be of both",
                file.path,
            )
