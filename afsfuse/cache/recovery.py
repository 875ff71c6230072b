"""What an earlier daemon left unstored: stored now, or put where a person finds it.

The journal tells what was written, in whose name, and over which data version. If that is the
server's version still, it is written once more, as if the writer had just done so, and stored in
the writer's name as soon as the server lets him. If the file has moved on, or is gone, or the
journal is damaged, nothing is stored unseen: what is left becomes a file in the folder for that,
of which the log tells.
"""

from __future__ import annotations

import errno
import itertools
import json
import logging
import os
import time
from contextlib import suppress
from functools import partial
from operator import attrgetter, itemgetter
from typing import TYPE_CHECKING, BinaryIO

import trio

from afsfuse.auth.identity import NOBODY, Identity
from afsfuse.cache.vnodes import Vnode
from afsfuse.cache.writeback import Unstored, Writer
from afsfuse.errors import AfsError
from afsfuse.model import FileKind

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from afsfuse.cache.journal import DirtyKey, Journal, RecoveredFile
    from afsfuse.cache.manager import CacheManager
    from afsfuse.cell.volumes import Volume
    from afsfuse.interfaces.common import Fid

log = logging.getLogger(__name__)

AT_START = 10.0
"""Seconds for which the mount waits until what can be stored now is being stored."""
_FIRST_PAUSE, _LONGEST_PAUSE = 5.0, 60.0  # seconds until what could not be looked at is tried again
_UNDER_WAY = 2  # stores of a file that the dead daemon can have sent without hearing of them
_PIECE = 1 << 20
_NAME_BYTES = 200  # of a file's own name in that of what is put aside: none may have more than 255
_CHANGED = "the file was changed since"


class Moved(Exception):
    """It must not be stored unseen, and why."""


class Recovery:
    """Works off what the journal has from before; ends when nothing is left of that."""

    def __init__(
        self,
        cache: CacheManager,
        find: Callable[[DirtyKey], Awaitable[Volume]],
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`find` finds the volume of what was written; raises `AfsError`."""
        self._cache = cache
        self._find = find
        self._clock = clock
        self._journal: Journal = cache.journal
        self._left: dict[DirtyKey, list[RecoveredFile]] = {}
        for file in self._journal.recovered():
            self._left.setdefault(file.key, []).append(file)
        self._errors: dict[DirtyKey, AfsError] = {}
        self._since = clock()
        self._token = trio.Event()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Store what is left. Started is said when everything was tried once."""
        for key, files in self._left.items():
            log.info("%s: left unstored by an earlier daemon, of %s", files[-1].path, key.who)
        with trio.move_on_after(AT_START):
            await self._try_all(first=True)
        task_status.started()
        pause = _FIRST_PAUSE
        while self._left:
            token = self._token = trio.Event()
            with trio.move_on_after(pause):
                await token.wait()
            pause = _FIRST_PAUSE if token.is_set() else min(2 * pause, _LONGEST_PAUSE)
            await self._try_all(first=False)

    def token_changed(self, who: Identity, cell: str) -> None:
        """An identity has another token: what it left may be looked at now."""
        self._token.set()

    def unstored(self) -> list[Unstored]:
        """What waits for being looked at."""
        return [
            Unstored(
                files[-1].path,
                key.cell,
                str(key.volume),
                key.volume,
                _identity(key),
                sum(len(data) for file in files for _, data in file.extents),
                self._since,
                f"left by an earlier daemon: {self._errors.get(key, 'not looked at yet')}",
                None,
            )
            for key, files in self._left.items()
        ]

    def discard(self, path: str, who: Identity | None) -> int:
        """Give up what was left of the file that was at a path; returns its bytes."""
        lost = 0
        for key, files in list(self._left.items()):
            if files[-1].path == path and who in (None, _identity(key)):
                lost += sum(len(data) for file in files for _, data in file.extents)
                self._done(key)
        return lost

    def _done(self, key: DirtyKey) -> None:
        """What was left is given up, or is safe elsewhere."""
        del self._left[key]
        self._errors.pop(key, None)
        self._journal.forgotten(key)

    async def _try_all(self, *, first: bool) -> None:
        """Look at each file, and then write at once what was left of it in all names: each store
        makes a version, which is none of another client's.
        """
        keys: dict[tuple[str, Fid], list[DirtyKey]] = {}
        for key in self._left:
            keys.setdefault((key.cell, key.fid), []).append(key)
        for same in keys.values():
            found = {key: await self._look(key) for key in same}
            vnode = next((one for one in reversed(found.values()) if isinstance(one, Vnode)), None)
            written_to = vnode is not None and vnode.dirty is not None and not first
            ready = []
            for key, outcome in found.items():
                if key not in self._left:
                    continue  # a person has given it up while servers were asked
                try:
                    if vnode is None or not isinstance(outcome, Vnode):
                        self._cannot_write(key, outcome)
                    elif self._may_write(key, vnode, first=first) and not written_to:
                        self._without_older(key)  # else it will have moved
                        ready.append(key)
                except AfsError as exc:
                    self._failed(key, exc)
            if vnode is not None and ready:
                self._write(ready, vnode)

    def _failed(self, key: DirtyKey, error: AfsError) -> None:
        if key not in self._errors:
            log.warning(
                "%s: left unstored, and cannot be stored yet: %s", self._left[key][-1].path, error
            )
        self._errors[key] = error

    async def _look(self, key: DirtyKey) -> Vnode | Moved | AfsError:
        if key not in self._left:
            return Moved("it was given up")
        try:
            return await self._vnode(key)
        except (Moved, AfsError) as exc:
            return exc

    def _cannot_write(self, key: DirtyKey, why: object) -> None:
        """Put what was left aside if it can never be stored; raises `AfsError` if it must wait."""
        if isinstance(why, AfsError):
            raise why
        self._keep_aside(key, self._left[key], str(why))
        self._done(key)

    def _may_write(self, key: DirtyKey, vnode: Vnode, *, first: bool) -> bool:
        """Whether what was left may be written once more; else it was put aside."""
        try:
            self._check(self._left[key], vnode, first=first)
        except Moved as moved:
            self._cannot_write(key, moved)
            return False
        return True

    def _without_older(self, key: DirtyKey) -> None:
        """Put aside what was left over an older version; raises `AfsError` if that must wait."""
        files = self._left[key]
        base = files[-1].base_version
        older = [file for file in files if file.base_version < base]
        if older:  # a daemon came and went, and could not store it, but what was written then
            self._keep_aside(key, older, _CHANGED)
            self._left[key] = [file for file in files if file not in older]

    async def _vnode(self, key: DirtyKey) -> Vnode:
        volume = await self._find(key)
        try:
            vnode = await self._cache.refetch(volume, key.fid, _identity(key))
        except AfsError as exc:
            if exc.errno == errno.ESTALE:
                raise Moved("the file is gone") from exc
            raise
        if vnode.status.kind is not FileKind.FILE:
            raise Moved("it is another kind of file now")
        return vnode

    def _check(self, files: list[RecoveredFile], vnode: Vnode, *, first: bool) -> None:
        """Raise `Moved` if anything else was stored since, as far as can be told."""
        if not all(file.whole for file in files):
            raise Moved("the journal is damaged")
        base = max(file.base_version for file in files)
        version = vnode.status.data_version
        if version == base:
            return
        exact = all(file.exact for file in files)
        if not (first and exact and base < version <= base + _UNDER_WAY):
            raise Moved(_CHANGED)
        # It may have been a store of our own whose reply nobody has heard.
        log.warning(
            "%s: may have been changed since it was written here: each range of it has what was "
            "stored last",
            files[-1].path,
        )

    def _write(self, keys: list[DirtyKey], vnode: Vnode) -> None:
        """Do what the writers of a file did. The bytes are in memory already: no room is asked for.

        What was done at the same time in several names is done in the order in which it was.
        """
        files = [file for key in keys for file in self._left[key]]
        self._journal.taking_over(keys)
        for same in _overlapping(files):
            self._write_again(same, vnode)
        for key in keys:
            path = self._left.pop(key)[-1].path
            self._errors.pop(key, None)
            if vnode.dirty is None:
                self._journal.forgotten(key)
                continue
            self._journal.taken_over(key)
            log.info("%s: what was left unstored is being stored", path)
        if vnode.dirty is not None:
            self._cache.writes.rush(vnode.dirty)

    def _write_again(self, files: list[RecoveredFile], vnode: Vnode) -> None:
        """All that was done to a file in names whose sessions overlap.

        Each session knows of all cuts, and what it wrote itself: so the file is as long as the
        longest of them says.
        """
        writes = self._cache.writes
        cut = min((file for file in files if file.cut is not None), key=_cut, default=None)
        if cut is not None and _cut(cut) < _length(vnode):
            writes.truncate(vnode, _cut(cut), Writer(_identity(cut.key)), lambda: cut.path)
        written = [
            (order, offset, data, file)
            for file in files
            for order, (offset, data) in zip(file.order, file.extents, strict=True)
        ]
        for _, offset, data, file in sorted(written, key=itemgetter(0)):
            writer, path = Writer(_identity(file.key)), partial(str, file.path)
            view = memoryview(data)
            for start in range(0, len(view), _PIECE):
                piece = bytes(view[start : start + _PIECE])
                writes.write(vnode, offset + start, piece, writer, path)
        longest = max(files, key=attrgetter("length"))
        if cut is not None or longest.length > _length(vnode):
            who = Writer(_identity(longest.key))
            writes.truncate(vnode, longest.length, who, lambda: longest.path)

    def _keep_aside(self, key: DirtyKey, files: list[RecoveredFile], why: str) -> None:
        """Put what was left into files that people can look at."""
        path = files[-1].path
        try:
            made = _write_aside(self._cache.aside, key, files, why, self._clock())
        except OSError as exc:
            raise AfsError(f"{why}, and cannot be put aside: {exc.strerror}") from exc
        log.warning("%s: %s: what was left unstored is in %s", path, why, made)


def _overlapping(files: list[RecoveredFile]) -> list[list[RecoveredFile]]:
    """Files in groups: what is of one group was being written at the same time. In order."""
    groups: list[list[RecoveredFile]] = []
    end = -1
    for file in sorted(files, key=attrgetter("lasted")):
        first, last = file.lasted
        if first <= end:
            groups[-1].append(file)
        else:
            groups.append([file])
        end = max(end, last)
    return groups


def _cut(file: RecoveredFile) -> int:
    assert file.cut is not None
    return file.cut


def _length(vnode: Vnode) -> int:
    return vnode.status.length if vnode.dirty is None else vnode.dirty.length


def _identity(key: DirtyKey) -> Identity:
    return Identity.parse(key.who) or NOBODY


def _new_file(folder: Path, stem: str, name: str) -> tuple[Path, int]:
    """A file that was not there before, and its descriptor: of one file there may be several of a
    second, such as those of two users.
    """
    short = name.encode("utf-8", "backslashreplace")[:_NAME_BYTES].decode("utf-8", "ignore")
    for number in itertools.count(1):
        again = f"{number}-" if number > 1 else ""
        made = folder / f"{stem}-{again}{short}"
        with suppress(FileExistsError):
            return made, os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    raise AssertionError


def _write_aside(
    folder: Path, key: DirtyKey, files: list[RecoveredFile], why: str, now: float
) -> Path:
    """A file with the bytes that were written, at their places, and one that tells of it."""
    folder.mkdir(0o700, parents=True, exist_ok=True)
    stem = f"{time.strftime('%Y-%m-%d-%H%M%S', time.gmtime(now))}-{key.vnode}"
    name = os.path.basename(files[-1].path) or str(key.vnode)
    made, descriptor = _new_file(folder, stem, name)
    about = made.with_name(f"{made.name}.json")
    try:
        with os.fdopen(descriptor, "wb") as out:
            ranges = _fill(out, files)
        told = {
            "path": files[-1].path,
            "cell": key.cell,
            "fid": [key.volume, key.vnode, key.unique],
            "identity": key.who,
            "why it was not stored": why,
            "data version it was written over": files[-1].base_version,
            "length": files[-1].length,
            "cut to": files[-1].cut,
            "written": ranges,
            "everything else in the file": "was not written, and is zero here",
        }
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        with os.fdopen(os.open(about, flags, 0o600), "w") as out_about:
            json.dump(told, out_about, indent=1)
    except OSError:  # it is tried again, and on a full disk each half of a copy is in the way
        for path in (made, about):
            path.unlink(missing_ok=True)
        raise
    return made


def _fill(out: BinaryIO, files: list[RecoveredFile]) -> list[list[int]]:
    """Write the bytes; returns their ranges."""
    ranges = []
    for file in files:
        for offset, data in file.extents:
            out.seek(offset)
            out.write(data)
            ranges.append([offset, offset + len(data)])
        out.truncate(file.length)
    return ranges
