"""What of a file is not on its server yet: bytes, a length, a time; and what keeps it from there.

The file as its writers see it is the server's version (the *base*), cut off where it was truncated
since, with the extents laid over it. A truncation is remembered until a server knows of it: a file
that was cut and has grown again has zeros between, whatever the server still has there.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import trio

from afsfuse.cache.extents import Extents, oldest
from afsfuse.cache.journal import DirtyKey
from afsfuse.errors import AfsError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from afsfuse.auth.identity import Identity
    from afsfuse.cache.extents import Extent
    from afsfuse.cache.journal import Journal
    from afsfuse.cache.vnodes import Vnode
    from afsfuse.fileserver.replies import ChangeReply

_FIRST_PAUSE = 1.0  # seconds until what could not be stored is tried again
_LONGEST_PAUSE = 60.0

OLD_END = 2**31 - 1
"""The longest file that servers without StoreData64 take."""
NO_END = 2**62
"""A length that no file has."""


class Change(NamedTuple):
    """A change of the length or the time that is to be stored."""

    value: int
    who: Identity
    sequence: int


def too_much(files: Iterable[DirtyFile]) -> AfsError:
    """What a writer is told when nothing of these can be stored and their data takes all the room.

    It may pass if all that keeps them from it may.
    """
    error = AfsError(
        "too much data waits for being stored: see `afsfuse status`", errno=errno.ENOSPC
    )
    error.passing = all(
        trouble.error.passing for file in files for trouble in file.trouble.values()
    )
    return error


@dataclass(eq=False, slots=True)
class Trouble:
    """Why nothing more of a file is stored in one name at the moment."""

    error: AfsError
    at: float
    """Unix time of the first failure."""
    next_try: float
    """trio's time."""
    pause: float = _FIRST_PAUSE
    waiting: bool = True
    """Whether nothing is tried before `next_try`."""

    def again(self, error: AfsError, now: float) -> None:
        """It failed once more."""
        self.error = error
        self.pause = min(2 * self.pause, _LONGEST_PAUSE)
        self.next_try = now + self.pause
        self.waiting = True


def trouble(error: AfsError, now: float, wall: float) -> Trouble:
    """The first failure."""
    return Trouble(error, wall, now + _FIRST_PAUSE)


@dataclass(eq=False, slots=True)
class Flight:
    """One call that stores something of a file."""

    file: DirtyFile
    who: Identity
    extents: list[Extent] = field(default_factory=list)
    position: int = 0
    size: int = 0
    cut: Change | None = None
    """The truncation that it carries to the server. No other flight goes beside it."""
    grow: Change | None = None
    stamp: Change | None = None
    """The time that it sets, and nothing else."""
    mark: int = 0
    """When it began, for the journal."""
    safe: bool = False
    """Whether the server answers only when all is on its disk."""
    given_up: bool = False
    """Whether nobody wants any more what it carries, so that its failure is nobody's trouble."""

    @property
    def end(self) -> int:
        return self.position + self.size

    @property
    def sequence(self) -> int:
        """The oldest of the changes that it carries."""
        changes = [one.sequence for one in (self.cut, self.grow, self.stamp) if one is not None]
        return min([*changes, *(extent.sequence for extent in self.extents)])

    @property
    def alone(self) -> bool:
        """Whether no other flight of the file may be under way meanwhile."""
        return not self.size or self.cut is not None


class DirtyFile:
    """The changes of one file that are not stored yet. `Vnode.dirty` while there are any."""

    __slots__ = (
        "_key",
        "base",
        "cursor",
        "cut",
        "early",
        "extents",
        "flights",
        "foreign",
        "grow",
        "keys",
        "mtime",
        "path",
        "progress",
        "reach",
        "rushed",
        "safe",
        "sequence",
        "since",
        "stamp",
        "trouble",
        "unsure",
        "unsure_since",
        "vnode",
        "waiters",
        "warned",
    )

    def __init__(self, vnode: Vnode, path: str, now: float) -> None:
        """Nothing changed yet; `now` is Unix time, `path` for people."""
        self.vnode = vnode
        self.path = path
        self.since = now
        self.extents = Extents()
        self.cut: Change | None = None
        """To what length the base was cut at some time since it was stored."""
        self.grow: Change | None = None
        """To what length it was extended without data."""
        self.stamp: Change | None = None
        """The time that somebody has set."""
        self.mtime = int(now)
        self.sequence = 0
        self.flights: list[Flight] = []
        self.base = vnode.status.data_version
        """The last data version that is accounted for: our own, or the one that we began with."""
        self.early: dict[int, tuple[Flight, ChangeReply, int]] = {}
        """Stored as a later version than the next one: the reply before that is missing."""
        self.foreign = False
        """Somebody else stores, too: versions tell nothing until our flights are over."""
        self.unsure = not vnode.valid(trio.current_time())
        """The server's version may be another one than the one that is known: a flight ended
        without a reply, or nobody would have told us."""
        self.unsure_since = 0
        """... since this logical time (`BreakLog`)."""
        self.warned = False
        self.trouble: dict[Identity, Trouble] = {}
        self.keys: set[Identity] = set()
        """In whose names the journal has something."""
        self._key: tuple[Identity, DirtyKey] | None = None
        self.reach = 0
        """How long flights may have made the file on the server, whatever became of them."""
        self.cursor = 0
        self.rushed = 0
        """Up to which `sequence` everything is to be stored in the background."""
        self.waiters = 0
        """Tasks that wait until everything is stored."""
        self.safe = 0
        """... and of these, those that want it on the server's disk."""
        self.progress = trio.Event()

    def key(self, who: Identity) -> DirtyKey:
        """Under which the journal knows what was written in a name."""
        if self._key is None or self._key[0] is not who:  # nearly always it is one and the same
            fid = self.vnode.fid
            cell = self.vnode.volume.cell.name
            self._key = who, DirtyKey(cell, fid.volume, fid.vnode, fid.unique, who.text)
        return self._key[1]

    # How the file is

    @property
    def base_end(self) -> int:
        """Up to where the base shows; beyond it are zeros where no extent is."""
        length = self.vnode.status.length
        if self.cut is not None:
            length = min(length, self.cut.value)
        for flight in self.flights:
            if flight.cut is not None:
                length = min(length, flight.cut.value)
        return length

    @property
    def length(self) -> int:
        """The length that the file has for its writers."""
        length = max(self.base_end, self.extents.end)
        return length if self.grow is None else max(length, self.grow.value)

    @property
    def clean(self) -> bool:
        """Whether nothing is left to be stored."""
        return not self.extents and self.cut is self.grow is self.stamp is None

    def owes(self, who: Identity | None, sequence: int) -> bool:
        """Whether anything that was done up to `sequence` in a name is not stored; None: in any."""
        for change in (self.cut, self.grow, self.stamp):
            if change is not None and change.sequence <= sequence and who in (None, change.who):
                return True
        return any(
            extent.sequence <= sequence and who in (None, extent.who) for extent in self.extents
        )

    def carries(self, who: Identity, sequence: int) -> bool:
        """Whether anything of that is on its way, be it that it was written over since."""
        return any(
            flight.who == who and not flight.given_up and flight.sequence <= sequence
            for flight in self.flights
        )

    def owners(self) -> set[Identity]:
        """In whose names something is to be stored."""
        owners = {extent.who for extent in self.extents}
        return owners.union(
            change.who for change in (self.cut, self.grow, self.stamp) if change is not None
        )

    def blocked(self, who: Identity) -> bool:
        """Whether nothing is stored in a name for now."""
        found = self.trouble.get(who)
        return found is not None and found.waiting

    def believes(self, version: int) -> bool:
        """Whether a status with this data version may be taken for what it says.

        While stores are under way a newer version can be one of theirs, whose reply will tell what
        it means. One that they cannot have made is somebody else's, and everything is open then.
        """
        if not self.flights or self.foreign or version <= self.vnode.status.data_version:
            return True
        if version <= self.base + len(self.flights) + len(self.early):
            return False
        self.foreign = True
        return True

    # What writers do

    def truncate(self, length: int, who: Identity) -> None:
        """Cut the file, or let it end with zeros."""
        self.sequence += 1
        sequence = oldest(self.extents.cut(length), who, self.sequence)
        stored = max(self.vnode.status.length, self.reach)
        cut = self.cut
        flown = any(flight.cut is cut for flight in self.flights)  # the server may be past that
        if cut is not None and cut.who == who and not flown:
            sequence = min(sequence, cut.sequence)
        change = Change(length, who, sequence)
        if length < stored and (cut is None or length <= cut.value or flown):
            self.cut = change
        if self.grow is not None and self.grow.value > length:
            self.grow = None
        if self.length < length:
            self.grow = change

    # What is to be stored next

    def next_flight(self, size: int, *, everything: bool) -> Flight | None:
        """What may be sent now, at most `size` bytes; None if nothing may.

        Unless `everything` is wanted that is something only if there is much of it.
        """
        if any(flight.alone for flight in self.flights):
            return None
        if self.cut is not None:
            if self.flights or self.blocked(self.cut.who):
                return None
            if not everything and self.extents.size < size:
                return None
            return self._cutting_flight(self.cut, size)
        run = self._next_run(size)
        if run and (everything or run[-1].end - run[0].start >= size):
            self.cursor = run[-1].end
            return self.carrying(run)
        if self.flights or not everything:
            return None
        for name in ("grow", "stamp"):
            change = getattr(self, name)
            if change is not None and not self.blocked(change.who):
                flight = Flight(self, change.who, position=change.value)
                setattr(flight, name, change)
                return flight
        return None

    def _cutting_flight(self, cut: Change, size: int) -> Flight:
        """A call that cuts the file on the server, and takes the first bytes along."""
        first = next(iter(self.extents), None)
        if first is None or first.who != cut.who:
            flight = Flight(self, cut.who, position=cut.value)
        else:
            flight = self.carrying(self.extents.run_from(first, size))
        flight.cut = cut
        return flight

    def _next_run(self, size: int) -> list[Extent]:
        for extent in self.extents.after(self.cursor):
            if extent.flight is None and not self.blocked(extent.who) and not self._over(extent):
                run = self.extents.run_from(extent, size)
                while len(run) > 1 and any(self._over(other) for other in run[1:]):
                    run.pop()
                return run
        return []

    def _over(self, extent: Extent) -> bool:
        """Whether an extent lies over bytes that are on their way: it has to come behind them."""
        return any(
            extent.start < flight.end and flight.position < extent.end for flight in self.flights
        )

    def carrying(self, run: list[Extent]) -> Flight:
        """A flight for a run of extents."""
        return Flight(self, run[0].who, run, position=run[0].start, size=run[-1].end - run[0].start)

    def file_length(self, flight: Flight) -> int:
        """What a call says of the file's length: a server cuts a longer file to that first.

        So only a truncation of ours says how long the file is. With any other call that would be
        wrong: of two calls under way the second may be served first, and what another client has
        appended is not ours to cut.
        """
        if flight.cut is not None:
            return flight.cut.value
        return OLD_END if max(self.length, flight.end) <= OLD_END else NO_END

    def moved(self) -> None:
        """Something has ended: whoever waits looks again."""
        progress, self.progress = self.progress, trio.Event()
        progress.set()

    # What readers see

    def snapshot(self, start: int, end: int, journal: Journal) -> list[tuple[int, memoryview]]:
        """Offsets and bytes of what lies over the base between two offsets; raises `JournalLost`.

        The bytes are those of now: views of a buffer that may change are copied.
        """
        pieces = []
        for extent in self.extents.between(start, end):
            first, last = max(start, extent.start), min(end, extent.end)
            view = extent.view(journal)[first - extent.start : last - extent.start]
            if isinstance(extent.data, bytearray):
                view = memoryview(bytes(view))
            pieces.append((first, view))
        return pieces

    def mixes(self, chunk_size: int) -> bool:
        """Whether some chunk has bytes of the base beside bytes that are to be stored."""
        end = self.base_end
        return any(
            (extent.start < end and extent.start % chunk_size)
            or (extent.end < end and extent.end % chunk_size)
            for extent in self.extents
        )
