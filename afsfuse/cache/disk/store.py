"""The cache on disk: a second level under the chunks in memory.

What is fetched is written here soon after, and what the memory drops is read from here: no server
is asked for it again, also after a restart of the daemon. What belongs together is a version of a
file in an instance of a volume. Data versions are counted up anew when a volume is restored, which
shows in its creation time; so a volume with another one starts anew here. A release of a read-only
volume has a later one, too, but equal versions still mean equal data there, and more so together
with the time of the last change. Rights are no matter of this room: who may read was judged by
`cache.doors` before.
"""

from __future__ import annotations

import itertools
import logging
import os
import sqlite3
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakValueDictionary

import trio

from afsfuse.cache.disk.budget import SPARED, Budget
from afsfuse.cache.disk.files import NO_FILE, DiskFile, NoFile
from afsfuse.cache.disk.index import BROKEN, FileKey, Index
from afsfuse.cache.disk.instances import Instance, Instances
from afsfuse.cache.disk.journal import DiskJournal
from afsfuse.cache.disk.parts import ABSENT, PART_SHIFT, Damaged, Descriptor, Part, path_of
from afsfuse.cache.disk.writer import Writer
from afsfuse.cache.journal import Journal, NullJournal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from afsfuse.cache.disk.files import Piece
    from afsfuse.cache.disk.folder import Room

log = logging.getLogger(__name__)

_DESCRIPTORS = 64  # kept open
_TOUCHED = 1024  # parts after whose use the index is written although nothing else has changed
_THREADS = 8  # that wait for the disk
_CLOSE_SECONDS = 10.0  # the end may take


class VolumeInstance(NamedTuple):
    """Which volume, and as which of those that have followed each other under its number."""

    cell: str
    number: int
    created: int  # as its server says; 0: not known
    read_only: bool


@dataclass(frozen=True, slots=True)
class DiskStatistics:
    """A snapshot. Counts are since the start."""

    limit: int = 0  # bytes
    used: int = 0  # bytes, journal and index included
    written: int = 0  # bytes
    evicted: int = 0  # parts
    dropped: int = 0  # chunks that there was no time or room to write
    damaged: int = 0  # times that something on the disk was not what was written


class NoDisk:
    """Memory only."""

    journal: Journal = NullJournal()
    aside = Path()
    """Folder for what cannot be stored, and waits for people; without a journal there is none."""
    unlinked: Path | None = None
    """Folder for lists of names that are to be removed; see `afsfuse.cache.leftovers`."""

    def file(
        self, volume: VolumeInstance, vnode: int, unique: int, version: int, mtime: int, length: int
    ) -> NoFile:
        """What the disk has of a version of a file of `length` bytes. Free of await."""
        return NO_FILE

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Write until cancelled."""
        task_status.started()

    def statistics(self) -> DiskStatistics:
        """A snapshot of all counters."""
        return DiskStatistics()

    def resize(self, limit: int) -> None:
        """Keep at most so many bytes from now on; what is too much goes in the background."""

    def compact(self) -> None:
        """Give back memory that only makes asking for the next things faster."""


class DiskCache(NoDisk):
    """A room of the cache folder, used by one event loop and the thread of its `Writer`."""

    def __init__(self, room: Room, limit: int, chunk_size: int, spare: int = 0) -> None:
        """Open the room, which is released at the end of `run`. At most `limit` bytes are used, of
        which `spare` are kept for the journal.

        Raises `OSError` or `sqlite3.Error` if there can be no index.
        """
        self.room = room
        self.shift = chunk_size.bit_length() - 1
        self.usable = True
        self.budget = Budget(limit, spare)
        self.index = Index(room.index, chunk_size)
        instance, number, used = self.index.last_numbers
        self.instances = Instances(self.index.instance)
        self._numbers = itertools.count(instance + 1)
        self._clock = itertools.count(used + 1)
        self.writer = Writer(self, number + 1)
        self.nowait = room.nowait()
        self.limiter = trio.CapacityLimiter(_THREADS)
        self.files: WeakValueDictionary[FileKey, DiskFile] = WeakValueDictionary()
        self._root = str(room.parts)
        self._descriptors: OrderedDict[Part, Descriptor] = OrderedDict()
        self._touched: dict[Part, None] = {}
        self._damaged = 0
        self.journal = DiskJournal(room.journals, self.budget, self._room_for_journal, room.mine)
        self.aside = room.path.parent / "recovered"
        self.unlinked = room.path.parent / "unlinked"

    def _room_for_journal(self) -> None:
        self.writer.submit(self.writer.make_room)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Write until cancelled, and then what is left to write, for some seconds at most."""
        farewell = trio.CancelScope(shield=True)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._write, farewell)
            task_status.started()
            try:
                await trio.sleep_forever()
            finally:
                self.writer.stop()
                farewell.deadline = trio.current_time() + _CLOSE_SECONDS

    async def _write(self, farewell: trio.CancelScope) -> None:
        with farewell:
            await trio.to_thread.run_sync(
                self.writer.run, abandon_on_cancel=True, limiter=trio.CapacityLimiter(1)
            )
            self.close()

    def close(self) -> None:
        """Let everything go. The writer must have ended."""
        self.usable = False
        self.journal.close()
        self._descriptors.clear()
        self.index.close()
        with suppress(OSError):
            self.room.release()

    def file(
        self, volume: VolumeInstance, vnode: int, unique: int, version: int, mtime: int, length: int
    ) -> NoFile:
        """See `NoDisk`."""
        if not volume.created or not length or not self.usable:
            return NO_FILE
        try:
            instance = self._instance(volume)
            # Of a read-only volume the creation time says nothing if it is a later one: its volume
            # can have been restored and released. Then files differ in their times at least.
            stamp = mtime if volume.read_only else 0
            key = FileKey(instance, vnode, unique, version, stamp, length)
            file = self.files.get(key)
            if file is None:
                file = self._find(key)
            return file
        except BROKEN as exc:
            self._unreadable(exc)
            return NO_FILE

    def _instance(self, volume: VolumeInstance) -> int:
        """The number under which a volume's files are kept, a new one if they are not the same."""
        known = self.instances.find(volume.cell, volume.number)
        if known is not None and known.created == volume.created:
            return known.number
        released = known is not None and volume.read_only and volume.created > known.created
        number = known.number if known is not None and released else next(self._numbers)
        new = Instance(number, volume.created)
        self.instances.enter(volume.cell, volume.number, new)
        old = None if known is None else known.number
        self.writer.submit(
            partial(self.writer.replace_volume, old, new, volume.cell, volume.number)
        )
        return number

    def _find(self, key: FileKey) -> DiskFile:
        """Ask the index for the parts of a version. Those of other versions are of no use now."""
        file = DiskFile(self, key)
        useless = []
        for number, found, place in self.index.file(key.instance, key.vnode, key.unique):
            known = self.files.get(found)
            if found != key:
                if known is None:
                    useless.append(number)
            elif place in file.parts or place << PART_SHIFT >= key.length or place < 0:
                useless.append(number)
            else:
                file.parts[place] = Part(file, place, number)
        if useless:
            self.writer.submit(partial(self.writer.forget, useless))
        self.files[key] = file
        return file

    def replace(self, old: DiskFile, new: DiskFile) -> None:
        """The next version of a file takes over what parts it has in common with this one."""
        self.files[new.key] = new
        self.writer.submit(partial(self.writer.adopt, old, new))

    def load(self, part: Part) -> bool:
        """Ask the index what is in a part; False if nobody knows."""
        if not self.usable:
            return False
        try:
            row = self.index.part(part.number)
        except BROKEN as exc:
            self._unreadable(exc)
            return False
        if row is None or (row.key, row.place) != (part.file.key, part.place) or not row.sums:
            # Evicted since, or not what was once written there.
            part.forget()
            part.file.parts.pop(part.place, None)
            if row is not None:
                self.writer.submit(partial(self.writer.forget, [part.number]))
            return False
        part.load(row.size, row.used, row.sums)
        return True

    def descriptor(self, part: Part) -> Descriptor | None:
        """An open file to read a part from; None if there is none."""
        descriptors = self._descriptors
        descriptor = descriptors.get(part)
        if descriptor is not None:
            with suppress(KeyError):  # evicted just now
                descriptors.move_to_end(part)
            return descriptor
        try:
            descriptor = descriptors[part] = Descriptor(
                path_of(self._root, part.number), os.O_RDONLY
            )
        except FileNotFoundError:  # evicted, or somebody has deleted it
            log.debug("part %x is not there any more", part.number)
            part.state = bytearray(len(part.sums))
            self.writer.submit(partial(self.writer.lose, part))
            return None
        except OSError as exc:
            self._lost(part, exc)
            return None
        if not self.is_there():  # looked at when it is open: it may be another one's
            self.shut(part)
            part.state = bytearray(len(part.sums))
            return None
        if part.dead:
            self.shut(part)
        elif len(descriptors) > _DESCRIPTORS:
            descriptors.popitem(last=False)
        return descriptor

    def shut(self, part: Part) -> None:
        """Keep no file open that is to be deleted: it would go on to take its room. Any thread."""
        self._descriptors.pop(part, None)

    def tick(self) -> int:
        """The logical time."""
        return next(self._clock)

    def touch(self, part: Part) -> None:
        """A part is being read."""
        part.used = next(self._clock)
        self._touched[part] = None
        if len(self._touched) >= _TOUCHED:
            self.writer.submit(self.writer.soon)

    def take_touched(self) -> list[Part]:
        """The parts that were read since the last time; asked by the thread that writes."""
        touched, self._touched = self._touched, {}
        return list(touched)

    def failed(self, pieces: Sequence[Piece], exc: Damaged | OSError) -> None:
        """Parts could not be read, or hold something else: they are fetched again."""
        if isinstance(exc, Damaged) and exc.index is not None:
            part = exc.part
            if not part.dead and part.state is not None and part.state[exc.index]:
                part.state[exc.index] = ABSENT
                part.sums[exc.index] = 0
                self._tell(part, exc)
                self.writer.submit(partial(self.writer.rewrite, part))
            return
        for part in [exc.part] if isinstance(exc, Damaged) else [piece[0] for piece in pieces]:
            self._lost(part, exc)

    def _lost(self, part: Part, exc: Exception) -> None:
        """Nothing of a part can be had."""
        if part.dead:
            return  # evicted; that is all right
        self._tell(part, exc)
        self.drop(part)

    def drop(self, part: Part) -> None:
        """What is in a part is of no use any more."""
        self.shut(part)
        part.state = bytearray(len(part.sums))
        self.writer.submit(partial(self.writer.lose, part))

    def _tell(self, part: Part, exc: Exception) -> None:
        why = exc.strerror if isinstance(exc, OSError) else str(exc)
        level = logging.INFO if self._damaged else logging.WARNING  # there may be very many
        log.log(level, "%s: %s: fetched again", path_of(self._root, part.number), why)
        self._damaged += 1

    def _unreadable(self, exc: Exception) -> None:
        """The index does not answer: now, or never again."""
        if isinstance(exc, sqlite3.OperationalError):
            log.debug("%s: %s", self.room.index, exc)
        else:
            self.broken(exc)

    def broken(self, exc: Exception) -> None:
        """The index is of no use any more: the next start makes another one."""
        if self.usable:
            self.usable = False
            log.warning("%s: broken, no disk is used from now on: %s", self.room.index, str(exc))
            if self.room.mine():
                self.index.remove()

    def is_there(self) -> bool:
        """Whether the room is this daemon's still; if not, nothing of it is used from now on. To be
        asked by whoever goes there by a path, in any thread.
        """
        if self.room.mine():
            return True
        if self.usable:
            self.usable = False
            log.warning("%s: deleted or moved, no disk is used from now on", self.room.path)
        return False

    def resize(self, limit: int) -> None:
        """See `NoDisk`."""
        self.budget.limit, self.budget.spare = limit, limit // SPARED
        self._room_for_journal()

    def compact(self) -> None:
        """See `NoDisk`."""
        if self.usable:
            self.instances.compact()
            self.index.shrink_reading()
            self.writer.submit(self.index.shrink_writing)

    def statistics(self) -> DiskStatistics:
        """See `NoDisk`."""
        return DiskStatistics(
            self.budget.limit,
            self.budget.used,
            self.writer.written,
            self.writer.evicted,
            self.writer.dropped,
            self._damaged,
        )
