"""How promises end: taken back by servers, forgotten by them, or given up by us.

What a server takes back counts as broken from the moment in which that is known: also promises that
are on their way to us just now (`BreakLog`). Nothing here awaits.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from afsfuse.cache.statuses import identities

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
    from uuid import UUID

    from afsfuse.cache.callbacks import BreakLog
    from afsfuse.cache.vnodes import Vnode, VnodeTable
    from afsfuse.cell.servers import FileServer
    from afsfuse.cell.volumes import Volume
    from afsfuse.interfaces.common import Fid


def _key(fid: Fid) -> Hashable:
    """What a `BreakLog` calls it; vnode 0 stands for the whole volume."""
    return fid if fid.vnode else fid.volume


class Promises:
    """Ends promises of the vnodes in a table."""

    def __init__(
        self, table: VnodeTable, log: BreakLog, lost: Callable[[Vnode, bool], object]
    ) -> None:
        """`lost` is called with each vnode that may not be relied on any more, and whether there
        was a promise for it.
        """
        self._table = table
        self._log = log
        self._lost = lost
        self.breaks = 0
        """Promises that were broken, since the start."""
        self.server_breaks = 0
        """Times that all those of a server were."""

    def break_fids(self, fids: Iterable[Fid]) -> list[Vnode]:
        """A server takes promises back; vnode 0 stands for the whole volume.

        Returns the vnodes that lost one.
        """
        fids = list(fids)
        for fid in fids:
            self._log.note(_key(fid))
        lost = self._withdraw(fids)
        self.breaks += len(lost)
        return lost

    @contextlib.contextmanager
    def giving_back(self, fids: Sequence[Fid]) -> Iterator[None]:
        """While a call of ours gives them back, no promise for these counts, and afterwards only
        what is asked for then: in which order a server takes that call and another nobody can say.
        """
        keys = list(map(_key, fids))
        self._log.suspend(keys)
        try:
            yield
        finally:
            self._log.resume(keys)
            self._withdraw(fids)

    def _withdraw(self, fids: Iterable[Fid]) -> list[Vnode]:
        lost: list[Vnode] = []
        for fid in fids:
            self._table.end_promises_for(fid.volume)
            lost += [vnode for vnode in self._table.promised(fid) if self.lose(vnode)]
        return lost

    def break_server(self, server: tuple[str, int], uuid: UUID | None = None) -> list[Vnode]:
        """A server has forgotten all promises that it gave us; `uuid` is its own, if it said so."""
        self.server_breaks += 1
        names = {server[0]} if uuid is None else {server[0], uuid}
        self._log.note_server(names)

        def is_gone(server: FileServer) -> bool:
            return not names.isdisjoint(identities(server))

        gone = set(filter(is_gone, self._table.servers))
        if not gone:
            return []  # anybody may say so: it is not to cost a look at each vnode
        self._table.end_promises(gone.__contains__)
        return self._lose_all([vnode for vnode in self._table if vnode.server in gone])

    def server_changed(self, volume: Volume, before: FileServer) -> None:
        """Another server is asked about a volume: `before` may have no way to break promises."""
        self._table.end_promises(lambda server: server is before)
        vnodes = list(self._table.shelf(volume).vnodes.values())
        self._lose_all([vnode for vnode in vnodes if vnode.server is before])

    def break_all(self) -> list[Vnode]:
        """No promise of any server holds any more."""
        self.server_breaks += 1
        self._log.note_all()
        self._table.end_promises(lambda server: True)
        return self._lose_all(list(self._table))

    def end(self) -> None:
        """The same at the end of the cache: nobody is told, since nobody is to ask again now."""
        self._log.note_all()
        self._table.end_promises(lambda server: True)
        for vnode in self._table:
            vnode.void()

    def lose(self, vnode: Vnode) -> bool:
        """End a vnode's promise. True if there was one."""
        had = vnode.expires > 0.0
        vnode.void()
        self._lost(vnode, had)
        return had

    def _lose_all(self, vnodes: Iterable[Vnode]) -> list[Vnode]:
        lost = [vnode for vnode in vnodes if self.lose(vnode)]
        self.breaks += len(lost)
        return lost
