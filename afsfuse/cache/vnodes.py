"""Vnodes: what is known of the files of all cells, and the table that holds them."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from afsfuse.auth.identity import NOBODY
from afsfuse.cell.tables import compacted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from afsfuse.auth.identity import Identity
    from afsfuse.cache.chunks import FileData
    from afsfuse.cache.directories import Directory
    from afsfuse.cache.dirty import DirtyFile
    from afsfuse.cell.servers import FileServer
    from afsfuse.cell.volumes import Volume
    from afsfuse.interfaces.common import Fid
    from afsfuse.model import Status

PROMISE_MARGIN = 10.0  # seconds: a promise that ends sooner counts as ended. Source: validation.c

PERMITS_MAX = 64  # identities whose rights in one directory are remembered

_EVICTION_STEPS = 8  # vnodes looked at for each one that is added, so that adding stays cheap


class Vnode:
    """One file, directory or symlink of a volume, and what we know of it.

    There is one object for each fid as long as it is in the table. `status` is always set; whether
    it may be relied on is a question of the promise.
    """

    __slots__ = (
        "applied",
        "asked_by",
        "created",
        "data",
        "directory",
        "dirty",
        "door",
        "evicted_version",
        "expires",
        "fid",
        "holder",
        "link",
        "look_until",
        "permits",
        "read_until",
        "server",
        "status",
        "ticket",
        "unlinked",
        "unsafe",
        "used",
        "volume",
    )

    def __init__(self, volume: Volume, fid: Fid, status: Status) -> None:
        """A vnode without a promise."""
        self.volume = volume
        self.fid = fid
        self.status = status
        self.expires = 0.0  # trio's clock; 0.0: no promise
        self.server: FileServer | None = None  # whose promise it is
        self.ticket = 0  # logical time (`BreakLog`) at which the fetch of `status` began
        self.applied = 0  # ... and at which its reply was applied
        self.created = 0  # of which instance of its volume `status` is; 0: not known for certain
        self.data: FileData | None = None  # chunks of the data version in `status`
        self.dirty: DirtyFile | None = None  # what of a file is not stored yet
        self.unsafe = 0  # when we last stored what may not be on the server's disk; 0: all is
        self.directory: Directory | None = None  # may be older than `status`: compare versions
        self.evicted_version: int | None = None  # of a directory seen before but not kept
        self.link: tuple[int, bytes] | None = None  # data version and body of a symlink
        self.used = True  # since the table's hand last came by
        self.unlinked = 0  # 1: its last name is one that keeps it for those who have it open
        self.holder: object = None  # belongs to the layer above, never touched here
        self.asked_by: Identity = NOBODY  # who brought `status`, and may do so again
        self.door: Vnode | None = None  # of a file: the directory whose access list counts
        # Of a directory: until when anybody may look into it, and read its files; 0.0: not known
        self.look_until = 0.0
        self.read_until = 0.0
        self.permits: dict[Identity, int] | None = None  # ... and who has which rights in it

    def void(self) -> None:
        """The promise has ended, and with it whatever rights were told."""
        self.expires = self.look_until = self.read_until = 0.0
        self.permits = None

    def permit(self, who: Identity, rights: int) -> None:
        """Keep what a server said of the rights of an identity in this directory."""
        permits = self.permits
        if permits is None:
            permits = self.permits = {}
        permits.pop(who, None)
        permits[who] = rights
        if len(permits) > PERMITS_MAX:
            del permits[next(iter(permits))]

    def valid(self, now: float) -> bool:
        """Whether `status` may be relied on: the promise ends more than 10 s from now."""
        return self.expires - PROMISE_MARGIN > now

    def remaining(self, now: float) -> float:
        """For how many seconds from now others may rely on `status`; 0 without a promise."""
        return max(0.0, self.expires - PROMISE_MARGIN - now)

    @property
    def data_version(self) -> int:
        """The data version in `status`."""
        return self.status.data_version

    def __repr__(self) -> str:
        """Cell and fid."""
        return f"<Vnode {self.volume.cell.name}:{self.fid}>"


class Shelf:
    """The vnodes of one volume, and the state of the volume that concerns all of them."""

    __slots__ = ("created", "expires", "seen", "server", "vnodes", "volume")

    def __init__(self, volume: Volume) -> None:
        """An empty shelf."""
        self.volume = volume
        self.vnodes: dict[Fid, Vnode] = {}
        self.created = 0  # the volume instance's creation time as servers report it; 0: unknown
        self.seen = 0  # logical time at which that was learnt
        # Of a volume that nobody can write: the latest promise, which is for all of its files
        self.expires = 0.0
        self.server: FileServer | None = None

    def is_past(self, created: int) -> bool:
        """Whether an instance, by its creation time, is known to have been followed by another:
        equal data versions do not mean equal data then. For what has been looked at for news.
        """
        return created not in (0, self.created)


class VnodeTable:
    """All vnodes, by volume and fid, and in order of use.

    At most `limit` vnodes that nobody above holds are kept; `held` tells which are. Held ones stay
    whatever their number: their breaks must be heard.
    """

    def __init__(
        self, limit: int, held: Callable[[Vnode], bool], dropped: Callable[[Vnode], None]
    ) -> None:
        """`dropped` is called with each vnode that leaves."""
        self.limit = limit
        self.evicting: Callable[[Vnode], None] = lambda vnode: None
        """Called with each vnode that leaves for want of room, before it does."""
        self.servers: set[FileServer] = set()
        """Whose word anything here rests on, or has rested: `compact` forgets the latter."""
        self._held = held
        self._dropped = dropped
        self._shelves: dict[tuple[str, int], Shelf] = {}
        self._by_number: dict[int, list[Shelf]] = {}  # cells may use the same volume number
        self._order: OrderedDict[Vnode, None] = OrderedDict()  # a clock: the hand is at the front

    def __len__(self) -> int:
        """Number of vnodes."""
        return len(self._order)

    def __iter__(self) -> Iterator[Vnode]:
        """All vnodes; the table must not change meanwhile."""
        return iter(self._order)

    def find(self, volume: Volume, fid: Fid) -> Vnode | None:
        """The vnode of a fid, None if nothing is known of it."""
        shelf = self._shelves.get((volume.cell.name, volume.id))
        return None if shelf is None else shelf.vnodes.get(fid)

    def holds(self, vnode: Vnode) -> bool:
        """Whether somebody above holds a vnode, so that it must stay."""
        return self._held(vnode)

    def on_shelf(self, volume: Volume) -> list[Vnode]:
        """The vnodes of a volume."""
        shelf = self._shelves.get((volume.cell.name, volume.id))
        return [] if shelf is None else list(shelf.vnodes.values())

    def clear_shelf(self, volume: Volume) -> None:
        """Forget the shelf of a volume if there is nothing on it."""
        shelf = self._shelves.get((volume.cell.name, volume.id))
        if shelf is None or shelf.vnodes:
            return
        del self._shelves[volume.cell.name, volume.id]
        others = self._by_number[volume.id]
        others.remove(shelf)
        if not others:
            del self._by_number[volume.id]

    def compact(self) -> None:
        """Give back the room of vnodes that have gone."""
        self._order = compacted(self._order)
        self._shelves = compacted(self._shelves)
        self._by_number = compacted(self._by_number)
        self.servers = {vnode.server for vnode in self._order if vnode.server is not None}
        self.servers |= {s.server for s in self._shelves.values() if s.server is not None}

    def shelf(self, volume: Volume) -> Shelf:
        """The shelf of a volume, made when it is not there."""
        key = (volume.cell.name, volume.id)
        shelf = self._shelves.get(key)
        if shelf is None:
            shelf = self._shelves[key] = Shelf(volume)
            self._by_number.setdefault(volume.id, []).append(shelf)
        return shelf

    def created(self, volume: Volume) -> int:
        """When a volume was created, as its servers say; 0: not known."""
        return self.shelf(volume).created

    def end_promises(self, concerned: Callable[[FileServer], bool]) -> None:
        """No promise of these servers for a whole volume holds any more."""
        for shelf in self._shelves.values():
            if shelf.server is not None and concerned(shelf.server):
                shelf.expires = 0.0

    def end_promises_for(self, number: int) -> None:
        """No promise for the whole of a volume holds any more."""
        for shelf in self._by_number.get(number, ()):
            shelf.expires = 0.0

    def add(self, shelf: Shelf, vnode: Vnode) -> None:
        """Enter a vnode whose fid is not on the shelf yet; others may have to leave."""
        shelf.vnodes[vnode.fid] = vnode
        self._order[vnode] = None
        if len(self._order) > self.limit:
            self._evict()

    def remove(self, vnode: Vnode) -> None:
        """Take a vnode out. Its promise ends here, since nobody would hear the break."""
        del self.shelf(vnode.volume).vnodes[vnode.fid]
        del self._order[vnode]
        vnode.void()
        self._dropped(vnode)

    def with_fid(self, fid: Fid) -> list[Vnode]:
        """The vnodes with this fid, of whatever cell."""
        shelves = self._by_number.get(fid.volume, ())
        return [vnode for shelf in shelves if (vnode := shelf.vnodes.get(fid)) is not None]

    def of_volume(self, number: int) -> list[Vnode]:
        """The vnodes of all volumes with this number, of whatever cell."""
        return [
            vnode for shelf in self._by_number.get(number, ()) for vnode in shelf.vnodes.values()
        ]

    def promised(self, fid: Fid) -> list[Vnode]:
        """The vnodes, of whatever cell, for which a promise for this fid counts.

        Vnode 0 stands for the whole volume.
        """
        return self.with_fid(fid) if fid.vnode else self.of_volume(fid.volume)

    def _evict(self) -> None:
        """Move the hand on a few steps; what nobody used or holds leaves."""
        for _ in range(_EVICTION_STEPS):
            vnode = next(iter(self._order))
            if vnode.used or self._held(vnode):
                vnode.used = False
                self._order.move_to_end(vnode)
                continue
            self.evicting(vnode)
            self.remove(vnode)
            if len(self._order) <= self.limit:
                return
