"""Telling the kernel what to forget: attributes, pages, names.

An invalidation may block: dropping a page waits until the page has been read, and dropping a name
until a lookup in that directory is answered. Both answers come from the event loop, so calling the
kernel from there can deadlock for ever (not even SIGKILL helps then). Here it is done by threads:

- each inode has a queue of its own, so what concerns one inode keeps its order, and an inode whose
  invalidation is stuck holds up one thread and nothing else;
- threads are started as they are needed, up to a bound, and end when there is nothing to do;
- if all of them are stuck others come one by one, up to a higher bound: many files may be read at
  once from a server that is silent, and those of all others must not wait for it;
- what is asked twice before it is done is done once. So the queues hold at most one item for each
  thing that the kernel can remember, and the vfs bounds those.

The lock is held for a few assignments, never while the kernel works.
"""

from __future__ import annotations

import errno
import logging
import threading
import time
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Protocol

import pyfuse3
import trio

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

log = logging.getLogger(__name__)

MAX_THREADS = 32
MOST_THREADS = 1024
"""... when those are stuck."""
STUCK_SECONDS = 0.1
"""How long nothing is begun until one more comes."""
IDLE_SECONDS = 5.0

# What the kernel says of something that it does not remember any more, or of a mount that is gone.
_HARMLESS = frozenset({errno.ENOENT, errno.ENOTCONN, errno.ENODEV, errno.EBADF, errno.ENOTDIR})


class Kernel(Protocol):
    """The two calls that this module makes; the module `pyfuse3` has them."""

    def invalidate_inode(self, inode: int, attr_only: bool = ...) -> None: ...
    def invalidate_entry(self, inode_p: int, name: bytes) -> None: ...


class _Work:
    """What is to be done about one inode."""

    __slots__ = ("attributes", "data", "done", "names")

    def __init__(self) -> None:
        self.attributes = False
        self.data = False
        """Pages; attributes go with them."""
        self.names: dict[bytes, None] = {}
        """Names in this directory, in the order in which they were given."""
        self.done: list[Callable[[], None]] = []
        """Called by the thread that has done it."""


class KernelNotifier:
    """Queues invalidations, runs them in threads. All methods but `settled` return at once."""

    def __init__(
        self,
        kernel: Kernel = pyfuse3,
        *,
        max_threads: int = MAX_THREADS,
        most_threads: int = MOST_THREADS,
        stuck_seconds: float = STUCK_SECONDS,
        idle_seconds: float = IDLE_SECONDS,
    ) -> None:
        self._kernel = kernel
        self._max_threads = max_threads
        self._most_threads = most_threads
        self._stuck_seconds = stuck_seconds
        self._idle_seconds = idle_seconds
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._ending = threading.Condition(self._lock)
        self._queued: dict[int, _Work] = {}
        self._running: dict[int, _Work] = {}
        self._ready: deque[int] = deque()  # queued inodes of which none is running
        self._threads = 0
        self._resting = 0  # threads that wait for something to do
        self._begun = 0  # inodes, since the start
        self._standing_by = False  # a thread sees to it that there are more if all are stuck
        self._closed = False

    def invalidate_attributes(self, inode: int) -> None:
        """The kernel shall ask for the attributes of this inode again; its pages stay."""
        with self._lock:
            if (work := self._work(inode)) is not None:
                work.attributes = True

    def invalidate_data(self, inode: int) -> None:
        """The kernel shall forget pages and attributes of this inode."""
        with self._lock:
            if (work := self._work(inode)) is not None:
                work.data = True

    def invalidate_name(self, parent: int, name: bytes) -> None:
        """The kernel shall look this name up again, also when it believes that it is absent."""
        with self._lock:
            if (work := self._work(parent)) is not None:
                work.names[name] = None

    def pending(self) -> int:
        """How many inodes have invalidations that are not done."""
        with self._lock:
            return len(self._queued.keys() | self._running.keys())

    async def settled(self, inodes: Iterable[int] | None, timeout: float) -> bool:
        """Wait until what was asked so far about these inodes (None: all) is done.

        Returns False when that takes longer than `timeout` seconds; it then goes on by itself.
        """
        token = trio.lowlevel.current_trio_token()
        finished = trio.Event()
        remaining = 0

        def one_done() -> None:  # in the event loop
            nonlocal remaining
            remaining -= 1
            if not remaining:
                finished.set()

        def report() -> None:  # in the thread; the loop may have ended meanwhile
            try:
                token.run_sync_soon(one_done)
            except trio.RunFinishedError:
                return

        with self._lock:
            wanted = self._queued.keys() | self._running.keys() if inodes is None else set(inodes)
            for inode in wanted:
                for works in (self._queued, self._running):
                    if (work := works.get(inode)) is not None:
                        work.done.append(report)
                        remaining += 1
        if not remaining:
            return True
        with trio.move_on_after(timeout):
            await finished.wait()
        return finished.is_set()

    def close(self, timeout: float) -> bool:
        """Forget what is queued, accept nothing more, wait up to `timeout` seconds for the rest.

        Blocks: call it from a thread. False: an invalidation is still stuck in the kernel.
        """
        deadline = time.monotonic() + timeout
        with self._lock:
            self._closed = True
            self._ready.clear()
            self._queued.clear()
            self._changed.notify_all()
            self._ending.notify_all()
            while self._running and (rest := deadline - time.monotonic()) > 0:
                self._changed.wait(rest)
            return not self._running

    def _work(self, inode: int) -> _Work | None:
        """What is queued for this inode, queueing it if need be. The lock is held."""
        work = self._queued.get(inode)
        if work is not None or self._closed:
            if self._ready and not self._threads:
                self._summon()
            return work
        work = self._queued[inode] = _Work()
        if inode not in self._running:
            self._ready.append(inode)
            self._summon()
        return work

    def _summon(self) -> None:
        """See to it that a thread looks at the queue. The lock is held."""
        if self._resting >= len(self._ready):
            self._changed.notify()
        elif self._threads < self._max_threads:
            self._threads += self._start(self._run)
        elif self._threads < self._most_threads and not self._standing_by:
            self._standing_by = self._start(self._stand_by)

    @staticmethod
    def _start(run: Callable[[], None]) -> bool:
        """Start a thread. Where a limit forbids it, what is queued waits for those that are there,
        or else for what is queued next.
        """
        try:
            threading.Thread(target=run, name="afsfuse-notify", daemon=True).start()
        except RuntimeError as exc:
            log.warning("the kernel's memory of files may be out of date for longer: %s", exc)
            return False
        return True

    def _stand_by(self) -> None:
        """A thread: work as the others do as soon as none of them gets on."""
        with self._lock:
            begun = -1
            while self._ready and not self._closed and begun != self._begun:
                begun = self._begun
                self._ending.wait_for(lambda: self._closed, self._stuck_seconds)
            self._standing_by = False
            if self._closed or not self._ready:
                return
            self._threads += 1
        self._run()

    def _run(self) -> None:
        """A thread: take the next inode, do its work, until there has been none for a while."""
        while (item := self._take()) is not None:
            inode, work = item
            self._perform(inode, work)
            with self._lock:
                del self._running[inode]
                if inode in self._queued:
                    self._ready.append(inode)
                if self._closed:
                    self._changed.notify_all()
            for report in work.done:
                report()

    def _take(self) -> tuple[int, _Work] | None:
        with self._lock:
            if not self._ready:
                self._resting += 1
                self._changed.wait_for(lambda: self._ready or self._closed, self._idle_seconds)
                self._resting -= 1
            if not self._ready:
                self._threads -= 1
                return None
            inode = self._ready.popleft()
            work = self._running[inode] = self._queued.pop(inode)
            self._begun += 1
            if self._ready and self._threads >= self._max_threads:
                self._summon()
            return inode, work

    def _perform(self, inode: int, work: _Work) -> None:
        """The calls of the kernel. Names last: the new answer must find the new attributes."""
        if work.data or work.attributes:
            self._call(partial(self._kernel.invalidate_inode, inode, attr_only=not work.data))
        for name in work.names:
            if self._closed:
                return
            self._call(partial(self._kernel.invalidate_entry, inode, name))

    def _call(self, invalidate: Callable[[], None]) -> None:
        try:
            invalidate()
        except OSError as exc:
            if exc.errno not in _HARMLESS:
                log.warning("the kernel refused an invalidation: %s", exc)
        except Exception:
            log.exception("an invalidation failed: a bug")
