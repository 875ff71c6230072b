"""What became of a change over which a server fell silent.

A change is not just sent again: if it was made, the second one would fail with EEXIST or ENOENT, or
hit something that somebody else has made meanwhile. So when the server answers again its directory
is looked at, and either the change is there, or it is not and is sent once more. Where that cannot
be told, `OutcomeUnknown` is the answer:

- What was to be *made* is taken for ours if it looks as we would have made it, and the directory's
  version has risen by exactly one without a word of the server about a change of somebody else
  (servers tell all but whose change it was). With others at work the name is theirs: EEXIST.
- A further *link* is known by the file that it stands for.
- What was to be *removed* is gone when the name stands for that file no more.
- What was to be *renamed* has been when its new name stands for it and its old one does not. When
  neither does, somebody else was there, too, and nobody knows.

What remains: another client makes the same name, ours is lost, and so is the server's word of it.
And a server that answers others first, and makes the change long after it was asked to.
"""

from __future__ import annotations

import errno
import logging
from typing import TYPE_CHECKING, Literal, TypeVar

import trio

from afsfuse.errors import AfsError, OutcomeUnknown
from afsfuse.interfaces.common import Fid

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from afsfuse.auth.identity import Identity
    from afsfuse.cache.callbacks import BreakLog
    from afsfuse.cache.directories import Directory
    from afsfuse.cache.statuses import StatusKeeper
    from afsfuse.cache.vnodes import Vnode
    from afsfuse.cell.volumes import Volume

log = logging.getLogger(__name__)

R = TypeVar("R")
F = TypeVar("F")

_PAUSE = 1.0  # seconds between two looks; whether a server is back, others find out

SURPRISES = frozenset(
    {errno.EEXIST, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ESTALE, errno.ENOTEMPTY}
)
"""What servers say to a change if the directory is another one than whoever asked thinks."""


class Before:
    """A directory as it was when a change of ours was sent, and whether others were at it since."""

    def __init__(
        self, log: BreakLog, volume: Volume, fid: Fid, version: int | None, ticket: int
    ) -> None:
        """`version`: of the certain copy that we had; None if there was none."""
        self.volume = volume
        self.fid = fid
        self._log = log
        self._version = version
        self._ticket = ticket
        self._others = version is None

    def look(self) -> None:
        """Note what was heard of others. Call it before the directory is doubted."""
        self._others = self._others or self._log.changed_since(self._ticket, self.fid)

    def doubted(self) -> None:
        """What is noted of the directory up to now is our own doubt."""
        self._ticket = self._log.now

    def only_ours(self, version: int) -> bool:
        """Whether a directory of this version has been changed by us alone, once."""
        return not self._others and version == (self._version or 0) + 1


class Outcomes:
    """Makes changes, and after silence finds out whether they were made.

    `patience`: seconds for which a server is waited for; `inf` for a mount with `-o hard`.
    `read` gives a directory as it is; `doubt` has it asked for anew.
    """

    def __init__(
        self,
        read: Callable[[Volume, Fid, Identity], Awaitable[Directory]],
        doubt: Callable[[Volume, Fid], None],
        statuses: StatusKeeper,
        patience: float,
    ) -> None:
        self._read = read
        self._doubt = doubt
        self._statuses = statuses
        self.patience = patience
        self.found = 0  # changes that were made, as was found later
        self.repeated = 0  # ... and that were not, and were sent again

    async def sure(
        self,
        attempt: Callable[[], Awaitable[R]],
        find: Callable[[], Awaitable[F | None]],
        *,
        patient: bool = True,
    ) -> R | F:
        """The reply to a change, or what `find` says of one that was made without one.

        `find` looks for the change: None, if it was not made; `AfsError` with EEXIST if somebody
        else was there; `OutcomeUnknown` if that cannot be told. Without `patient` it looks once.
        """
        until = trio.current_time() + (self.patience if patient else 0.0)
        unknown: OutcomeUnknown | None = None
        while True:
            again = unknown is not None
            try:
                return await attempt()
            except OutcomeUnknown as exc:
                if again and trio.current_time() >= until:
                    raise
                unknown = exc
            except AfsError as exc:
                if unknown is None or exc.errno not in SURPRISES:
                    raise
                found = await self._find(find, unknown, until)
                if found is None:
                    raise
                return found
            found = await self._find(find, unknown, until)
            if found is not None:
                self.found += 1
                log.debug("it was done, as is seen now: %s", unknown)
                return found
            self.repeated += 1
            log.debug("it was not done, and is sent again: %s", unknown)

    async def _find(
        self, find: Callable[[], Awaitable[F | None]], unknown: OutcomeUnknown, until: float
    ) -> F | None:
        """Look, as soon as somebody answers."""
        while True:
            try:
                return await find()
            except OutcomeUnknown:
                raise
            except AfsError as exc:
                if exc.errno == errno.EEXIST:
                    raise
                if not exc.passing or trio.current_time() >= until:
                    raise unknown from exc
            await trio.sleep(_PAUSE)

    async def made(
        self, before: Before, name: bytes, like_it: Callable[[Vnode], bool], who: Identity
    ) -> Vnode | None:
        """What stands under a name that was to be made, if it is what we have made."""
        directory = await self._directory(before, who)
        found = directory.find(name)
        if found is None:
            return None
        fid = Fid(before.fid.volume, *found)
        made, _ = await self._statuses.fetch(before.volume, fid, who)
        if before.only_ours(directory.data_version) and like_it(made):
            return made
        raise _taken(before.volume, name)

    async def linked(
        self, before: Before, name: bytes, existing: Fid, who: Identity
    ) -> Vnode | None:
        """A file that was to get a further name, if that stands for it."""
        found = (await self._directory(before, who)).find(name)
        if found is None:
            return None
        if found != _key(existing):
            raise _taken(before.volume, name)
        return (await self._statuses.fetch(before.volume, existing, who))[0]

    async def gone(
        self, before: Before, name: bytes, removed: Fid, who: Identity
    ) -> Literal[True] | None:
        """True if a name stands no more for what was to be removed."""
        found = (await self._directory(before, who)).find(name)
        return None if found == _key(removed) else True

    async def moved(
        self, old: tuple[Before, bytes], new: tuple[Before, bytes], moved: Fid, who: Identity
    ) -> Literal[True] | None:
        """True if something stands under its new name and no more under the old one."""
        arrived = (await self._directory(new[0], who)).find(new[1])
        left = (await self._directory(old[0], who)).find(old[1])
        if left == _key(moved):
            return None
        if arrived == _key(moved):
            return True
        volume = old[0].volume
        raise OutcomeUnknown(
            "the file server fell silent over a Rename, and others changed the directory: "
            "what became of it is not known",
            cell=volume.cell.name, volume=volume.name,
        )  # fmt: skip

    async def _directory(self, before: Before, who: Identity) -> Directory:
        """The directory as it is now, whatever is known of it."""
        before.look()
        self._doubt(before.volume, before.fid)
        before.doubted()
        return await self._read(before.volume, before.fid, who)


def _key(fid: Fid) -> tuple[int, int]:
    """What a directory has of a fid."""
    return fid.vnode, fid.unique


def _taken(volume: Volume, name: bytes) -> AfsError:
    """The error for a name that somebody else has made, as far as can be told."""
    return AfsError(
        f"{name.decode('utf-8', 'backslashreplace')}: it is there already",
        errno=errno.EEXIST, cell=volume.cell.name, volume=volume.name,
    )  # fmt: skip
