"""The locks that processes of this machine have on one file, with the rules of Linux.

There are two kinds, which do not see each other: POSIX locks on ranges of bytes (fcntl(2)), which
belong to a process, and locks on the whole open file (flock(2)). Nothing here waits or asks a
server; what a lock means to others is for `cache.locks` to know.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

from afsfuse.auth.identity import NOBODY, Identity
from afsfuse.interfaces.fileserver import LockType

if TYPE_CHECKING:
    from collections.abc import Iterator

END = 1 << 63
"""Where a range ends that reaches to the end of the file, however long that becomes."""


class LockKind(enum.Enum):
    """How a lock was asked for; the owners of the two have nothing in common."""

    POSIX = "fcntl"
    FLOCK = "flock"


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose lock it is: a process, or an open file, by the kernel's number for it."""

    kind: LockKind
    number: int


@dataclass(frozen=True, slots=True)
class LockRequest:
    """A lock that somebody asks for."""

    owner: Owner
    type: LockType
    start: int = 0
    """The first byte."""
    end: int = END
    """The byte behind the last one."""
    pid: int = 0
    """The process, for whoever is told who is in the way."""
    handle: int = 0
    """The open file through which it is asked for."""
    who: Identity = NOBODY
    """In whose name."""

    @property
    def whole(self) -> bool:
        """Whether it is for all of the file."""
        return self.start == 0 and self.end == END


@dataclass(slots=True)
class Span:
    """A range that an owner has locked."""

    start: int
    end: int
    type: LockType
    pid: int


def conflict(request: LockRequest, other: LockRequest | Span) -> bool:
    """Whether two locks of two owners exclude each other, if they are of one kind."""
    exclusive = LockType.WRITE in (request.type, other.type)
    return exclusive and request.start < other.end and other.start < request.end


class LockTable:
    """The locks on one file. Spans of one owner are sorted and do not overlap, and where two of
    one type touch they are one."""

    def __init__(self) -> None:
        self._spans: dict[Owner, list[Span]] = {}
        self._handles: dict[Owner, set[int]] = {}

    def __bool__(self) -> bool:
        return bool(self._spans)

    def __len__(self) -> int:
        """Spans of all owners."""
        return sum(map(len, self._spans.values()))

    def owners(self) -> Iterator[Owner]:
        """All who have a lock."""
        return iter(self._spans)

    def spans(self, owner: Owner) -> list[Span]:
        """What an owner has locked."""
        return self._spans.get(owner, [])

    def blockers(self, request: LockRequest) -> list[tuple[Owner, Span]]:
        """What is in the way of a request, one span of each owner, the lowest first."""
        found: list[tuple[Owner, Span]] = []
        for owner, spans in self._spans.items():
            if owner.kind is not request.owner.kind or owner == request.owner:
                continue
            for span in spans:
                if conflict(request, span):
                    found.append((owner, span))
                    break
        found.sort(key=lambda entry: entry[1].start)
        return found

    def lock(self, request: LockRequest) -> None:
        """Enter a lock that nothing is in the way of; it takes the place of what the owner had
        there before."""
        spans = self._without(request.owner, request.start, request.end)
        spans.append(Span(request.start, request.end, request.type, request.pid))
        spans.sort(key=lambda span: span.start)
        joined = spans[:1]
        for span in spans[1:]:
            last = joined[-1]
            if last.end == span.start and last.type is span.type:
                last.end, last.pid = span.end, request.pid
            else:
                joined.append(span)
        self._spans[request.owner] = joined
        self._handles.setdefault(request.owner, set()).add(request.handle)

    def unlock(self, owner: Owner, start: int = 0, end: int = END) -> None:
        """Let go of a range, of which the owner may have had nothing."""
        left = self._without(owner, start, end)
        if left:
            self._spans[owner] = left
        else:
            self._spans.pop(owner, None)
            self._handles.pop(owner, None)

    def locked_through(self, handle: int) -> list[Owner]:
        """Who has locks that were asked for through an open file."""
        return [owner for owner, handles in self._handles.items() if handle in handles]

    def _without(self, owner: Owner, start: int, end: int) -> list[Span]:
        """The spans of an owner outside of a range."""
        left: list[Span] = []
        for span in self._spans.get(owner, ()):
            if span.end <= start or end <= span.start:
                left.append(span)
                continue
            if span.start < start:
                left.append(Span(span.start, start, span.type, span.pid))
            if end < span.end:
                left.append(Span(end, span.end, span.type, span.pid))
        return left
