"""Breaks of callback promises, and why a break is never overtaken by the fetch that it concerns.

A break can arrive while a fetch of the same file is under way, before or after the server answered
it: packets of two connections have no order. So each fetch notes the time on a logical clock when
it starts, and the promise that it brings counts only if no break that concerns it has been noted
since then. The data and the status that it brings are still good: they were true at some moment
after the fetch began.

What a call of ours gives back is broken as long as that is under way (`suspend`): the server may
take the fetch first, and nobody would be told of a change between that and the end of the call.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Hashable, Iterable

    from afsfuse.interfaces.common import Fid

_REMEMBERED = 4096  # breaks noted one by one; older ones count against every fetch


class BreakLog:
    """A logical clock, and which breaks it has seen since the oldest fetch under way began.

    Breaks are noted for a file (its `Fid`), for a volume (its number) or for a server (a host
    address or a UUID, whichever it was told by), and changed tokens for an identity and a cell.
    Volume numbers of two cells may be equal; the
    wrong one then loses a promise, which costs a fetch and nothing else.
    """

    def __init__(self, remembered: int = _REMEMBERED) -> None:
        """Remember at most so many breaks one by one."""
        self._remembered = remembered
        self._now = 0
        self.latest = 0.0  # logical time of the latest break of any kind; infinite: one goes on
        self._server_break = 0  # ... and of the latest one of all promises of a server
        self._floor = 0  # fetches begun before this time get no promise at all
        self._breaks: dict[Hashable, int] = {}
        self._flights = 0
        self._suspended: Counter[Hashable] = Counter()

    @property
    def now(self) -> int:
        """The logical time: moves with each fetch that begins and with each break."""
        return self._now

    def begin(self) -> int:
        """A fetch begins: return its ticket. Every `begin` must be followed by one `end`."""
        self._flights += 1
        self._now += 1
        return self._now

    def end(self) -> None:
        """A fetch is over, whatever its outcome. After the last one nothing need be remembered."""
        self._flights -= 1
        if not self._flights:
            self._breaks.clear()

    def note(self, key: Hashable) -> None:
        """A promise was broken: of a `Fid`, a volume number or a server's identity."""
        self._tick()
        if not self._flights:
            return
        self._breaks.pop(key, None)
        self._breaks[key] = self._now
        if len(self._breaks) > self._remembered:
            oldest = next(iter(self._breaks))
            self._floor = self._breaks.pop(oldest)

    def note_server(self, names: Iterable[Hashable]) -> None:
        """All promises of one server are void."""
        for name in names:
            self.note(name)
        self._server_break = self._now

    def note_all(self) -> None:
        """All promises of all servers are void."""
        self._tick()
        self._server_break = self._floor = self._now

    def suspend(self, keys: Iterable[Hashable]) -> None:
        """What is promised of these `Fid`s and volumes counts for broken, until `resume`."""
        self._suspended.update(keys)
        self._tick()

    def resume(self, keys: Collection[Hashable]) -> None:
        """It is broken for a last time."""
        self._suspended.subtract(keys)
        self._suspended = +self._suspended
        for key in keys:
            self.note(key)

    def _tick(self) -> None:
        self._now += 1
        self.latest = math.inf if self._suspended else self._now

    def may_join(self, ticket: int, fid: Fid, *names: Hashable) -> bool:
        """Whether who asks now may have the answer of a fetch with this ticket.

        Not if a break came since it began. Nobody knows yet which server will answer, so a break
        of any server's promises counts. `names`: of what else a change counts.
        """
        return self._server_break <= ticket and not self.broken_since(ticket, fid, names)

    def changed_since(self, ticket: int, name: Hashable) -> bool:
        """Whether this very name was noted since a fetch with this ticket began."""
        return self.latest > ticket and (self._floor > ticket or self._breaks.get(name, 0) > ticket)

    def broken_since(self, ticket: int, fid: Fid, server: Iterable[Hashable] = ()) -> bool:
        """Whether a promise for `fid`, fetched with this ticket, was void before it arrived.

        `server` are the identities under which a break of all of the server's promises may have
        been noted.
        """
        if self.latest <= ticket:
            return False  # the usual case, and cheap
        if self._floor > ticket:
            return True
        get = self._breaks.get
        if fid in self._suspended or fid.volume in self._suspended:
            return True
        return (
            get(fid, 0) > ticket
            or get(fid.volume, 0) > ticket
            or any(get(name, 0) > ticket for name in server)
        )
