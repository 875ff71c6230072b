"""What is known of the locks on one file: those of this machine, and what others see of them."""

from __future__ import annotations

import enum
import logging
from typing import TYPE_CHECKING, NamedTuple, Protocol

import trio

from afsfuse.cache.locktable import LockKind, LockTable
from afsfuse.cache.serverlocks import ServerLock
from afsfuse.interfaces.fileserver import LockType
from afsfuse.model import VolumeType

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from afsfuse.auth.identity import Identity
    from afsfuse.cache.locktable import LockRequest, Owner
    from afsfuse.cell.volumes import Volume
    from afsfuse.fileserver.client import FileServerClient
    from afsfuse.interfaces.common import Fid

log = logging.getLogger(__name__)


class LockMode(enum.Enum):
    """Which locks other machines see. As in the kernel's own client, option `flock`."""

    LOCAL = "local"
    """None."""
    OPENAFS = "openafs"
    """Those on whole files; ranges of bytes are local."""
    STRICT = "strict"
    """All; a range counts as the whole file there."""
    WRITE = "write"
    """All; a range counts as a write lock on the whole file there."""

    def level(self, volume: Volume, request: LockRequest) -> LockType | None:
        """What a lock is at the server; None: nothing.

        Of read-only and backup volumes servers count no locks.
        """
        if self is LockMode.LOCAL or volume.type is not VolumeType.RW:
            return None
        if request.whole or self is LockMode.STRICT:
            return request.type
        return LockType.WRITE if self is LockMode.WRITE else None


class Claim(NamedTuple):
    """What an owner has at the server."""

    type: LockType
    who: Identity
    handle: int


class Blocker(NamedTuple):
    """A lock that is in the way; `pid` 0: of another machine."""

    type: LockType
    start: int
    end: int
    pid: int


class Surroundings(Protocol):
    """What the locks of one file need of those around them: `cache.locks.Locks`."""

    client: FileServerClient
    complaints: set[int]
    look: Callable[[Volume, Fid], Awaitable[bool]]
    store: Callable[[Volume, Fid], Awaitable[None]]

    def leave(self, file: FileLocks) -> None: ...


class FileLocks:
    """The locks on one file. It is what `serverlocks` calls a `LockedFile`."""

    def __init__(self, around: Surroundings, volume: Volume, fid: Fid) -> None:
        self.volume = volume
        self.fid = fid
        self.table = LockTable()
        self.server = ServerLock(around.client, volume, fid, self)
        self.claims: dict[Owner, Claim] = {}
        self.reaching: list[LockType] = []
        """What is being asked of the server at the moment."""
        self.changed = trio.Event()
        """Set, and replaced, when a lock at the server may have become free."""
        self.foreign = 0
        """How often others were seen to have stored something in it."""
        self.users = 0
        """Tasks that are busy with it."""
        self._around = around

    @property
    def posix(self) -> bool:
        """Whether any process has a POSIX lock."""
        return any(owner.kind is LockKind.POSIX for owner in self.table.owners())

    def needed(self) -> LockType | None:
        return max((*self.reaching, *(claim.type for claim in self.claims.values())), default=None)

    def names(self) -> Sequence[Identity]:
        return [claim.who for claim in self.claims.values()]

    def lost(self, reason: object) -> None:
        if self.claims:
            log.warning("a lock on %s did not hold: %s", self.server, reason)
        self._around.complaints.update(claim.handle for claim in self.claims.values())
        self.claims.clear()
        self._around.leave(self)

    async def look(self) -> bool:
        return await self._around.look(self.volume, self.fid)

    async def store(self) -> None:
        await self._around.store(self.volume, self.fid)

    def may_be_free(self) -> None:
        """Have those who wait for the server ask it again."""
        self.changed.set()
        self.changed = trio.Event()

    def converts(self, request: LockRequest) -> bool:
        """Whether a lock of flock(2) becomes one of the other type."""
        spans = self.table.spans(request.owner)
        return request.owner.kind is LockKind.FLOCK and any(s.type != request.type for s in spans)

    def grant(self, request: LockRequest, level: LockType | None) -> bool:
        """Enter a lock that nothing here is in the way of, unless the server must be asked."""
        if level is not None and not self.server.covers(level):
            return False
        self.table.lock(request)
        claim = self.claims.get(request.owner)
        if level is not None:
            if claim is not None and not request.whole:
                level = max(level, claim.type)
            self.claims[request.owner] = Claim(level, request.who, request.handle)
        return True

    def unlock(self, owner: Owner, start: int, end: int) -> None:
        """Let go of a range. A claim goes with the last of an owner's locks."""
        self.table.unlock(owner, start, end)
        if not self.table.spans(owner):
            self.claims.pop(owner, None)
