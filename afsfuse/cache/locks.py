"""Locks on files: which process waits for which, and what of it the servers hear.

Every lock is entered in the table of its file (`locktable`), which decides among the processes of
this machine. What a lock is to other machines is a matter of the `LockMode`: if it means something
there, the file's one lock at the server (`serverlocks`) must be as strong as the strongest of these
before it is entered. On read-only and backup volumes nobody writes, and servers count no locks
there, so those are local.

The claim of an owner is what he has at the server. If a server's lock did not hold, claims are
void: whoever had one is told once, by EIO, when he next writes to the file or locks it.
"""

from __future__ import annotations

import errno
import logging
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

import trio

from afsfuse.cache.filelocks import Blocker, FileLocks, LockMode
from afsfuse.cache.locktable import END, LockKind, LockRequest, Owner, conflict
from afsfuse.cache.serverlocks import RETRY_SECONDS
from afsfuse.errors import AfsError, NotPermitted
from afsfuse.interfaces.fileserver import LockType
from afsfuse.model import VolumeType

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from afsfuse.auth.identity import Identity
    from afsfuse.cell.volumes import Volume
    from afsfuse.fileserver.client import FileServerClient
    from afsfuse.interfaces.common import Fid

log = logging.getLogger(__name__)

FIRST_PAUSE, LAST_PAUSE = 1.0, 5.0
"""Seconds between two attempts to get a lock that others have; servers have no queue."""
UNLOCK_SECONDS = 10.0
"""How long an unlock waits for the server at most; it is done then all the same."""
SPANS_MAX = 2_000
"""Ranges that may be locked in one file; a further one ends with ENOLCK. Looking through so many
takes a millisecond, for which everybody waits."""
EXTENSIONS = 16
"""Locks that are extended at a time."""
FAREWELL_SECONDS = 3.0
"""How long the end waits for locks to be given back; what is left expires."""


@dataclass(eq=False, slots=True)
class _Waiting:
    """A request that waits for locks of this machine."""

    file: FileLocks
    request: LockRequest
    turn: trio.Event


class _Errand:
    """Work for which somebody waits, or not."""

    def __init__(self, work: Callable[[], Awaitable[None]]) -> None:
        self.work = work
        self.done = trio.Event()
        self.failure: AfsError | None = None


class Locks:
    """All locks. Without `run` only those that no server is asked for can be had."""

    def __init__(
        self,
        client: FileServerClient,
        mode: LockMode,
        *,
        look: Callable[[Volume, Fid], Awaitable[bool]],
        watch: Callable[[Volume, Fid, Identity], Awaitable[object]],
        store: Callable[[Volume, Fid], Awaitable[None]],
    ) -> None:
        """`look` asks a server for the status of a file, so that changes come to be known, and
        says whether it has answered. `watch` sees that a server tells
        of changes of a file, and with them of its locks; it may raise `AfsError`. `store` brings
        to the server what was written to a file, before its lock is given back.
        """
        self.client = client
        self.look = look
        self.store = store
        self.complaints: set[int] = set()
        """Open files whose lock did not hold, and whose owner was not told yet."""
        self._mode = mode
        self._watch = watch
        self._files: dict[tuple[str, Fid], FileLocks] = {}
        self._posix: set[FileLocks] = set()  # where a process has such a lock
        self._waiting: list[_Waiting] = []  # in the order of their coming
        self._nursery: trio.Nursery | None = None
        self._news = trio.Event()
        self._extensions = trio.CapacityLimiter(EXTENSIONS)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Extend the locks that servers count for us, until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            try:
                await self._extend(nursery)
            finally:
                self._nursery = None

    async def _extend(self, nursery: trio.Nursery) -> None:
        while True:
            self._news = trio.Event()
            now = trio.current_time()
            soonest = inf
            for file in self._files.values():
                if file.server.extend_at <= now:
                    file.server.extend_at = inf  # it says itself when it is due again
                    nursery.start_soon(self._extend_one, file)
                soonest = min(soonest, file.server.extend_at)
            with trio.move_on_at(soonest):
                await self._news.wait()

    async def _extend_one(self, file: FileLocks) -> None:
        try:
            async with self._extensions:
                await file.server.extend()
        except Exception:  # a mistake of ours must not end all locks
            log.exception("a lock was not extended")
            file.server.extend_at = trio.current_time() + RETRY_SECONDS
        self._news.set()

    # What processes ask for

    @property
    def files(self) -> int:
        """Files of which there are locks, here or at a server."""
        return len(self._files)

    @property
    def posix(self) -> bool:
        """Whether any process has a POSIX lock."""
        return bool(self._posix)

    def volumes(self) -> Iterator[Volume]:
        """Of each file that is locked, its volume."""
        return (file.volume for file in self._files.values())

    def lock_at_once(self, volume: Volume, fid: Fid, request: LockRequest) -> bool:
        """Take a lock if that needs neither waiting nor a server; whether it is taken.

        Raises `AfsError` (EIO, once) if an earlier lock of this open file did not hold.
        """
        self.check(request.handle)
        if _means_nothing(volume, request):
            return True
        file = self._file(volume, fid)
        granted = (
            not file.converts(request)
            and not file.table.blockers(request)
            and self._grant(file, request, self._mode.level(volume, request))
        )
        self._tidy(file)
        return granted

    async def lock(self, volume: Volume, fid: Fid, request: LockRequest, *, wait: bool) -> None:
        """Take a lock; EAGAIN if it is not free and `wait` is false, EDEADLK if waiting for it
        would never end. Raises what the server says, too, such as EACCES.
        """
        if self.lock_at_once(volume, fid, request):
            return
        file = self._file(volume, fid)
        file.users += 1
        try:
            if file.converts(request):
                # flock(2): the old lock goes first, and another one may come in between
                self._unlock(file, request.owner, 0, END)
                if file.server.held is not None:
                    await self._settle(file)
            await self._lock(file, request, wait)
        finally:
            file.users -= 1
            self._next(file)  # who was woken and gave up leaves the turn to the next one
            self.leave(file)

    async def _lock(self, file: FileLocks, request: LockRequest, wait: bool) -> None:
        pause = FIRST_PAUSE
        level = self._mode.level(file.volume, request)
        while True:
            if file.table.blockers(request):
                if not wait:
                    raise _taken()
                await self._wait_here(file, request)
                continue
            if self._grant(file, request, level):
                return
            assert level is not None
            changed = file.changed
            try:
                if await self._reach(file, request, level):
                    return
            except NotPermitted:
                if request.whole:
                    raise
                level = None
                log.info("%s: no right to lock it, so a range is locked here only", file.server)
            except AfsError as exc:
                if exc.errno != errno.EAGAIN or not wait:
                    raise
                await self._wait_there(file, request, changed, pause)
                pause = min(2 * pause, LAST_PAUSE)

    async def _reach(self, file: FileLocks, request: LockRequest, level: LockType) -> bool:
        """Bring the server's lock to a level, and take the lock if it is free here still."""
        file.reaching.append(level)
        try:
            await self._aside(file, lambda: file.server.reach(level, request.who))
            self._news.set()
            return not file.table.blockers(request) and self._grant(file, request, level)
        finally:
            file.reaching.remove(level)

    async def _wait_here(self, file: FileLocks, request: LockRequest) -> None:
        """Wait until locks of this machine may be out of the way."""
        if request.owner.kind is LockKind.POSIX and self._never_ends(file, request):
            raise AfsError("two processes wait for each other", errno=errno.EDEADLK)
        waiting = _Waiting(file, request, trio.Event())
        self._waiting.append(waiting)
        try:
            await waiting.turn.wait()
        finally:
            self._waiting.remove(waiting)

    async def _wait_there(
        self, file: FileLocks, request: LockRequest, changed: trio.Event, pause: float
    ) -> None:
        """Wait until another machine may have given its lock back: the server then takes the
        promise for the file back, but says nothing if the lock just expires.
        """
        self.leave(file)  # what we may have had for nothing
        with trio.move_on_after(pause):
            try:
                await self._watch(file.volume, file.fid, request.who)
            except AfsError as exc:
                log.debug("%s: nobody will tell when it is unlocked: %s", file.server, exc)
            await changed.wait()

    def _never_ends(self, file: FileLocks, request: LockRequest) -> bool:
        """Whether whoever is in the way waits, through however many others, for this owner."""
        seen: set[Owner] = set()
        ahead = [owner for owner, _ in file.table.blockers(request)]
        while ahead:
            owner = ahead.pop()
            if owner == request.owner:
                return True
            if owner in seen:
                continue
            seen.add(owner)
            for other in self._waiting:
                if other.request.owner == owner:
                    ahead += [blocker for blocker, _ in other.file.table.blockers(other.request)]
        return False

    def unlock_at_once(
        self, volume: Volume, fid: Fid, owner: Owner, start: int = 0, end: int = END
    ) -> bool:
        """Let go of a range; whether no server need hear of it."""
        file = self._files.get((volume.cell.name, fid))
        if file is None:
            return True
        self._unlock(file, owner, start, end)
        self._tidy(file)
        return file.server.held is None or file.needed() is not None

    async def unlock(
        self, volume: Volume, fid: Fid, owner: Owner, start: int = 0, end: int = END
    ) -> None:
        """The same, and wait until the server has heard it, if it need; never raises."""
        if not self.unlock_at_once(volume, fid, owner, start, end):
            file = self._file(volume, fid)
            try:
                with trio.move_on_after(UNLOCK_SECONDS):
                    await self._settle(file)
            except AfsError as exc:
                log.debug("%s: an unlock was not heard: %s", file.server, exc)

    def released(self, volume: Volume, fid: Fid, handle: int) -> None:
        """An open file is closed by all who had it: its locks go. Free of await.

        A POSIX lock is still there if it belonged to the open file and not to a process
        (`F_OFD_SETLK`), which Linux does not tell apart here.
        """
        self.complaints.discard(handle)
        if not self._files:
            return  # as nearly always
        file = self._files.get((volume.cell.name, fid))
        if file is None:
            return
        for owner in file.table.locked_through(handle):
            self._unlock(file, owner, 0, END)
        self.leave(file)

    async def blocker(self, volume: Volume, fid: Fid, request: LockRequest) -> Blocker | None:
        """The first lock that is in the way of one, be it of another machine."""
        if _means_nothing(volume, request):
            return None
        file = self._file(volume, fid)
        if found := file.table.blockers(request):
            span = found[0][1]
            return Blocker(span.type, span.start, span.end, span.pid)
        if self._mode.level(volume, request) is None:
            self._tidy(file)
            return None
        file.users += 1
        try:
            count = await file.server.count_of_others(request.who)
        finally:
            file.users -= 1
            self._tidy(file)
        if count < 0:
            return Blocker(LockType.WRITE, 0, END, 0)
        return Blocker(LockType.READ, 0, END, 0) if count and request.type else None

    def check(self, handle: int) -> None:
        """EIO, once, if a lock that was taken through this open file did not hold."""
        if handle in self.complaints:
            self.complaints.discard(handle)
            raise AfsError("the lock on this file did not hold: others may have changed it")

    # What others tell

    def broken(self, fid: Fid) -> None:
        """A server took a promise back: a lock may have become free. Vnode 0 stands for the whole
        volume. Free of await.
        """
        for file in self._files.values():
            if file.fid == fid or (fid.vnode == 0 and file.fid.volume == fid.volume):
                file.may_be_free()

    def changed(self, volume: Volume, fid: Fid) -> None:
        """Others have stored something in a file. Free of await."""
        if (file := self._files.get((volume.cell.name, fid))) is not None:
            file.foreign += 1

    def slept(self, seconds: float) -> None:
        """Our clock stood still for so long, while those of servers went on. Free of await."""
        for file in self._files.values():
            file.server.slept(seconds)
        self._news.set()

    async def give_up_all(self) -> None:
        """Give the servers their locks back; best effort, within `FAREWELL_SECONDS`."""
        with trio.move_on_after(FAREWELL_SECONDS):
            async with trio.open_nursery() as nursery:
                for file in self._files.values():
                    file.claims.clear()
                    nursery.start_soon(file.server.settle)

    # How it is done

    def _file(self, volume: Volume, fid: Fid) -> FileLocks:
        key = (volume.cell.name, fid)
        file = self._files.get(key)
        if file is None:
            file = self._files[key] = FileLocks(self, volume, fid)
        return file

    def _tidy(self, file: FileLocks) -> None:
        """Forget a file that nobody has or wants a lock on."""
        if not file.table and not file.users and file.server.held is None:
            self._files.pop((file.volume.cell.name, file.fid), None)

    def _grant(self, file: FileLocks, request: LockRequest, level: LockType | None) -> bool:
        """Take a lock that nothing here is in the way of, unless the server must be asked."""
        if len(file.table) >= SPANS_MAX:
            raise AfsError("too many ranges of the file are locked", errno=errno.ENOLCK)
        if not file.grant(request, level):
            return False
        if request.owner.kind is LockKind.POSIX:
            self._posix.add(file)
        self._next(file)  # a weaker lock in the place of a stronger one lets others in
        return True

    def _unlock(self, file: FileLocks, owner: Owner, start: int, end: int) -> None:
        file.unlock(owner, start, end)
        if not file.posix:
            self._posix.discard(file)
        self._next(file)

    def _next(self, file: FileLocks) -> None:
        """Wake who can go on, in the order of their coming: of two who exclude each other the
        first.
        """
        woken: list[LockRequest] = []
        for waiting in self._waiting:
            request = waiting.request
            if waiting.file is not file or file.table.blockers(request):
                continue
            if not any(conflict(request, other) for other in woken):
                woken.append(request)
                waiting.turn.set()

    def leave(self, file: FileLocks) -> None:
        """See in the background that the server hears of it if nobody needs its lock."""
        if file.server.held is not None and file.needed() is None and self._nursery is not None:
            self._nursery.start_soon(self._run, file, _Errand(file.server.settle))
        else:
            self._tidy(file)

    async def _settle(self, file: FileLocks) -> None:
        await self._aside(file, file.server.settle)

    async def _aside(self, file: FileLocks, work: Callable[[], Awaitable[None]]) -> None:
        """Do it in a task of our own: if the caller stops waiting, the server's answer counts.

        Raises what it raises.
        """
        if self._nursery is None:
            raise AfsError("the daemon is stopping")
        errand = _Errand(work)
        self._nursery.start_soon(self._run, file, errand)
        await errand.done.wait()
        if errand.failure is not None:
            raise errand.failure

    async def _run(self, file: FileLocks, errand: _Errand) -> None:
        file.users += 1
        try:
            await errand.work()
        except AfsError as exc:
            errand.failure = exc
        except Exception:  # a mistake of ours must not end all locks
            log.exception("a call about a lock failed")
            errand.failure = AfsError("a bug, see the log")
        finally:
            errand.done.set()
            file.users -= 1
            self.leave(file)  # if the caller is gone, it was for nothing


def _means_nothing(volume: Volume, request: LockRequest) -> bool:
    """Whether nothing can ever be in the way of a lock, nor it in the way of another.

    Of a read-only volume no file can be opened for writing, so all POSIX locks are for reading.
    """
    return volume.type is not VolumeType.RW and request.owner.kind is LockKind.POSIX


def _taken() -> AfsError:
    return AfsError("the file is locked", errno=errno.EAGAIN)


__all__ = ["END", "Blocker", "LockKind", "LockMode", "LockRequest", "Locks", "Owner"]
