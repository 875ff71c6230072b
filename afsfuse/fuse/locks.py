"""Lock requests of the kernel, which pyfuse3 does not know: taken from libfuse, and answered to it.

`_libfuse` hands a request over in the middle of pyfuse3's work, in the event loop's thread. What
can be answered at once is; the rest waits in a task of its own, without a bound, as locks do, and
ends early when the kernel sends FUSE_INTERRUPT: that comes for these requests, unlike all others.
"""

from __future__ import annotations

import errno
import fcntl
import logging
from collections import Counter
from typing import TYPE_CHECKING, Protocol

import trio

from afsfuse.errors import AfsError
from afsfuse.fuse import libfuse
from afsfuse.fuse.handler import RETRY_PAUSE
from afsfuse.vfs.locking import END, FileLock, LockKind, LockType

if TYPE_CHECKING:
    from collections.abc import Callable

    from afsfuse.cache.locks import Blocker

log = logging.getLogger(__name__)

LATER = -1
"""For `_libfuse`: the answer comes by `reply` or `reply_lock`."""

_FLOCK = 0  # what `_libfuse` gives in place of a command of fcntl(2)
_TYPES = {fcntl.F_RDLCK: LockType.READ, fcntl.F_WRLCK: LockType.WRITE, fcntl.F_UNLCK: None}
_NAMES = {LockType.READ: fcntl.F_RDLCK, LockType.WRITE: fcntl.F_WRLCK}


class LockApi(Protocol):
    """What keeps the locks: `afsfuse.vfs.locking.Locking`, or a toy in tests."""

    @property
    def posix(self) -> bool: ...
    def change_at_once(self, lock: FileLock) -> bool: ...
    async def change(self, lock: FileLock, *, wait: bool) -> None: ...
    async def blocker(self, lock: FileLock) -> Blocker | None: ...


class LockRequests:
    """Serves the lock requests of one mount, while `run` runs."""

    def __init__(
        self,
        locking: LockApi,
        most: int,
        retry: float = 0.0,
        *,
        user_of: Callable[[int], int] = lambda handle: 0,
        shared: bool = False,
    ) -> None:
        """`most`: so many may wait at a time; one more is refused with ENOLCK, unless it
        unlocks: it has done so here already, and the server is to hear of it. `retry`: seconds for
        which a request that failed by what may pass is tried again (see `Interrupts`, also for
        `shared`). `user_of`: the uid of whoever has opened a file.
        """
        self._locking = locking
        self._retry = retry
        self._most = most
        self._user_of = user_of
        self._shared = shared
        self._by_user: Counter[int] = Counter()  # how many wait
        self._waiting: dict[int, trio.CancelScope] = {}
        self._nursery: trio.Nursery | None = None
        self._closed: int | None = None
        self._drained = trio.Event()

    def __len__(self) -> int:
        """Requests that wait."""
        return len(self._waiting)

    def connect(self) -> None:
        """Have the next session of libfuse give its lock requests to this object."""
        if libfuse.between is not None:
            libfuse.between.connect(self._receive, self._interrupted)

    def disconnect(self) -> None:
        """Let go of libfuse, whose session has ended."""
        if libfuse.between is not None:
            libfuse.between.disconnect()

    @property
    def connected(self) -> bool:
        """Whether lock requests come here; else the kernel answers them itself."""
        return libfuse.between is not None and libfuse.between.connected()

    def flush_owner(self) -> int:
        """Whose POSIX locks the FLUSH ends that is being started; 0 if that is not known."""
        owner: int = 0 if libfuse.between is None else libfuse.between.flush_owner()
        return owner

    def note(self) -> None:
        """Tell libfuse's side whether a FLUSH may end a lock; to be called when that changed."""
        if libfuse.between is not None:
            libfuse.between.hold(self._locking.posix)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            try:
                await trio.sleep_forever()
            finally:
                self._nursery = None

    def close(self, number: int) -> None:
        """Answer everything that waits with this errno, now and from now on: the mount ends."""
        self._closed = number
        for scope in self._waiting.values():
            scope.cancel()
        if not self._waiting:
            self._drained.set()

    async def drained(self) -> None:
        """Wait until nothing waits any more, after `close`."""
        await self._drained.wait()

    def _receive(
        self,
        request: int,
        inode: int,
        handle: int,
        owner: int,
        command: int,
        type: int,
        start: int,
        length: int,
        pid: int,
        wait: int,
    ) -> int:
        """Called by `_libfuse`: an errno, 0, or `LATER`."""
        if self._closed is not None or self._nursery is None:
            return self._closed or errno.ENOTCONN
        kind = LockKind.FLOCK if command == _FLOCK else LockKind.POSIX
        end = start + length if length else END
        try:
            lock = FileLock(handle, kind, owner, _TYPES[type], start, end, pid)
            if command != fcntl.F_GETLK and self._locking.change_at_once(lock):
                self.note()
                return 0
        except Exception as exc:
            return _number(exc)
        user = self._user_of(handle)
        if lock.type is not None and not self._has_room(user):
            log.warning("%d lock requests wait: one more is refused with ENOLCK", len(self))
            return errno.ENOLCK
        scope = self._waiting[request] = trio.CancelScope()
        self._by_user[user] += 1
        self._nursery.start_soon(self._serve, request, lock, command, bool(wait), scope, user)
        return LATER

    def _has_room(self, user: int) -> bool:
        room = self._most - len(self._waiting)
        return room > 0 and not (self._shared and self._by_user[user] >= room)

    def _interrupted(self, request: int) -> None:
        """Called by `_libfuse`: whoever waits got a signal. It must not be answered in here."""
        if (scope := self._waiting.get(request)) is not None:
            scope.cancel()

    async def _serve(
        self,
        request: int,
        lock: FileLock,
        command: int,
        wait: bool,
        scope: trio.CancelScope,
        user: int,
    ) -> None:
        number = errno.ENOTCONN
        blocker: Blocker | None = None
        try:
            with scope:
                blocker = await self._ask(lock, command, wait)
                number = 0
            if scope.cancelled_caught:
                number = self._closed or errno.EINTR
        except Exception as exc:
            number = _number(exc)
        finally:  # also at the end of all: a request without an answer holds its caller for ever
            self._by_user -= Counter((user,))  # which keeps nobody of whom none wait
            self._answer(request, command, number, lock, blocker)

    async def _ask(self, lock: FileLock, command: int, wait: bool) -> Blocker | None:
        """Have it done, when the server is back if need be; who is in the way, where asked."""
        until = trio.current_time() + self._retry
        while True:
            try:
                if command == fcntl.F_GETLK:
                    return await self._locking.blocker(lock)
                await self._locking.change(lock, wait=wait)
                return None
            except AfsError as exc:
                if not exc.passing or trio.current_time() >= until:
                    raise
                log.debug("a lock waits: %s", exc)
            await trio.sleep(RETRY_PAUSE)

    def _answer(
        self, request: int, command: int, number: int, lock: FileLock, blocker: Blocker | None
    ) -> None:
        assert libfuse.between is not None
        del self._waiting[request]
        self.note()
        if number or command != fcntl.F_GETLK:
            failure = libfuse.between.reply(request, number)
        elif blocker is None:
            failure = libfuse.between.reply_lock(request, fcntl.F_UNLCK, lock.start, 0, 0)
        else:
            length = 0 if blocker.end == END else blocker.end - blocker.start
            failure = libfuse.between.reply_lock(
                request, _NAMES[blocker.type], blocker.start, length, blocker.pid
            )
        if failure:
            log.debug("a lock request could not be answered: errno %d", -failure)
        if self._closed is not None and not self._waiting:
            self._drained.set()


def _number(error: Exception) -> int:
    """What the kernel is told of an error."""
    if isinstance(error, AfsError):
        log.debug("lock: %s", error)
        return error.errno
    log.error("a lock request failed: a bug, it is answered with EIO", exc_info=error)
    return errno.EIO
