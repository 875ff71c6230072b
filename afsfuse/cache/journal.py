"""The journal of dirty data: what writers have handed over and no server has yet.

It is what a daemon that was killed leaves to the next one. A journal keeps promises to nobody but
that next daemon: `fsync` and `close` are answered by servers, never by it. So it may fail at any
time, and then dirty data is kept in memory alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from afsfuse.errors import AfsError
from afsfuse.interfaces.common import Fid

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

Buffer = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class DirtyKey:
    """Which file, and whose data."""

    cell: str
    volume: int
    vnode: int
    unique: int
    who: str
    """The text of the identity in whose name it is to be stored (`Identity.text`)."""

    @property
    def fid(self) -> Fid:
        """The file's."""
        return Fid(self.volume, self.vnode, self.unique)


@dataclass(slots=True)
class RecoveredFile:
    """What an earlier daemon left behind of one file, in one name."""

    key: DirtyKey
    base_version: int
    """The data version that the file had when it was first written to, or that our own stores
    have given it since."""
    length: int
    """The length that the file had for its writers at last."""
    path: str
    """Where it was found at last; for people only."""
    extents: list[tuple[int, Buffer]] = field(default_factory=list)
    """Offsets and bytes in the order of writing: later ones lie over earlier ones."""
    order: list[int] = field(default_factory=list)
    """For each of them a number that grows over all files and names, as they were written."""
    lasted: tuple[int, int] = field(default=(0, 0), compare=False)
    """The first and the last such number of what was said of it in this name."""
    cut: int | None = None
    """To what length the base was cut before that; None: it was not."""
    whole: bool = True
    """Whether this is all that was there: else no server should get it unseen."""
    exact: bool = True
    """Whether the journal is as that daemon left it. After a loss of power it may be older, and the
    server have what was written since."""


def path_after(path: str, old: str, new: str) -> str:
    """What a path is after something was moved: that itself, or what it lies in."""
    if path == old or path.startswith(f"{old}/"):
        return new + path[len(old) :]
    return path


class JournalLost(AfsError):
    """Bytes cannot be read back from the journal: they are gone."""


class Journal(Protocol):
    """Keeps dirty data for the next daemon. Free of await; raises nothing but `JournalLost`."""

    def opened(self, key: DirtyKey, base_version: int, length: int, path: str) -> None:
        """A clean file is about to be changed; `length` as in `RecoveredFile`."""
        ...

    def written(self, key: DirtyKey, offset: int, data: Buffer) -> int | None:
        """Bytes were written: a token to read them back with, None if they were not kept."""
        ...

    def resized(self, key: DirtyKey, length: int) -> None:
        """The file has another length now: what was written beyond it is gone."""
        ...

    def renamed(self, old: str, new: str) -> None:
        """What was at a path, or below it, is at another one."""
        ...

    def mark(self) -> int:
        """What stands for now in a later `stored`."""
        ...

    def stored(
        self,
        key: DirtyKey,
        start: int,
        end: int,
        mark: int,
        version: int,
        beside: Sequence[DirtyKey] = (),
    ) -> None:
        """What was written to a range before the mark is on the server, in this data version, and
        so is every truncation before it.

        `beside`: keys of others who write the file. What they have written there is kept, and so
        must be what lies over that.
        """
        ...

    def read(self, token: int, start: int, size: int) -> bytes:
        """Bytes of what was written under a token; raise `JournalLost` if they are not there."""
        ...

    def clean(self, key: DirtyKey) -> None:
        """Everything of this key is on the server, or was given up by a person: but for what an
        earlier daemon left of it.
        """
        ...

    def recovered(self) -> list[RecoveredFile]:
        """What an earlier daemon left: it stays in the journal until it is `forgotten` or
        `taken_over`.
        """
        ...

    def taking_over(self, keys: Collection[DirtyKey]) -> None:
        """What an earlier daemon left of these keys is about to be written once more. What is said
        of them from now on counts for the next daemon when they are `taken_over`: half a copy does
        not stand for the whole.
        """
        ...

    def taken_over(self, key: DirtyKey) -> None:
        """What an earlier daemon left of this key was written once more, since `opened`."""
        ...

    def forgotten(self, key: DirtyKey) -> None:
        """What an earlier daemon left of this key is safe elsewhere, or was given up."""
        ...

    def close(self) -> None:
        """Keep nothing more; what is not clean stays for the next daemon."""
        ...


class NullJournal:
    """Keeps nothing."""

    def opened(self, key: DirtyKey, base_version: int, length: int, path: str) -> None:
        """Keep nothing."""

    def written(self, key: DirtyKey, offset: int, data: Buffer) -> int | None:
        """Keep nothing."""
        return None

    def resized(self, key: DirtyKey, length: int) -> None:
        """Keep nothing."""

    def renamed(self, old: str, new: str) -> None:
        """Keep nothing."""

    def mark(self) -> int:
        """Any number will do."""
        return 0

    def stored(
        self,
        key: DirtyKey,
        start: int,
        end: int,
        mark: int,
        version: int,
        beside: Sequence[DirtyKey] = (),
    ) -> None:
        """Nothing was kept of it."""

    def read(self, token: int, start: int, size: int) -> bytes:
        """There are no tokens."""
        raise JournalLost(f"there is no journal to read {size} bytes from")

    def clean(self, key: DirtyKey) -> None:
        """There is nothing of it."""

    def recovered(self) -> list[RecoveredFile]:
        """Nothing."""
        return []

    def taking_over(self, keys: Collection[DirtyKey]) -> None:
        """Nothing was left."""

    def taken_over(self, key: DirtyKey) -> None:
        """Nothing was left."""

    def forgotten(self, key: DirtyKey) -> None:
        """Nothing was left."""

    def close(self) -> None:
        """There is nothing to close."""
