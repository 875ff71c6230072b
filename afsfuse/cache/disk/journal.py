"""The journal of dirty data on disk: for the next daemon, if this one is killed.

Records are appended to files of some MiB (*segments*) with one system call each and without a
flush: they outlive the process at any moment, but not the machine. What is said of one file in one
name, from its first change until it is clean, is a *session*; each segment says anew whose it is.
What has reached the server is marked so in place. A segment goes when nothing in it is needed any
more; when nothing is dirty one is left at most, and that is empty.

A session of which something could not be kept is taken out of recovery, since older bytes without
newer ones are worse than none; its bytes can still be read back.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from afsfuse.cache.disk.records import (
    HEADER_SIZE,
    PAGE,
    Kind,
    has_more,
    header,
    place_for_header,
    records,
    size_of,
)
from afsfuse.cache.disk.segments import (
    POSITION,
    SHIFT,
    Segment,
    Session,
    as_recovered,
    dead_spans,
    replay,
    this_boot,
    token_of,
)
from afsfuse.cache.journal import JournalLost, path_after

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from pathlib import Path

    from afsfuse.cache.disk.budget import Budget
    from afsfuse.cache.disk.segments import Span
    from afsfuse.cache.journal import Buffer, DirtyKey, RecoveredFile

log = logging.getLogger(__name__)

SEGMENT_BYTES = 16 << 20


class DiskJournal:
    """A `Journal` in a folder. For the event loop alone."""

    def __init__(
        self,
        folder: Path,
        budget: Budget,
        make_room: Callable[[], None] = lambda: None,
        mine: Callable[[], bool] = lambda: True,
    ) -> None:
        """Takes over what is there. `make_room` is called when the budget has none to spare, and
        `mine` tells whether the folder is this daemon's still.
        """
        self._folder = folder
        self._budget = budget
        self._make_room = make_room
        self._mine = mine
        self._segments: dict[int, Segment] = {}
        self._current: Segment | None = None
        self._sessions: dict[DirtyKey, list[Session]] = {}
        self._recovered: list[RecoveredFile] = []
        self._next = 0
        self._told = False
        self._boot = this_boot()
        self._copied: set[DirtyKey] = set()
        self._load()

    # The protocol of `afsfuse.cache.journal.Journal`

    def opened(self, key: DirtyKey, base_version: int, length: int, path: str) -> None:
        """See `Journal`."""
        number = secrets.randbits(63)
        session = Session(number, key, base_version, length, path, self._boot)
        session.copy = key in self._copied
        self._sessions.setdefault(key, []).append(session)

    def written(self, key: DirtyKey, offset: int, data: Buffer) -> int | None:
        """See `Journal`."""
        session = self._sessions[key][-1]
        end = offset + len(data)
        token = self._append(session, Kind.WRITTEN, offset, end, data)
        session.length = max(session.length, end)
        if token is not None:
            live = self._segments[token >> SHIFT].live
            live.setdefault(session.number, []).append((offset, end, token))
        return token

    def resized(self, key: DirtyKey, length: int) -> None:
        """See `Journal`."""
        session = self._sessions[key][-1]
        before, session.length = session.length, length
        if length < before:
            self._cut(session, length)
        if length >= before or length:  # a store tells the server of the cut alone
            token = self._append(session, Kind.GROWN, length, 0, b"")
            if token is not None:
                grown = self._segments[token >> SHIFT].grown
                grown.setdefault(session.number, []).append((length, token))

    def _cut(self, session: Session, length: int) -> None:
        token = self._append(session, Kind.CUT, length, 0, b"")
        for segment in self._segments.values():
            spans = segment.live.pop(session.number, [])
            kept = [self._trimmed(segment, span, length) for span in spans]
            if any(kept):
                segment.live[session.number] = [span for span in kept if span is not None]
            for grown_to, at in segment.grown.pop(session.number, []):
                if grown_to > length:
                    segment.change(at & POSITION, kind=Kind.DEAD)
                else:
                    segment.grown.setdefault(session.number, []).append((grown_to, at))
        if token is not None:
            cuts = self._segments[token >> SHIFT].cuts
            cuts.setdefault(session.number, []).append(token)

    def renamed(self, old: str, new: str) -> None:
        """See `Journal`."""
        for file in self._recovered:
            file.path = path_after(file.path, old, new)
        for session in [one for sessions in self._sessions.values() for one in sessions]:
            path = path_after(session.path, old, new)
            if path == session.path:
                continue
            session.move(path)
            if any(session.number in segment.known for segment in self._segments.values()):
                token = self._append(session, Kind.MOVED, 0, 0, json.dumps(path).encode())
                if token is not None:
                    self._segments[token >> SHIFT].moved.add(session.number)

    @staticmethod
    def _trimmed(segment: Segment, span: Span, length: int) -> Span | None:
        """What is left of a record after the file was cut, and known to be in its header."""
        start, end, token = span
        if start >= length:
            segment.change(token & POSITION, kind=Kind.DEAD)
            return None
        if end > length:
            segment.change(token & POSITION, second=length)
        return start, min(end, length), token

    def mark(self) -> int:
        """See `Journal`."""
        current = self._current
        return (self._next + 1) << SHIFT if current is None else token_of(current, current.size)

    def stored(
        self,
        key: DirtyKey,
        start: int,
        end: int,
        mark: int,
        version: int,
        beside: Sequence[DirtyKey] = (),
    ) -> None:
        """See `Journal`. In this order: what is killed meanwhile leaves too much to be stored, and
        never too little.
        """
        sessions = self._sessions.get(key)
        if sessions is None:
            return
        session = sessions[-1]
        session.base = version
        number = session.number
        segments = list(self._segments.values())
        for segment in segments:
            if number in segment.known:
                segment.change(segment.known[number], first=version, second=session.length)
        for segment in segments:
            self._cuts_stored(segment, number, mark)
        dead = dead_spans(
            self._live(number), start, end, mark,
            [span for other in beside for span in self._live(self._sessions[other][-1].number)],
        )  # fmt: skip
        for segment in segments:
            spans = segment.live.pop(number, None)
            if spans is None:
                continue
            left = [span for span in spans if span not in dead]
            if left:
                segment.live[number] = left
            if segment.needed() or segment is self._current:  # else all of it goes
                for span in spans:
                    if span in dead:
                        segment.change(span[2] & POSITION, kind=Kind.DEAD)
            self._drop_if_idle(segment)

    def _live(self, session: int) -> list[Span]:
        """What was written in a session and is not stored."""
        return [span for one in self._segments.values() for span in one.live.get(session, ())]

    def _cuts_stored(self, segment: Segment, session: int, mark: int) -> None:
        """A store that begins after a cut tells the server of it."""
        tokens = segment.cuts.pop(session, [])
        left = [token for token in tokens if token >= mark]
        if left:
            segment.cuts[session] = left
        for token in tokens:
            if token < mark:
                segment.change(token & POSITION, kind=Kind.DEAD)
        if tokens:
            self._drop_if_idle(segment)

    def read(self, token: int, start: int, size: int) -> bytes:
        """See `Journal`."""
        segment = self._segments.get(token >> SHIFT)
        if segment is None:
            raise JournalLost("the journal has forgotten these bytes")
        position = token & POSITION
        try:
            head = os.pread(segment.descriptor, HEADER_SIZE, position)
            found = min(max(size_of(head), 0), segment.size)
            whole = os.pread(segment.descriptor, HEADER_SIZE + found, position)
        except OSError as exc:
            raise JournalLost(f"the journal cannot be read: {exc.strerror}") from exc
        record = next(records(memoryview(whole), position), None)
        if record is None or not record.sound or start + size > len(record.data):
            raise JournalLost(f"{segment.path}: the journal is damaged at {position}")
        return bytes(record.data[start : start + size])

    def clean(self, key: DirtyKey) -> None:
        """See `Journal`."""
        self._end_all(key, inherited=False)

    def recovered(self) -> list[RecoveredFile]:
        """See `Journal`."""
        return self._recovered

    def taking_over(self, keys: Collection[DirtyKey]) -> None:
        """See `Journal`."""
        self._copied = set(keys)

    def taken_over(self, key: DirtyKey) -> None:
        """See `Journal`. What is killed meanwhile leaves both, and the copy is the later one."""
        self._copied.discard(key)
        for session in self._sessions[key]:
            if not session.copy:
                continue
            session.copy = False
            for segment in self._segments.values() if not session.lost else ():
                if session.number in segment.known:
                    segment.change(segment.known[session.number], kind=Kind.OPENED)
        if not self._sessions[key][-1].lost:
            self.forgotten(key)
            return
        for session in self._sessions[key]:  # for the next daemon, until it is clean
            session.inherited = False
        self._release(key)

    def forgotten(self, key: DirtyKey) -> None:
        """See `Journal`."""
        self._copied.discard(key)
        self._end_all(key, inherited=True)
        self._release(key)

    def _release(self, key: DirtyKey) -> None:
        """Nobody asks any more for what was recovered: it may be much."""
        self._recovered = [file for file in self._recovered if file.key != key]

    def _end_all(self, key: DirtyKey, *, inherited: bool) -> None:
        """End the sessions of a key that are inherited, or those that are not."""
        sessions = self._sessions.pop(key, [])
        left = [session for session in sessions if session.inherited is not inherited]
        if left:
            self._sessions[key] = left
        if not self._sessions:
            self._drop_all()
            return
        for session in sessions:
            if session not in left:
                self._end(session)

    # Writing

    def _append(
        self, session: Session, kind: Kind, first: int, second: int, data: Buffer
    ) -> int | None:
        """Write a record; its token, or None: it was not kept, and the session is not either."""
        if session.lost:
            return None
        described = session.described
        try:
            segment = self._room_for(2 * PAGE + len(described) + len(data))
            if session.number not in segment.known:
                opened = Kind.CLEAN if session.copy else Kind.OPENED
                head = header(opened, session.number, session.base, session.length, described)
                segment.known[session.number] = self._write(segment, [head, described])
            head = header(kind, session.number, first, second, data)
            position = self._write(segment, [head, data])
        except OSError as exc:
            if not self._told:
                self._told = True
                log.warning("%s: what is written is in memory only: %s", self._folder, exc)
            session.lost = True
            self._say_clean(session)
            return None
        self._told = False
        return token_of(segment, position)

    def _room_for(self, size: int) -> Segment:
        """The segment to write to; raises `OSError` if there can be none."""
        current = self._current
        if current is not None and current.size + size <= current.taken:
            return current
        if not self._mine():  # what another daemon finds there it would store as left by a dead one
            raise OSError("the folder was deleted or moved")
        taken = max(size, min(SEGMENT_BYTES, self._budget.spare))
        granted = self._budget.take_for_journal(taken)
        self._make_room()  # for the next one
        if not granted:
            raise OSError("there is no room for more")
        number = self._number()
        try:
            segment = Segment(number, self._path(number), taken)
        except OSError:
            self._budget.free_journal(taken)
            raise
        self._segments[number] = self._current = segment
        if current is not None:
            self._drop_if_idle(current)
        return segment

    def _number(self) -> int:
        """The number of another segment, higher than all before, also in the eyes of others who
        take the segment over.
        """
        number = self._next = max(self._next + 1, int(time.time() * 1000))
        return number

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:012x}"

    @staticmethod
    def _write(segment: Segment, pieces: list[Buffer]) -> int:
        """Append; returns where. Nothing is left of what could not be written whole."""
        position = place_for_header(segment.size)
        size = sum(map(len, pieces))
        try:
            if os.pwritev(segment.descriptor, pieces, position) != size:
                raise OSError("the disk is full")
        except OSError:
            with suppress(OSError):
                os.ftruncate(segment.descriptor, segment.size)
            raise
        segment.size = position + size
        return position

    def _say_clean(self, session: Session) -> None:
        """Write over the beginning of a session, wherever it is, that it is over."""
        for segment in self._segments.values():
            position = segment.known.pop(session.number, None)
            if position is not None:
                segment.change(position, kind=Kind.CLEAN)

    def _end(self, session: Session) -> None:
        """A session is over, and needs no segment any more."""
        self._say_clean(session)
        for segment in list(self._segments.values()):
            segment.forget(session.number)
            self._drop_if_idle(segment)

    def _drop_if_idle(self, segment: Segment) -> None:
        if segment is not self._current and not segment.needed():
            self._drop(segment)

    def _drop(self, segment: Segment) -> None:
        del self._segments[segment.number]
        with suppress(OSError):
            if self._mine():
                segment.path.unlink()
        segment.close()
        self._budget.free_journal(segment.taken)

    def _drop_all(self) -> None:
        """Nothing is dirty: one empty segment stays, if there is one to be used again."""
        current = self._current
        for segment in list(self._segments.values()):
            if segment is not current:
                self._drop(segment)
        if current is not None:
            for sessions in (current.live, current.cuts, current.grown, current.known):
                sessions.clear()
            current.pinned.clear()
            current.moved.clear()
            current.size = 0
            try:
                os.ftruncate(current.descriptor, 0)
                number = self._number()  # so that no token or mark of before is good any more
                current.path = current.path.rename(self._path(number))
            except OSError:
                self._current = None
                self._drop(current)
                return
            del self._segments[current.number]
            current.number = number
            self._segments[number] = current

    def close(self) -> None:
        """Let all files go; what is in them stays, and an empty one goes."""
        for segment in self._segments.values():
            if not segment.size and self._mine():
                with suppress(OSError):
                    segment.path.unlink()
            segment.close()
        self._segments.clear()
        self._current = None

    # Reading what an earlier daemon left

    def _load(self) -> None:
        sessions: dict[int, Session] = {}
        over: set[int] = set()
        paths = sorted(self._folder.iterdir())
        # Only what a daemon wrote last can be torn by its end. Inherited files have more in their
        # names: each other daemon's own.
        last = {path.name.partition(".")[2]: path for path in paths}
        damaged: list[Path] = []
        for path in paths:
            try:
                torn = path == last[path.name.partition(".")[2]]
                if self._load_segment(path, sessions, over, may_be_torn=torn):
                    damaged.append(path)
            except OSError as exc:  # the file stays where it is
                log.warning("%s: a journal cannot be read: %s", path, exc.strerror)
                damaged.append(path)
        left = [one for one in sessions.values() if one.left and one.number not in over]
        for session in left if damaged else ():
            session.lost = True  # nobody knows of whom something is missing
        alive = {session.number for session in left}
        for session in left:
            session.inherited = True
            self._sessions.setdefault(session.key, []).append(session)
            self._recovered.append(as_recovered(session, self._boot))
        for segment in list(self._segments.values()):
            if segment.path in damaged:
                segment.pinned = set(alive)  # so that the next daemon sees the damage, too
            segment.pinned &= alive
            self._drop_if_idle(segment)

    def _load_segment(
        self, path: Path, sessions: dict[int, Session], over: set[int], *, may_be_torn: bool
    ) -> bool:
        """Take in a file. Whether something is missing that is not to be explained by a kill."""
        try:
            number = int(path.name.partition(".")[0], 16)  # inherited ones have more in their name
        except ValueError:
            return False
        while number in self._segments:
            number += 1
        self._next = max(self._next, number)
        size = path.stat().st_size
        segment = Segment(number, path, size)
        try:
            content = os.pread(segment.descriptor, size, 0)
        except OSError:
            segment.close()
            raise
        segment.size = size
        self._segments[number] = segment
        self._budget.journal += size
        end = 0
        nameless = False
        for record in records(memoryview(content)):
            replay(record, segment, sessions, over)
            nameless |= record.kind is Kind.OPENED and not record.sound
            end = record.position + HEADER_SIZE + len(record.data)
        if end == size or (may_be_torn and not has_more(memoryview(content), end + 1)):
            return nameless
        log.warning(
            "%s: damaged at %d: what was written after that and not stored may be lost", path, end
        )
        return True
