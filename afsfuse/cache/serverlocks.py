"""The lock that this client has on a file at its server: one at most, for all who want it here.

A server counts locks and does not know whose they are. It keeps one for five minutes
(`LOCK_SECONDS`) and has neither a queue nor a way from one type to the other. So a lock is extended
in time, and a read lock becomes a write lock by being given back and set anew: which is tried only
when the server counts no other reader, as another client may be quicker in between. A write lock
never becomes a read lock while somebody here depends on it.

Source: fs/afs/flock.c of Linux and afs_vnop_flock.c of OpenAFS, for what clients do of this.
"""

from __future__ import annotations

import errno
import logging
from math import inf
from typing import TYPE_CHECKING, Protocol

import trio

from afsfuse.errors import AfsError, NotPermitted, OutcomeUnknown, ServerUnreachable
from afsfuse.interfaces.fileserver import LOCK_SECONDS, LockType

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from afsfuse.auth.identity import Identity
    from afsfuse.cell.volumes import Volume
    from afsfuse.fileserver.client import FileServerClient
    from afsfuse.interfaces.common import Fid

log = logging.getLogger(__name__)

EXTEND_SECONDS = LOCK_SECONDS / 2
"""A lock is extended when it is so old. Source: afs_schedule_lock_extension of Linux."""
RETRY_SECONDS = 10.0
"""... and if that fails, tried again after so long. Source: afs_lock_work of Linux."""

PAUSES = (0.001, 0.001, 0.001, 0.005)
"""Seconds between the calls that make a lock stronger, at each attempt. OpenAFS's servers do calls
that come at once in any order; a millisecond is less than it takes others to hear of the release.
"""

_GONE = (errno.ENOENT, errno.ESTALE)


class LockedFile(Protocol):
    """What a server's lock needs of the file that it is for."""

    def needed(self) -> LockType | None:
        """The strongest lock that somebody here depends on."""
        ...

    def names(self) -> Sequence[Identity]:
        """Who depends on it."""
        ...

    def lost(self, reason: object) -> None:
        """The lock did not hold; others may have had it meanwhile."""
        ...

    foreign: int
    """How often others were seen to have stored something in it."""

    async def look(self, *, anew: bool) -> bool:
        """See what the server has, so that `foreign` is true now; False if that cannot be.

        Without `anew` a callback promise counts: the server would have told.
        """
        ...

    async def store(self) -> None:
        """Bring to the server what was written here. Never raises."""
        ...


class ServerLock:
    """One file's lock at its server. Calls about it are made one after the other."""

    def __init__(
        self, client: FileServerClient, volume: Volume, fid: Fid, file: LockedFile
    ) -> None:
        self.held: LockType | None = None
        """What the server counts for us."""
        self.extend_at = inf
        """When it is to be extended, on trio's clock."""
        self._until = 0.0  # when the server forgets it
        self._who: Identity | None = None  # in whose name it was set
        self._seen = 0  # `foreign` when it was last known to hold
        self._client = client
        self._volume = volume
        self._fid = fid
        self._file = file
        self._mutex = trio.Lock()

    def covers(self, type: LockType) -> bool:
        """Whether who asks for a lock of this type need not ask the server."""
        return self.held is not None and (type is LockType.READ or self.held is LockType.WRITE)

    async def reach(self, type: LockType, who: Identity) -> None:
        """Have a lock of this type or a stronger one; EAGAIN if others have what bars it."""
        async with self._mutex:
            if self.covers(type):
                return
            if self.held is None:
                await self._set(type, who)
            else:
                await self._upgrade(who)

    async def settle(self) -> None:
        """Give the lock back if nobody depends on it; never raises."""
        async with self._mutex:
            if self.held is None or self._file.needed() is not None:
                return
            await self._file.store()  # who gets the lock next is to see it
            if self._file.needed() is None:
                try:
                    await self._release()
                except AfsError as exc:
                    log.info("a lock on %s was not given back, and will expire: %s", self, exc)

    async def extend(self) -> None:
        """Have the lock hold for another five minutes; never raises."""
        async with self._mutex:
            if self.held is None or self._file.needed() is None:
                self.extend_at = inf
                return
            before = trio.current_time()
            if before >= self._until:  # a call would tell of the lock of whoever has it now, too
                self._lose("it was not extended in time")
                return
            try:
                await self._extend()
            except AfsError as exc:
                if exc.errno == errno.EINVAL:
                    await self._regain(exc)
                elif exc.errno in _GONE:
                    self._drop()  # of a file that nobody can find any more
                elif trio.current_time() + RETRY_SECONDS >= self._until:
                    self._lose(exc)
                else:
                    log.info("a lock on %s could not be extended yet: %s", self, exc)
                    self.extend_at = trio.current_time() + RETRY_SECONDS
            else:
                self._holds(before)

    def slept(self, seconds: float) -> None:
        """Our clock stood still for so long, while the server's went on."""
        self._until -= seconds
        self.extend_at -= seconds

    async def count_of_others(self, who: Identity) -> int:
        """How many read locks others have; -1 for a write lock."""
        if self.held is LockType.WRITE:
            return 0
        count = await self._client.lock_count(self._volume, self._fid, who)
        return count - 1 if self.held is LockType.READ and count > 0 else count

    # All below is done with the mutex held.

    async def _set(self, type: LockType, who: Identity) -> None:
        before = trio.current_time()
        try:
            await self._client.changes.set_lock(self._volume, self._fid, type, who)
        except OutcomeUnknown as exc:
            # It may be asked for again: if the server has counted it, nobody extends that, and for
            # so long it bars others and us, as a stranger's lock would.
            raise ServerUnreachable(
                exc.message, cell=exc.cell, volume=exc.volume, server=exc.server
            ) from exc
        self.held = type
        self._who = who
        self._holds(before)

    async def _release(self) -> None:
        assert self._who is not None
        self._drop()
        await self._client.changes.release_lock(self._volume, self._fid, self._who)

    async def _upgrade(self, who: Identity) -> None:
        """Give a read lock back and set a write lock, and see whether others came in between.

        A server tells those who wait before it answers that a lock was given back, so who waited
        for that answer would always come too late: the calls follow each other closely, and the
        last one has the read lock back. Whatever their order at the server, one of the two is there
        then, unless somebody else is writing. If it was the wrong order, they are made again.
        """
        before = self._who
        assert before is not None
        for pause in PAUSES:
            if await self.count_of_others(who) != 0:
                raise AfsError("others have it locked", errno=errno.EAGAIN)
            sure = await self._file.look(anew=False)
            foreign = self._file.foreign
            failures = await self._exchange(who, before, pause)
            if self.held is None:
                self._lose(failures["write"])
            elif not (sure and await self._file.look(anew=False) and self._file.foreign == foreign):
                self._file.lost("another machine changed the file while it was made stronger")
            refusal = failures.get("write")
            if self.held is not LockType.READ or refusal is None or refusal.errno != errno.EAGAIN:
                break
        if self.held is not LockType.WRITE:
            raise failures["write"]

    async def _exchange(self, who: Identity, before: Identity, pause: float) -> dict[str, AfsError]:
        """Make the three calls, so many seconds after each other; what they fail with."""
        failures: dict[str, AfsError] = {}
        until = self._until

        async def attempt(name: str, call: Callable[[], Awaitable[None]]) -> None:
            try:
                await call()
            except AfsError as exc:
                failures[name] = exc

        async with trio.open_nursery() as nursery:
            for name, call in (
                ("release", self._release),
                ("write", lambda: self._set(LockType.WRITE, who)),
                ("read", lambda: self._set(LockType.READ, before)),
            ):
                nursery.start_soon(attempt, name, call)
                await trio.sleep(pause)
        if len(failures) == 3:  # it may be there still, which an extension tells
            self.held, self._until, self.extend_at = LockType.READ, until, trio.current_time()
        return failures

    async def _extend(self) -> None:
        """In the name of whoever set it, or else of somebody who depends on it."""
        assert self._who is not None
        refusal: NotPermitted | None = None
        for who in dict.fromkeys((self._who, *self._file.names())):
            try:
                await self._client.changes.extend_lock(self._volume, self._fid, who)
            except NotPermitted as exc:  # his token has expired, or his rights were taken
                refusal = exc
            else:
                self._who = who
                return
        assert refusal is not None
        raise refusal

    async def _regain(self, reason: AfsError) -> None:
        """The server knows of no lock: it was restarted, the volume moved, or we were late."""
        assert self.held is not None
        assert self._who is not None
        seen = self._seen
        try:
            await self._set(self.held, self._who)
        except AfsError as exc:
            self._lose(exc)
            return
        if await self._file.look(anew=True) and self._file.foreign == seen:
            log.info("the server forgot a lock on %s; it was set again", self)
        else:
            self._file.lost(reason)

    def _holds(self, since: float) -> None:
        self._seen = self._file.foreign
        self._until = since + LOCK_SECONDS
        self.extend_at = since + EXTEND_SECONDS

    def _drop(self) -> None:
        self.held = None
        self.extend_at = inf

    def _lose(self, reason: object) -> None:
        self._drop()
        self._file.lost(reason)

    def __str__(self) -> str:
        fid = self._fid
        return f"{self._volume.cell.name}:{self._volume.name} file {fid.vnode}.{fid.unique}"
