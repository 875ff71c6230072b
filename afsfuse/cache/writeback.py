"""Writing: changes are kept in memory, and stored behind the writer's back or when he asks.

What is written is shown to readers at once. It is stored as soon as there is much of it, and at
the latest when a file is closed; `settle` tells its caller the truth about that. What cannot be
stored is kept, tried again, and listed by `unstored`; only a person gives it up (`discard`).
"""

from __future__ import annotations

import logging
import math
import time
from typing import TYPE_CHECKING, NamedTuple

import trio

from afsfuse.cache.dirty import Change, DirtyFile, too_much
from afsfuse.cache.journal import path_after
from afsfuse.cache.storing import CALL_SIZE, Storer
from afsfuse.errors import AfsError
from afsfuse.fileserver.changes import StatusChange

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from afsfuse.auth.identity import Identity
    from afsfuse.cache.callbacks import BreakLog
    from afsfuse.cache.chunks import ChunkStore
    from afsfuse.cache.dirty import Trouble
    from afsfuse.cache.journal import Journal
    from afsfuse.cache.vnodes import Vnode
    from afsfuse.cell.volumes import Volume
    from afsfuse.fileserver.client import FileServerClient

log = logging.getLogger(__name__)

_PATIENCE = 1.0  # seconds after a failure for which a writer gets it without another try
_LAST_PAUSE = 2.0  # seconds between two tries when the time for them ends soon


class Unstored(NamedTuple):
    """What of one file is not on its server, in one name."""

    path: str
    cell: str
    volume: str
    volume_id: int
    who: Identity
    size: int
    """Bytes."""
    since: float
    """Unix time of the first change that is not stored."""
    error: str | None
    """Why not; None while nothing has failed."""
    next_try: float | None
    """Seconds from now until it is tried again."""


class Writer:
    """One handle that writes a file: told of data that was given up."""

    __slots__ = ("lost", "who", "wrote")

    def __init__(self, who: Identity) -> None:
        self.who = who
        self.wrote = False
        """Whether anything was written or cut through it since it was last settled."""
        self.lost: AfsError | None = None
        """What its next `settle` is told, once."""


class Writes:
    """All changes that are not stored yet."""

    def __init__(
        self,
        client: FileServerClient,
        breaks: BreakLog,
        store: ChunkStore,
        journal: Journal,
        limit: int,
        *,
        data_lost: Callable[[Vnode], None],
        version_stored: Callable[[Vnode, int], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Keep at most `limit` bytes in memory; see `Storer` for the callables."""
        self.limit = limit
        self.used = 0
        """Bytes in memory."""
        self._storer = Storer(
            client,
            breaks,
            store,
            journal,
            data_lost=data_lost,
            version_stored=version_stored,
            ended=self._flight_ended,
        )
        self.counters = self._storer.counters
        self._client = client
        self._breaks = breaks
        self._journal = journal
        self._clock = clock
        self._files: dict[DirtyFile, set[Writer]] = {}
        self._accounted: dict[DirtyFile, int] = {}
        self._room = trio.Event()
        self._retry = trio.Event()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Store in the background, and try again what failed, until cancelled."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self._storer.run)
            task_status.started()
            while True:
                self._retry = trio.Event()
                with trio.move_on_at(self._try_again()):
                    await self._retry.wait()

    def _try_again(self) -> float:
        """Try what is due; returns when something is due next."""
        now, due = trio.current_time(), math.inf
        for file in list(self._files):
            for trouble in file.trouble.values():
                if trouble.waiting and trouble.next_try <= now:
                    trouble.waiting = False
                    self.rush(file)
                elif trouble.waiting:
                    due = min(due, trouble.next_try)
        return due

    # What writers do: free of await

    def write(
        self, vnode: Vnode, offset: int, data: bytes, writer: Writer, path: Callable[[], str]
    ) -> None:
        """Keep what was written. Whether there is room is asked before (`has_room`)."""
        file = self._change(vnode, writer, path)
        token = self._journal.written(file.key(writer.who), offset, data)
        file.sequence += 1
        file.extents.write(offset, data, writer.who, file.sequence, token)
        file.mtime = int(self._clock())
        file.stamp = None
        self.counters.written_bytes += len(data)
        self._account(file)
        if file.extents.size >= CALL_SIZE:
            self._storer.pump(file, everything=False)
            if 2 * self.used > self.limit and not file.flights:
                self.rush(file)  # there is no long run in it, nor will there be

    def truncate(self, vnode: Vnode, length: int, writer: Writer, path: Callable[[], str]) -> None:
        """Give the file another length."""
        known = vnode.status.length if vnode.dirty is None else vnode.dirty.length
        if length == known:
            return
        file = self._change(vnode, writer, path)
        file.truncate(length, writer.who)
        file.mtime = int(self._clock())
        file.stamp = None
        for who in file.keys:
            self._journal.resized(file.key(who), length)
        self._account(file)
        self._end_if_clean(file)

    def stamp(self, vnode: Vnode, mtime: int, who: Identity) -> bool:
        """Set the time of a file that is to be stored anyway, in this name alone; else False."""
        file = vnode.dirty
        if file is None or file.owners() - {who}:
            return False
        file.sequence += 1
        file.mtime = mtime
        file.stamp = Change(mtime, who, file.sequence)
        return True

    def _change(self, vnode: Vnode, writer: Writer, path: Callable[[], str]) -> DirtyFile:
        """The file of a vnode that is about to be changed."""
        writer.wrote = True
        file = vnode.dirty
        if file is None:
            file = vnode.dirty = DirtyFile(vnode, path(), self._clock())
            self._files[file] = set()
            self._accounted[file] = 0
        self._files[file].add(writer)
        if writer.who not in file.keys:
            file.keys.add(writer.who)
            key = file.key(writer.who)
            self._journal.opened(key, file.base, file.length, file.path)
        return file

    def renamed(self, old: Callable[[], str], new: Callable[[], str]) -> None:
        """Something was moved: what is not stored of it, or below it, goes by its new path."""
        if not self._files and not self._journal.recovered():
            return
        before, now = old(), new()
        for file in self._files:
            file.path = path_after(file.path, before, now)
        self._journal.renamed(before, now)

    # Room

    def has_room(self, vnode: Vnode, size: int, who: Identity) -> bool:
        """Whether so many bytes more may be written now."""
        if self.used + size > self.limit:
            return False
        return vnode.dirty is None or who not in vnode.dirty.trouble

    async def make_room(self, vnode: Vnode, size: int, who: Identity) -> None:
        """Wait until so many bytes may be written.

        Raises what keeps the file from being stored: nothing is added to what cannot be stored.
        ENOSPC if memory is full of what cannot be stored of other files; that may pass if it only
        waits for servers.
        """
        while True:
            file = vnode.dirty
            trouble = None if file is None else file.trouble.get(who)
            if file is not None and trouble is not None:
                await self._settle_trouble(file, trouble, who)
                file.trouble.pop(who, None)
            elif self.used + size <= self.limit:
                return
            else:
                for other in list(self._files):
                    self.rush(other)
                if any(other.flights for other in self._files):
                    await self._room.wait()
                elif not self._spill():
                    raise too_much(self._files)

    async def _settle_trouble(self, file: DirtyFile, trouble: Trouble, who: Identity) -> None:
        """Raise what a file's last store failed with, or try it again if that was a while ago."""
        if trouble.waiting and trio.current_time() < trouble.next_try - trouble.pause + _PATIENCE:
            raise trouble.error.again()
        await self._stored(file, who, file.sequence)

    def _spill(self) -> bool:
        """Leave to the journal what cannot be stored now; whether that made room."""
        freed = 0
        for file in self._files:
            if not file.trouble:
                continue
            for extent in file.extents:
                if extent.flight is not None or extent.data is None:
                    continue
                if extent.token is None:
                    key = file.key(extent.who)
                    extent.token = self._journal.written(key, extent.start, extent.data)
                    extent.skip = 0
                if extent.token is not None:
                    freed += file.extents.forget_bytes(extent)
            self._account(file)
        return freed > 0

    def _account(self, file: DirtyFile) -> None:
        self.used += file.extents.memory - self._accounted[file]
        self._accounted[file] = file.extents.memory

    # Storing

    async def settle(self, vnode: Vnode, writer: Writer, *, safe: bool = False) -> None:
        """Return when all that was done to a file in a writer's name is on its server.

        With `safe` on its disk. Raises `AfsError` if it cannot be stored, or was given up; the
        data is kept, and tried again. A caller that is cancelled leaves the work to the background.
        """
        file = vnode.dirty
        writer.wrote = False
        if file is not None:
            file.safe += safe
            try:
                await self._stored(file, writer.who, file.sequence)
            except BaseException:
                writer.wrote = True
                raise
            finally:
                file.safe -= safe
        lost, writer.lost = writer.lost, None
        if lost is not None:
            raise lost
        if safe and (stored := vnode.unsafe):
            await self.set_status(vnode, StatusChange(safe=True), writer.who)
            if vnode.unsafe == stored:  # else the server may have got more since it was asked
                vnode.unsafe = 0

    async def _stored(self, file: DirtyFile, who: Identity, sequence: int) -> None:
        """Return when nothing up to `sequence` is left to be stored in a name."""
        trouble = file.trouble.get(who)
        if trouble is not None:
            trouble.waiting = False
        file.waiters += 1
        try:
            while file.owes(who, sequence) or file.carries(who, sequence):
                flight = None if file.flights else file.next_flight(CALL_SIZE, everything=True)
                if flight is not None and flight.size == file.extents.size:
                    self._storer.begin(flight)  # it is all there is: no task need be made for it
                    await self._storer.fly(flight)
                else:
                    if flight is not None:
                        self._storer.send(flight)
                    self._storer.pump(file, everything=True)
                    if not file.flights:
                        self._raise_trouble(file, None)
                        raise AfsError(f"{file.path}: nothing can be stored any more")
                    await file.progress.wait()
                self._raise_trouble(file, who)
        finally:
            file.waiters -= 1
            if file in self._files:
                self.rush(file)

    @staticmethod
    def _raise_trouble(file: DirtyFile, who: Identity | None) -> None:
        for owner, trouble in file.trouble.items():
            if trouble.waiting and (
                who in (None, owner) or (file.cut is not None and file.cut.who == owner)
            ):
                raise trouble.error.again()

    def rush(self, file: DirtyFile) -> None:
        """Store all of a file in the background."""
        file.rushed = file.sequence
        self._storer.pump(file, everything=True)

    def _flight_ended(self, file: DirtyFile) -> None:
        self._account(file)
        self._room.set()
        self._room = trio.Event()
        if file.trouble:
            self._retry.set()
        if self._end_if_clean(file):
            return
        if file.rushed and not file.owes(None, file.rushed):
            file.rushed = 0
        everything = bool(file.rushed or file.waiters)
        if everything or file.extents.size >= CALL_SIZE:
            self._storer.pump(file, everything=everything)

    def _end_if_clean(self, file: DirtyFile) -> bool:
        """Let go of a file of which nothing is left to be stored."""
        if file.flights or not file.clean:
            return False
        if self._files.pop(file, None) is not None:
            file.vnode.dirty = None
            self.used -= self._accounted.pop(file)
            for who in file.keys:
                self._journal.clean(file.key(who))
        return True

    async def set_status(self, vnode: Vnode, change: StatusChange, who: Identity) -> None:
        """Set mode, owner, group or time at the server now; raise `AfsError`."""
        ticket = self._breaks.begin()
        try:
            reply = await self._client.changes.store_status(vnode.volume, vnode.fid, change, who)
        finally:
            self._breaks.end()
        known, new = vnode.status, reply.status
        if new.data_version == known.data_version:
            vnode.status = new
            vnode.ticket = ticket
            vnode.applied = self._breaks.now
        else:  # of the data another reply will tell
            vnode.status = known._replace(
                mode=new.mode, owner=new.owner, group=new.group, mtime=new.mtime
            )
            vnode.void()

    # What others tell

    def version_moved(self, vnode: Vnode) -> None:
        """A server named another data version of a vnode that we did not make. Free of await."""
        if vnode.dirty is not None:
            self._storer.version_moved(vnode.dirty)

    def token_changed(self, who: Identity, cell: str) -> None:
        """An identity may be able to store now what it was not. Free of await."""
        for file, trouble in self._troubled(who, cell):
            trouble.waiting = False
            self.rush(file)

    def _troubled(self, who: Identity, cell: str) -> list[tuple[DirtyFile, Trouble]]:
        return [
            (file, trouble)
            for file in self._files
            if file.vnode.volume.cell.name == cell
            and (trouble := file.trouble.get(who)) is not None
        ]

    def removed(self, vnode: Vnode) -> None:
        """The last name of a file was taken away through us: its changes go with it."""
        if vnode.dirty is not None:
            self._give_up(vnode.dirty, None)

    # What people ask

    def unstored(self) -> list[Unstored]:
        """Everything that is not stored, oldest first."""
        now = trio.current_time()
        found = []
        for file in self._files:
            volume = file.vnode.volume
            for who in file.owners():
                trouble = file.trouble.get(who)
                found.append(
                    Unstored(
                        file.path,
                        volume.cell.name,
                        volume.name,
                        volume.id,
                        who,
                        sum(e.end - e.start for e in file.extents if e.who == who),
                        file.since,
                        None if trouble is None else str(trouble.error),
                        None if trouble is None else max(0.0, trouble.next_try - now),
                    )
                )
        return sorted(found, key=lambda one: one.since)

    def volumes(self) -> Iterator[Volume]:
        """Of each file that has something to be stored, its volume."""
        return (file.vnode.volume for file in self._files)

    def discard(self, path: str, who: Identity | None) -> int:
        """Give up what is not stored of the file at a path, in one name or in all.

        Returns the bytes that are lost. Whoever wrote them is told at his next fsync or close.
        """
        lost = 0
        for file in [file for file in self._files if file.path == path]:
            if who is not None and who not in file.owners():
                continue
            before = file.extents.size
            self._give_up(file, who)
            lost += before - file.extents.size
        return lost

    def _give_up(self, file: DirtyFile, who: Identity | None) -> None:
        for writer in self._files[file]:
            if who in (None, writer.who) and writer.wrote:
                writer.lost = AfsError(f"{file.path}: what was written was given up")
        for extent in [extent for extent in file.extents if who in (None, extent.who)]:
            file.extents.drop(extent)
        for flight in file.flights:
            flight.given_up |= who in (None, flight.who)
        for name in ("cut", "grow", "stamp"):
            change = getattr(file, name)
            if change is not None and who in (None, change.who):
                setattr(file, name, None)
        for owner in list(file.trouble):
            if who in (None, owner):
                del file.trouble[owner]
        for owner in list(file.keys):
            if who in (None, owner):
                file.keys.discard(owner)
                self._journal.clean(file.key(owner))
        self._account(file)
        self._end_if_clean(file)
        self._storer.data_lost(file.vnode)  # what the kernel has of it is no more
        file.moved()

    async def finish(self, seconds: float) -> list[Unstored]:
        """Store everything within a time; returns what could not be. Names it in the log.

        While what hinders it may pass, such as a server that is silent, it is tried again.
        """
        with trio.move_on_after(seconds):
            async with trio.open_nursery() as nursery:
                for file in list(self._files):
                    nursery.start_soon(self._insist, file)
        left = self.unstored()
        for one in left:
            log.warning(
                "%s: %d bytes of %s are not stored: %s",
                one.path, one.size, one.who, one.error or "there was no time",
            )  # fmt: skip
        return left

    async def _insist(self, file: DirtyFile) -> None:
        while True:
            await self._finish(file)
            hindered = (trouble.error for trouble in file.trouble.values())
            if file not in self._files or not any(error.passing for error in hindered):
                return
            await trio.sleep(_LAST_PAUSE)

    async def store(self, vnode: Vnode) -> None:
        """Return when what was written to a file is on its server, or cannot be. Never raises."""
        if vnode.dirty is not None:
            await self._finish(vnode.dirty)

    async def _finish(self, file: DirtyFile) -> None:
        for who in file.owners():
            try:
                await self._stored(file, who, file.sequence)
            except AfsError as exc:
                log.debug("%s: %s", file.path, exc)
