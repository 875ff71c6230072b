"""Requests that wait: Ctrl-C ends them, and so does their time.

The kernel tells a file system by FUSE_INTERRUPT that a waiting caller got a signal, but pyfuse3
does not pass that on, and a caller whose request is not answered ignores even SIGKILL. So one task
watches all requests that wait for longer than a blink: it reads the pending signals of the thread
that waits from `/proc/TID/status` and has the request answered with EINTR.

Whom a request belongs to is what the request log says. A read-ahead of the kernel carries the
thread in whose name it is done; it may be answered EINTR like any other, also when that thread
has ended meanwhile, since whoever else needs the page then asks for it in a request of its own. A
request of nobody (thread 0: the kernel itself, or a caller in a pid namespace that we do not see)
ends by its time alone.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import signal
from typing import TYPE_CHECKING, NamedTuple, Protocol

import trio

from afsfuse.fuse.requestlog import parse

if TYPE_CHECKING:
    from collections.abc import Callable

    from afsfuse.fuse.requestlog import Requests

log = logging.getLogger(__name__)

TICK = 0.05
"""Seconds between two looks at the waiting requests."""
BLINK = 0.08
"""Seconds for which a request may wait without being looked at."""
PATIENCE = 0.6
"""Seconds at most between two looks at one request, however many wait: Ctrl-C works in one."""
READS_PER_TICK = 64
"""So many status files are read in a tick (15 microseconds each) before looks become rarer."""
IDLE_TICKS = 40
"""Ticks without any waiting request after which the watcher sleeps until there is one."""

# Signals that a caller gets in the course of things, or that only stop it: answering EINTR would
# be an error that nobody asked for. (ls stopped by Ctrl-Z goes on after fg; a shell whose child
# ended goes on with its cd.)
_HARMLESS = frozenset(
    {
        signal.SIGCHLD,
        signal.SIGCONT,
        signal.SIGURG,
        signal.SIGWINCH,
        signal.SIGSTOP,
        signal.SIGTSTP,
        signal.SIGTTIN,
        signal.SIGTTOU,
        signal.SIGPROF,
        signal.SIGVTALRM,
        signal.SIGIO,
    }
)


def _mask(signals: frozenset[signal.Signals]) -> int:
    """Bit n - 1 stands for signal n, as in /proc/TID/status. Source: proc(5)."""
    return sum(1 << (number - 1) for number in signals)


_HARMLESS_MASK = _mask(_HARMLESS)


STORING = frozenset({"write", "settle", "fsync", "setattr"})
"""Handlers without a time of their own: as long as data goes to a server they may wait, on a slow
line for minutes. A server that is silent ends the store, and with it the wait."""

_LAST_TRY = 30.0
"""Seconds for a try that began when there was still time."""

_PF_EXITING = 0x4

_ENDED = re.compile(rb"^State:\s+[ZX]", re.MULTILINE)


def interrupting_signals(status: bytes) -> int:
    """The mask of pending signals that should end a wait, from the text of /proc/TID/status."""
    masks = {b"SigPnd": 0, b"ShdPnd": 0, b"SigBlk": 0, b"SigIgn": 0}
    for line in status.splitlines():
        name, _, value = line.partition(b":")
        if name in masks:
            masks[name] = int(value, 16)
    pending = masks[b"SigPnd"] | masks[b"ShdPnd"]
    return pending & ~masks[b"SigBlk"] & ~masks[b"SigIgn"] & ~_HARMLESS_MASK


def has_stopped_waiting(tid: int) -> bool:
    """Whether a thread has a signal to attend to, or is gone and left a read-ahead behind."""
    try:
        descriptor = os.open(f"/proc/{tid}/status", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return not _exists(tid)
    try:
        status = os.read(descriptor, 8192)
    except ProcessLookupError:  # it ended in this very moment
        return True
    finally:
        os.close(descriptor)
    return _ENDED.search(status) is not None or bool(interrupting_signals(status))


def is_exiting(tid: int) -> bool:
    """Whether a thread is on its way out, where signals reach it no more.

    Source: PF_EXITING in linux/sched.h, and prepare_signal in kernel/signal.c.
    """
    try:
        with open(f"/proc/{tid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return not _exists(tid)
    return bool(int(fields[6]) & _PF_EXITING)


def _exists(tid: int) -> bool:
    """Whether there is such a thread; /proc can be mounted so that it hides those of others."""
    try:
        os.kill(tid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


class Wait:
    """One request that has no answer yet."""

    __slots__ = ("errno", "line", "look_at", "scope", "since", "tid", "user", "what")

    def __init__(self, what: str, line: bytes, now: float, user: int) -> None:
        self.what = what
        """The name of the operation."""
        self.line = line
        """The request's line in the request log; read only when the request really waits."""
        self.user = user
        """The uid of who asks."""
        self.tid = -1
        """The waiting thread once the line has been read; 0 when there is nobody to interrupt."""
        self.since = now
        self.look_at = now + BLINK
        self.scope = trio.CancelScope()
        self.errno = errno.EINTR
        """What the request is answered with when its scope is cancelled."""

    @property
    def thread(self) -> int:
        """The thread that waits; 0 when there is none that could be named."""
        if self.tid < 0:
            self.tid = parse(self.line).tid
        return self.tid

    def end(self, number: int) -> None:
        """Answer the request with this errno as soon as its task runs."""
        self.errno = number
        self.scope.cancel()


class RequestStatistics(NamedTuple):
    """The kernel's requests since the start."""

    at_once: int
    """Those whose answer was there."""
    answered: int
    """... and all others that were answered."""
    refused: int
    """... because too many waited."""
    seconds: float
    """For which those that were not answered at once took, together."""
    waiting: int
    """At the moment."""
    longest: float
    """Seconds for which the oldest of these has waited."""


class RequestWatcher(Protocol):
    """Somebody who wants to hear of each request. Must not raise."""

    def asked(self, thread: int) -> None:
        """A thread asks for something; what is done in this task from now on is for it."""
        ...

    def began(self, wait: Wait) -> None:
        """It was not answered at once."""
        ...

    def ended(self, wait: Wait) -> None:
        """Such a one has its answer."""
        ...


def _unheard(requests: Requests) -> None:
    """Nobody looks."""


class NullWatcher:
    """Wants nothing."""

    def asked(self, thread: int) -> None:
        """Nobody looks."""

    def began(self, wait: Wait) -> None:
        """Nobody looks."""

    def ended(self, wait: Wait) -> None:
        """Nobody looks."""


class TooManyWaits(Exception):
    """More requests wait, of all or of this user, than the mount has workers for."""


class Interrupts:
    """All requests without an answer, and the task that watches them.

    `timeout`: seconds after which a request is answered ETIMEDOUT, whatever it waits for, unless
    it is of those in `STORING`.
    `most`: so many may wait at a time; one more is refused, so that workers are left to answer
    what needs no waiting.
    `retry`: seconds, from its beginning on, for which a request that failed by what may pass (see
    `AfsError.passing`) is tried again; without end for `inf`, and then `timeout` ends none.
    `shared`: a mount for several users, of whom none may have more that wait than are left: so one
    takes half of them, two take a third each, and there is always room for another one.
    """

    def __init__(
        self,
        *,
        timeout: float = 80.0,
        most: int = 4000,
        retry: float = 0.0,
        shared: bool = False,
        interrupted: Callable[[int], bool] = has_stopped_waiting,
        exiting: Callable[[int], bool] = is_exiting,
    ) -> None:
        self.timeout = max(timeout, retry + _LAST_TRY) if retry else timeout
        self.retry = retry
        self.most = most
        self.shared = shared
        self._interrupted = interrupted
        self.at_once = 0
        """Requests that had their answer before anybody could wait."""
        self._answered = 0
        self._refused = 0
        self._seconds = 0.0
        self._watcher: RequestWatcher = NullWatcher()
        self.asked: Callable[[Requests], None] = _unheard
        """To be called before anything is done for a request, which is the last one in the log."""
        self._exiting = exiting
        self._by_user: dict[int, int] = {}  # how many wait
        self._waits: dict[int, Wait] = {}  # by id(); in the order of their beginning
        self._asleep = False
        self._wake = trio.Event()
        self._closed: int | None = None
        self._drained = trio.Event()

    def __len__(self) -> int:
        return len(self._waits)

    def enter(self, what: str, line: bytes, user: int = 0) -> Wait:
        """Take note of a request; run it inside the `scope` of the returned object.

        Raises `TooManyWaits`.
        """
        room = self.most - len(self._waits)
        mine = self._by_user.get(user, 0)
        if room <= 0 or (self.shared and mine >= room):
            self._refused += 1
            raise TooManyWaits
        wait = Wait(what, line, trio.current_time(), user)
        self._waits[id(wait)] = wait
        self._by_user[user] = mine + 1
        self._watcher.began(wait)
        if self._asleep:
            self._asleep = False
            self._wake.set()
        if self._closed is not None:
            wait.end(self._closed)
        return wait

    def statistics(self) -> RequestStatistics:
        """A snapshot."""
        oldest = next(iter(self._waits.values()), None)
        return RequestStatistics(
            self.at_once,
            self._answered,
            self._refused,
            self._seconds,
            len(self._waits),
            0.0 if oldest is None else trio.current_time() - oldest.since,
        )

    def watch(self, watcher: RequestWatcher | None) -> None:
        """Tell somebody of each request; nobody with None."""
        if watcher is None:
            self._watcher, self.asked = NullWatcher(), _unheard
        else:
            told = watcher.asked
            self._watcher, self.asked = watcher, lambda requests: told(parse(requests.last).tid)

    def may_retry(self, wait: Wait) -> bool:
        """Whether a request that failed has time for another try.

        A close by the kernel for a process that exits has not: nobody hears how it ends, and
        nothing could end it any more. What was written is stored in the background.
        """
        if trio.current_time() - wait.since >= self.retry:
            return False
        return wait.what != "settle" or not self._exiting(wait.thread)

    def leave(self, wait: Wait) -> None:
        """The request has its answer."""
        del self._waits[id(wait)]
        self._answered += 1
        self._seconds += trio.current_time() - wait.since
        self._watcher.ended(wait)
        rest = self._by_user[wait.user] - 1
        if rest:
            self._by_user[wait.user] = rest
        else:
            del self._by_user[wait.user]
        if self._closed is not None and not self._waits:
            self._drained.set()

    def close(self, number: int) -> None:
        """Answer everything that waits with this errno, now and from now on: the mount ends."""
        self._closed = number
        for wait in self._waits.values():
            wait.end(number)
        if not self._waits:
            self._drained.set()

    async def drained(self) -> None:
        """Wait until nothing waits any more, after `close`."""
        await self._drained.wait()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Watch until cancelled. Sleeps while nothing waits."""
        task_status.started()
        idle = 0
        while True:
            await trio.sleep(TICK)
            idle = 0 if self._waits else idle + 1
            if idle >= IDLE_TICKS:
                self._wake = trio.Event()
                self._asleep = True
                await self._wake.wait()
                idle = 0
            self._look(trio.current_time())

    def _look(self, now: float) -> None:
        """One round over the requests whose turn it is."""
        rounds = len(self._waits) / READS_PER_TICK
        pause = min(PATIENCE, max(2 * TICK, rounds * TICK))
        seen: dict[int, bool] = {}  # a thread waits once, but the kernel may read ahead for it
        for wait in list(self._waits.values()):
            if wait.look_at > now or wait.scope.cancel_called:
                continue
            wait.look_at = now + pause
            if (tid := wait.thread) and tid not in seen:
                seen[tid] = self._interrupted(tid)
            if seen.get(tid):
                wait.end(errno.EINTR)
            elif now - wait.since > self.timeout and wait.what not in STORING:
                log.warning(
                    "%s (%s) has waited for %.0f s: it is answered with a timeout",
                    wait.what,
                    wait.line.decode(errors="replace").strip() or "request unknown",
                    now - wait.since,
                )
                wait.end(errno.ETIMEDOUT)
