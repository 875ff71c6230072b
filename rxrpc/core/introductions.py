"""New connections that a peer has not answered yet: how many there may be, and who waits for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rxrpc.core.bundle import Bundle
    from rxrpc.core.context import Context


class Introductions:
    """Turns for the first calls of new connections to one peer, over all bundles.

    An OpenAFS file server holds a lock on a client host while it finds out who comes with a new
    connection, and answers VBUSY to the host's calls that would wait there with more than a few
    others, whoever makes them. So when many identities come at once, each with a connection of its
    own, they are let in a few at a time: `Parameters.max_introductions_per_peer`. Bundles that wait
    get their turns in the order in which they came; with each turn one goes to the end.
    """

    __slots__ = ("_context", "_waiting", "under_way")

    def __init__(self, context: Context) -> None:
        self._context = context
        self._waiting: dict[Bundle, None] = {}  # the first one is next
        self.under_way = 0

    @property
    def waiting(self) -> int:
        """Bundles that wait for a turn."""
        return len(self._waiting)

    def may_begin(self, bundle: Bundle) -> bool:
        """Whether it is a bundle's turn; if not, it is woken when it is."""
        is_next = not self._waiting or next(iter(self._waiting)) is bundle
        if is_next and self._has_room():
            self._waiting.pop(bundle, None)
            return True
        self._waiting.setdefault(bundle)
        return False

    def begin(self) -> None:
        """A connection that was not answered yet has a call."""
        self.under_way += 1

    def end(self, now: float) -> None:
        """It was answered, failed, or has taken its time: let others begin."""
        self.under_way -= 1
        while self._waiting and self._has_room():
            bundle = next(iter(self._waiting))
            bundle.on_channel_free(now)
            if next(iter(self._waiting), None) is bundle:  # it needs no turn any more
                del self._waiting[bundle]

    def _has_room(self) -> bool:
        return self.under_way < self._context.parameters.max_introductions_per_peer
