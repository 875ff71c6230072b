"""How often one vnode is asked about in the background, however often its promise is broken."""

from __future__ import annotations

from typing import TYPE_CHECKING

from afsfuse.cell.tables import compacted

if TYPE_CHECKING:
    from afsfuse.cache.vnodes import Vnode

PAUSE = 1.0
"""Seconds between two questions about a vnode of which too many were asked."""
_FREE = 8  # questions in a row that need not wait
_REMEMBERED = 1024  # vnodes, before those that have been quiet are forgotten


class Pace:
    """Questions about a vnode in a row, each within `PAUSE` of the one before.

    A server that breaks its promise in answer to each question, or a file that is stored to again
    and again, would else be asked about without end, and take the place of all others.
    """

    def __init__(self) -> None:
        self._asked: dict[Vnode, tuple[float, int]] = {}

    def pause(self, vnode: Vnode, now: float) -> float:
        """Seconds to wait before the next question about a vnode."""
        last, count = self._asked.get(vnode, (now, 0))
        return PAUSE if count >= _FREE and now < last + PAUSE else 0.0

    def asked(self, vnode: Vnode, now: float) -> None:
        """A question is about to be asked."""
        last, count = self._asked.pop(vnode, (now, 0))
        self._asked[vnode] = now, count + 1 if now <= last + 2 * PAUSE else 1
        if len(self._asked) > _REMEMBERED:
            quiet = [v for v, (asked, _) in self._asked.items() if now > asked + 2 * PAUSE]
            for each in quiet:
                del self._asked[each]

    def forget(self, vnode: Vnode) -> None:
        """The vnode has left the table."""
        self._asked.pop(vnode, None)

    def compact(self) -> None:
        """Give back the room of what has been forgotten."""
        self._asked = compacted(self._asked)
