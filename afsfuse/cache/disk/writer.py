"""The thread that writes: parts, the index, and what must be evicted for them.

Work is handed over in a queue with a bound. When it is full, or the disk is, or broken, chunks are
dropped: nobody ever waits for the cache to be written. The index follows in transactions of about
a second, so that is what a process loses when it is killed.
"""

from __future__ import annotations

import errno
import logging
import os
import queue
import shutil
import sqlite3
import stat
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from afsfuse.cache.disk.index import BROKEN, PartRow
from afsfuse.cache.disk.parts import (
    CHECKED,
    PART_SHIFT,
    Descriptor,
    Part,
    existing,
    path_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from afsfuse.cache.disk.files import DiskFile
    from afsfuse.cache.disk.instances import Instance
    from afsfuse.cache.disk.store import DiskCache
    from afsfuse.cache.journal import Buffer

log = logging.getLogger(__name__)

QUEUE_BYTES = 32 << 20
"""Bytes of chunks that may wait to be written."""
COMMIT_SECONDS = 1.0
PAUSE_SECONDS = 60.0
"""For how long nothing is written after the disk has refused to take more."""
_COMMIT_PARTS = 512  # changed parts after which the index is written at once
_EVICT_AT_ONCE = 64
_EVICT_MORE = 64  # the part of the limit that is made free beyond what is needed


def _discard(path: str | Path) -> None:
    """Remove what is no part, whatever it is; a link's target is not touched."""
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path, ignore_errors=True)
    else:
        os.unlink(path)
    with suppress(OSError):
        os.rmdir(os.path.dirname(path))


class Writer:
    """Writes for one `DiskCache`. What is not marked otherwise runs in the thread of `run`."""

    def __init__(self, cache: DiskCache, first_number: int) -> None:
        """Parts are numbered from `first_number` on."""
        self.written = 0  # bytes, since the start
        self.dropped = 0  # chunks that were not written, since the start
        self.evicted = 0  # parts, since the start
        self._cache = cache
        self._root = str(cache.room.parts)
        self._block = max(4096, os.statvfs(cache.room.path).f_frsize)
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._queued = 0  # bytes
        self._begun = False  # else the disk refuses even to be looked at
        self._paused_until = 0.0
        self._number = first_number
        self._changed: dict[Part, None] = {}  # whose rows are not as they should be
        self._gone: set[int] = set()  # ... and which should not be there
        self._volumes: dict[tuple[str, int], Instance] = {}  # whose rows are not in it for good
        self._commit_at = 0.0
        self._last: tuple[Part, Descriptor] | None = None

    # In the event loop

    def accepts(self, size: int) -> bool:
        """Whether chunks of so many bytes would be written."""
        return (
            self._begun
            and self._cache.usable
            and self._queued + size <= QUEUE_BYTES
            and (not self._paused_until or self._paused_until < time.monotonic())
        )

    def put(self, file: DiskFile, chunks: Mapping[int, Buffer], size: int) -> None:
        """Have chunks of `size` bytes written."""
        self._queued += size
        self._jobs.put(partial(self._put, file, chunks, size))

    def submit(self, job: Callable[[], None]) -> None:
        """Have anything else done in the thread."""
        self._jobs.put(job)

    def stop(self) -> None:
        """Let `run` end when everything handed over is done."""
        self._jobs.put(None)

    # In the thread

    def run(self) -> None:
        """Write until `stop`."""
        self._guarded(self._begin)
        while True:
            try:
                job = self._jobs.get(timeout=self._patience())
            except queue.Empty:
                self._guarded(self.commit)
                continue
            if job is None:
                break
            self._guarded(job)
            if len(self._changed) >= _COMMIT_PARTS or self._patience() == 0.0:
                self._guarded(self.commit)
        self._guarded(self.commit)
        self._last = None
        self._cache.index.close_for_writing()

    def _patience(self) -> float | None:
        """Seconds until the index is to be written."""
        return max(0.0, self._commit_at - time.monotonic()) if self._commit_at else None

    def _guarded(self, job: Callable[[], None]) -> None:
        """Do something that may fail, as disks do."""
        try:
            if self._cache.usable and (self._begun or job == self._begin):
                job()
        except sqlite3.OperationalError as exc:  # full, locked, an error of the disk
            self._pause(exc)
        except BROKEN as exc:
            self._cache.broken(exc)
        except OSError as exc:
            self._pause(exc)
        except Exception:  # a mistake of ours must not end the cache for ever
            log.exception("writing to the cache failed")

    def _pause(self, exc: Exception) -> None:
        """Write nothing for a while."""
        with suppress(sqlite3.Error):
            self._cache.index.roll_back()
        waiting = self._changed or self._volumes
        self._commit_at = time.monotonic() + PAUSE_SECONDS if waiting else 0.0
        if not self._paused_until:
            # The text alone: whoever keeps the error keeps the open file of a part with it.
            log.warning(
                "%s: nothing is cached on disk for now: %s", self._cache.room.path, str(exc)
            )
        self._paused_until = time.monotonic() + PAUSE_SECONDS

    def _begin(self) -> None:
        """Bring index and folder together: what only one of them knows is forgotten."""
        index = self._cache.index
        index.open_for_writing()
        known = index.numbers()
        found: dict[int, int] = {}
        for path, number in existing(Path(self._root)):
            status = os.lstat(path)
            if number in known and stat.S_ISREG(status.st_mode):
                found[number] = Part.plausible(known[number], status.st_blocks)
            else:
                _discard(path)
        self._gone |= known.keys() - found.keys()
        index.resize((size, number) for number, size in found.items() if size != known[number])
        self._cache.budget.parts = sum(found.values())
        self.commit()
        self._begun = True

    def commit(self) -> None:
        """Write the index."""
        self._commit_rows()
        self._commit_at = 0.0
        if self._paused_until and self._paused_until < time.monotonic():
            self._paused_until = 0.0
            log.info("%s: caching on disk again", self._cache.room.path)
        self.make_room()

    def _commit_rows(self) -> None:
        index = self._cache.index
        self._write_rows()
        index.commit()
        for (cell, volume), instance in self._volumes.items():
            self._cache.instances.settled(cell, volume, instance)
        self._volumes.clear()
        self._changed.clear()
        self._gone.clear()
        self._cache.budget.index = index.size()

    def _write_rows(self) -> None:
        """Bring the rows up to what is known, within the transaction.

        All that changed since the last commit: the transaction may be a new one, after a failure.
        """
        index = self._cache.index
        for (cell, volume), instance in self._volumes.items():
            index.add_volume(instance.number, cell, volume, instance.created)
        index.delete(self._gone)
        index.put(
            PartRow(part.number, part.file.key, part.place, part.size, part.used, bytes(part.sums))
            for part in self._changed
        )
        index.touch(
            (part.used, part.number) for part in self._cache.take_touched() if not part.dead
        )

    def soon(self) -> None:
        """The index has to be written, in a while."""
        if not self._commit_at:
            self._commit_at = time.monotonic() + COMMIT_SECONDS

    # Parts

    def _put(self, file: DiskFile, chunks: Mapping[int, Buffer], size: int) -> None:
        self._queued -= size
        shift = PART_SHIFT - self._cache.shift
        mask = (1 << shift) - 1
        places: dict[int, dict[int, Buffer]] = {}
        for index, data in chunks.items():
            places.setdefault(index >> shift, {})[index & mask] = data
        try:
            for place, here in places.items():
                self._write(file, place, here)
        finally:
            file.pending.difference_update(chunks)

    def _write(self, file: DiskFile, place: int, chunks: dict[int, Buffer]) -> None:
        """Write chunks of one part, in one go for each run of neighbours."""
        if file.stale:
            return
        part = file.parts.get(place)
        if part is None or part.dead or part.state is None:
            part = Part(file, place)
        size = sum(-(-len(data) // self._block) * self._block for data in chunks.values())
        if not part.number:
            size += part.overhead()
        if not self._make_room(size):
            self.dropped += len(chunks)
            return
        if part.dead:  # evicted just now, to make room for itself
            self._cache.budget.free_parts(size)
            return
        try:
            descriptor = self._open(part)
        except OSError as exc:
            self._cache.budget.free_parts(size)
            self.lose(part)
            if isinstance(exc, FileNotFoundError):  # evicted, or somebody has deleted it
                return
            raise
        part.size += size
        try:
            self._fill(part, descriptor, chunks)
        except OSError:
            self.lose(part)
            raise

    def _fill(self, part: Part, descriptor: Descriptor, chunks: dict[int, Buffer]) -> None:
        state = part.state
        assert state is not None
        part.used = part.used or self._cache.tick()
        part.file.parts[part.place] = part
        self._changed[part] = None
        self.soon()
        for first, run in _runs(chunks):
            total = sum(map(len, run))
            if os.pwritev(descriptor.number, run, first << self._cache.shift) != total:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            for index, data in enumerate(run, first):
                part.sums[index] = part.sum_of(index, data)
                state[index] = CHECKED
            self.written += total

    def _open(self, part: Part) -> Descriptor:
        """A descriptor to write a part with; the last one is kept."""
        if self._last is not None and self._last[0] is part:
            return self._last[1]
        if not self._cache.is_there():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        flags = os.O_WRONLY
        if not part.number:
            flags |= os.O_CREAT | os.O_EXCL
            part.number = self._number
            self._number += 1
            path = path_of(self._root, part.number)
            os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
        descriptor = Descriptor(path_of(self._root, part.number), flags)
        self._last = (part, descriptor)
        return descriptor

    def lose(self, part: Part) -> None:
        """Forget a part of which nothing is right any more."""
        if not part.dead:
            size = self._counted(part)
            self._kill(part)
            self._remove(part.number, size)

    def rewrite(self, part: Part) -> None:
        """A chunk of a part is not what it was: let the index know."""
        if not part.dead and self._counted(part):
            self._changed[part] = None
            self.soon()

    def adopt(self, old: DiskFile, new: DiskFile) -> None:
        """Parts of a version become parts of the next one; the others go."""
        for place, part in list(old.parts.items()):
            twin = new.parts.get(place)
            if twin is None or twin.number != part.number:
                self.lose(part)
                continue
            counted = self._counted(part)
            self._kill(part)
            if counted:
                twin.size = counted
                self._changed[twin] = None
        for twin in list(new.parts.values()):
            if twin.number and twin not in self._changed:  # evicted meanwhile
                self._kill(twin)
        self.soon()

    def _counted(self, part: Part) -> int:
        """The bytes that are taken for a part; 0 if it was evicted and its row read before that was
        in the index for good.
        """
        if part in self._changed:
            return part.size
        self._write_rows()
        rows = self._cache.index.rows_of([part.number])
        return rows[0].size if rows else 0

    def _kill(self, part: Part) -> None:
        """Let no reader find a part any more."""
        part.forget()
        self._cache.shut(part)
        self._changed.pop(part, None)
        if self._last is not None and self._last[0] is part:
            self._last = None
        if part.file.parts.get(part.place) is part:
            del part.file.parts[part.place]

    def _remove(self, number: int, size: int) -> None:
        """Delete the file and the row of a part. The row may go later: then it finds no file."""
        self._cache.budget.free_parts(size)
        if not number:
            return
        self._gone.add(number)
        self.soon()
        if not self._cache.is_there():
            return
        path = path_of(self._root, number)
        with suppress(FileNotFoundError):
            os.unlink(path)
        with suppress(OSError):  # others are in the folder
            os.rmdir(os.path.dirname(path))

    # Room

    def _make_room(self, size: int) -> bool:
        """Take room for parts; False if there is none even without what can be evicted.

        What was not used for longest goes, and a little more of that than need be, so that it
        need not be done for each small file.
        """
        budget = self._cache.budget
        if budget.take_for_parts(size):
            return True
        more = size + budget.limit // _EVICT_MORE
        while budget.excess(more) > 0:
            self._write_rows()
            oldest = self._cache.index.oldest(_EVICT_AT_ONCE)
            if not oldest:
                break
            for row in oldest:
                if budget.excess(more) <= 0:
                    break
                self._evict(row)
            if len(self._gone) >= _COMMIT_PARTS:
                self._commit_rows()
        return budget.take_for_parts(size)

    def _evict(self, row: PartRow) -> None:
        file = self._cache.files.get(row.key)
        part = None if file is None else file.parts.get(row.place)
        if part is not None and part.number == row.number:
            self._kill(part)
        self._remove(row.number, row.size)
        self.evicted += 1

    def make_room(self) -> None:
        """Evict until the limit, and what is to be spared for the journal, are kept."""
        if self._cache.budget.excess(0) > 0:
            self._make_room(0)

    def replace_volume(self, old: int | None, new: Instance, cell: str, volume: int) -> None:
        """A volume is known as `new`; what belongs to the instance `old` goes, if it is another."""
        self._volumes[cell, volume] = new
        self.soon()
        if old is not None and old != new.number:
            self._write_rows()
            for row in self._cache.index.parts_of(old):
                self._evict(row)

    def forget(self, numbers: Iterable[int]) -> None:
        """Parts of which nobody will ask again."""
        self._write_rows()
        for row in self._cache.index.rows_of(numbers):
            self._evict(row)


def _runs(chunks: Mapping[int, Buffer]) -> list[tuple[int, list[Buffer]]]:
    """Runs of neighbouring chunks: index of the first, and all of it."""
    runs: list[tuple[int, list[Buffer]]] = []
    for index in sorted(chunks):
        if runs and index == runs[-1][0] + len(runs[-1][1]):
            runs[-1][1].append(chunks[index])
        else:
            runs.append((index, [chunks[index]]))
    return runs
