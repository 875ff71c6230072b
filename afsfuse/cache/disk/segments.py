"""Segments and sessions of the journal: what is known of its files, and of whose they are."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from afsfuse.cache.disk.records import HEADER_SIZE, Kind, changed
from afsfuse.cache.journal import DirtyKey, RecoveredFile

if TYPE_CHECKING:
    from collections.abc import Iterable

    from afsfuse.cache.disk.records import Record

    Span = tuple[int, int, int]

log = logging.getLogger(__name__)

SHIFT = 40
"""A token is the number of a segment, and a position in it."""
POSITION = (1 << SHIFT) - 1
_BOOT = Path("/proc/sys/kernel/random/boot_id")


class Segment:
    """One file, open as long as it is needed."""

    __slots__ = (
        "cuts",
        "descriptor",
        "grown",
        "known",
        "live",
        "moved",
        "number",
        "path",
        "pinned",
        "size",
        "taken",
    )

    def __init__(self, number: int, path: Path, taken: int) -> None:
        self.number = number
        self.path = path
        self.taken = taken  # bytes of the budget
        self.size = 0
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self.known: dict[int, int] = {}
        """Where each session was opened, or is said once more to be."""
        self.live: dict[int, list[Span]] = {}
        """Of each session the records that are not stored: start and end in the file, and token."""
        self.cuts: dict[int, list[int]] = {}
        """... and the tokens of cuts that no server knows of."""
        self.grown: dict[int, list[tuple[int, int]]] = {}
        """... and lengths without data, and the tokens of what says so: until it is clean."""
        self.moved: set[int] = set()
        """Sessions of which it tells the path: until they are clean."""
        self.pinned: set[int] = set()
        """Sessions of an earlier daemon."""

    def needed(self) -> bool:
        return bool(self.live or self.cuts or self.grown or self.moved or self.pinned)

    def forget(self, session: int) -> None:
        """A session needs nothing here any more."""
        self.live.pop(session, None)
        self.cuts.pop(session, None)
        self.grown.pop(session, None)
        self.moved.discard(session)
        self.pinned.discard(session)

    def change(
        self,
        position: int,
        kind: Kind | None = None,
        first: int | None = None,
        second: int | None = None,
    ) -> None:
        """Write over the header of a record; that takes no room on the disk."""
        try:
            head = os.pread(self.descriptor, HEADER_SIZE, position)
            os.pwrite(self.descriptor, changed(head, kind, first, second), position)
        except (OSError, ValueError) as exc:
            log.warning("%s: cannot be kept up to date at %d: %s", self.path, position, exc)

    def close(self) -> None:
        os.close(self.descriptor)


class Session:
    """What is known of one file in one name."""

    __slots__ = (
        "base",
        "boot",
        "copy",
        "cut",
        "described",
        "inherited",
        "key",
        "lasted",
        "left",
        "length",
        "lost",
        "number",
        "path",
        "torn",
        "written",
    )

    def __init__(
        self, number: int, key: DirtyKey, base: int, length: int, path: str, boot: str
    ) -> None:
        self.number = number
        self.key = key
        self.base = base
        self.length = length
        self.copy = False  # half of what another one has, which counts as long as this is set
        self.boot = boot  # which life of the machine its daemon belongs to
        self.move(path)
        self.lost = False  # not to be recovered
        self.inherited = False  # an earlier daemon's, of which this one has not made its own
        self.left = False  # for recovery: whether anything is not stored
        self.cut: int | None = None  # for recovery: the least length that no server knows of
        # ... and offsets, bytes and tokens
        self.written: list[tuple[int, memoryview, int]] = []
        self.lasted = (0, 0)  # for recovery: the tokens of the first and the last record
        self.torn = False  # for recovery: whether its segments are not of the same moment

    def move(self, path: str) -> None:
        """The file is at this path."""
        key = self.key
        self.path = path
        self.described = json.dumps(
            [key.cell, key.volume, key.vnode, key.unique, key.who, path, self.boot]
        ).encode()


def dead_spans(
    spans: list[Span], start: int, end: int, mark: int, others: Iterable[Span] = ()
) -> set[Span]:
    """Which records are of no use when a range is stored as it was at a mark.

    One that reaches beyond the range has bytes which are still needed, and so have those of
    `others`; and what lies over them has to lie over them again.
    """
    kept: list[Span] = []
    dead: set[Span] = set()
    foreign = {span for span in others if span[0] < end and start < span[1]}
    for span in sorted([*spans, *foreign], key=_by_token):
        first, last, token = span
        if token >= mark or last <= start or first >= end:
            continue
        if (
            span in foreign
            or first < start
            or last > end
            or any(k[0] < last and first < k[1] for k in kept)
        ):
            kept.append(span)
        else:
            dead.add(span)
    return dead


def _by_token(span: Span) -> int:
    return span[2]


def token_of(segment: Segment, position: int) -> int:
    return segment.number << SHIFT | position


def replay(record: Record, segment: Segment, sessions: dict[int, Session], over: set[int]) -> None:
    """Take in one record of an earlier daemon."""
    number = record.session
    if record.kind is Kind.CLEAN:
        over.add(number)
        return
    session = sessions.get(number)
    token = token_of(segment, record.position)
    if session is not None:
        session.lasted = session.lasted[0], token
    if record.kind is Kind.OPENED:
        segment.known[number] = record.position
        if not record.sound:
            log.warning("%s: damaged: what belongs to it cannot be told", segment.path)
        elif session is None:
            sessions[number] = session = _session(record)
            session.lasted = token, token
        else:  # each later segment knows more
            session.torn |= session.base != record.first
            session.base, session.length = record.first, max(session.length, record.second)
        return
    if session is None or record.kind is Kind.DEAD:
        return
    segment.pinned.add(number)
    if record.kind is Kind.MOVED:
        if record.sound:
            session.move(json.loads(bytes(record.data)))
        return
    session.left = True
    session.lost |= not record.sound
    match record.kind:
        case Kind.WRITTEN:
            size = record.second - record.first
            session.written.append((record.first, record.data[:size], token))
            session.length = max(session.length, record.second)
        case Kind.CUT:
            session.length = record.first
            session.written = [
                (offset, data[: max(0, record.first - offset)], order)
                for offset, data, order in session.written
            ]
            session.cut = record.first if session.cut is None else min(session.cut, record.first)
        case Kind.GROWN:
            session.length = max(session.length, record.first)


def _session(record: Record) -> Session:
    """The session that a record opens."""
    *key, path, boot = [*json.loads(bytes(record.data)), ""][:7]  # none in older journals
    return Session(record.session, DirtyKey(*key), record.first, record.second, path, boot)


def this_boot() -> str:
    """What tells this life of the machine from all others; empty if nothing does.

    Source: Documentation/admin-guide/sysctl/kernel.rst of Linux, `random`.
    """
    try:
        return _BOOT.read_text().strip()
    except OSError:
        return ""


def as_recovered(session: Session, boot: str) -> RecoveredFile:
    """What a session has left. A kill leaves the journal as it was at that moment. A loss of power
    leaves of each page what it was at some moment, and the server may have got all that followed.
    """
    exact = bool(boot) and session.boot == boot
    whole = not session.lost and (exact or not session.torn)
    written = [one for one in session.written if len(one[1])]
    return RecoveredFile(
        session.key, session.base, session.length, session.path,
        [(offset, data) for offset, data, _ in written],
        [order for *_, order in written],
        session.lasted, session.cut, whole=whole, exact=exact,
    )  # fmt: skip
