"""The life of one mount: made, served, removed, with nothing left behind whatever fails.

The end is the delicate part. A process that waits for an answer of ours cannot be killed, and an
invalidation of ours that waits for that answer cannot either. So everything that waits is answered
first, while the main loop still runs; then the mount is taken away, then the loop ends.
"""

from __future__ import annotations

import errno
import logging
import os
import select
import threading
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import pyfuse3
import trio

from afsfuse.fuse import mount, tuning, usage, workers
from afsfuse.fuse.handshake import Wishes, shake_hands
from afsfuse.fuse.interrupts import Interrupts
from afsfuse.fuse.locks import LockRequests
from afsfuse.fuse.operations import FileSystemApi, Operations
from afsfuse.fuse.requestlog import RequestLog
from afsfuse.vfs.trees import Survey

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from afsfuse.fuse.notify import KernelNotifier

P = ParamSpec("P")
T = TypeVar("T")

log = logging.getLogger(__name__)

MIN_WORKERS = 8
"""Idle worker tasks that are kept; making one costs more than an answer from the cache."""
SPARE_WORKERS = 96
"""Workers beyond the limit of waiting requests, for what needs no waiting."""
ANSWER_SECONDS = 1.0
"""How long the end waits for waiting requests to be answered."""
SETTLE_SECONDS = 2.0
"""How long the end waits for invalidations that the kernel is busy with."""
_WALKS = 4
"""Paths of the mount that we look up ourselves at a time."""


@dataclass(frozen=True)
class SessionLimits:
    """What one mount may have in flight."""

    requests: int = 4000
    """Requests that may wait at a time. A waiting one costs some 10 KiB. Where others are let in,
    nobody may have more of them than are left."""
    timeout: float = 80.0
    """Seconds after which a waiting request is answered ETIMEDOUT."""
    read_ahead: int = 1 << 20
    """Bytes that the kernel reads ahead of a sequential reader; root only."""
    retry: float = 0.0
    """Seconds for which a request that servers keep waiting is tried again; see `Interrupts`."""


class FuseSession:
    """Serves a file system at a directory. One a process: libfuse's state is global in pyfuse3.

    `notifier` may be used as soon as the object exists; before and after the mount it has no
    effect, as there is nothing that the kernel could remember.
    """

    def __init__(
        self,
        filesystem: FileSystemApi,
        directory: str,
        options: mount.MountOptions,
        limits: SessionLimits,
        notifier: KernelNotifier,
        *,
        about: Mapping[bytes, bytes] | None = None,
        local_locks: bool = False,
    ) -> None:
        """`local_locks`: the kernel keeps all locks itself, so that nobody else sees them."""
        self._directory = directory
        self._options = options
        self._limits = limits
        self._notifier = notifier
        self._requests = RequestLog()
        self._gate = workers.Gate(MIN_WORKERS)
        self._filesystem = filesystem
        self._local_locks = local_locks
        self._locks = LockRequests(
            filesystem.locking, limits.requests, limits.retry,
            user_of=self._opener, shared=options.allow_other,
        )  # fmt: skip
        self._main_scope = trio.CancelScope(shield=True)
        self._settled = True
        self._device: str | None = None
        self._connection = -1
        self._walks = trio.CapacityLimiter(_WALKS)
        self._interrupts = Interrupts(
            timeout=limits.timeout,
            most=limits.requests,
            retry=limits.retry,
            shared=options.allow_other,
        )
        self._operations = Operations(
            filesystem,
            self._interrupts,
            self._requests,
            self._gate,
            self._locks,
            {mount.PID_ATTRIBUTE.encode(): b"%d" % os.getpid(), **(about or {})},
        )

    def _opener(self, handle: int) -> int:
        """The uid of whoever has opened a file."""
        caller = self._filesystem.caller_of(handle)
        return 0 if caller is None else caller.uid

    @property
    def waiting(self) -> int:
        """Requests that have no answer at the moment."""
        return len(self._interrupts) + len(self._locks)

    @property
    def interrupts(self) -> Interrupts:
        """The requests, and their figures."""
        return self._interrupts

    @property
    def device(self) -> str | None:
        """As what the kernel knows the mount, `major:minor`; None before it is made."""
        return self._device

    def fileno(self) -> int:
        """The descriptor at which requests come in; -1 before the mount is made."""
        return self._connection

    async def survey(self) -> Survey:
        """Which directories of the mount processes are in; nobody's before it is made."""
        if self._device is None:
            return Survey([], [], [])
        mounted = usage.Mounted(self._device, self._options.allow_other)
        look = partial(usage.survey, mounted)
        # Left behind if need be: it must not hold up the end of the mount.
        return await trio.to_thread.run_sync(look, abandon_on_cancel=True)

    async def walk(self, path: bytes, started: Callable[[int], object]) -> None:
        """Have the kernel look up a directory of the mount, by a thread of ours that says who it
        is first. Raises OSError if there is none.
        """
        where = os.path.join(os.fsencode(self._directory), path)

        def look() -> None:
            started(threading.get_native_id())
            os.close(os.open(where, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW))

        await trio.to_thread.run_sync(look, abandon_on_cancel=True, limiter=self._walks)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Mount, then serve until somebody unmounts it or this is cancelled.

        Raises `MountError` before `started()` when the mount cannot be made. The mount table
        shows the mount when `started()` is called; it answers as soon as the event loop turns.
        """
        directory = await _in_thread(mount.prepare, self._directory)
        connection = await _in_thread(mount.mount, directory, self._options)
        device = self._device = mount.device_of(directory)
        self._requests.install()
        workers.install(self._gate)
        if not self._local_locks:
            self._locks.connect()
        try:
            wishes = Wishes(background=self._limits.requests)
            self._connection = connection = await shake_hands(self._operations, connection, wishes)
            self._serve_locks()
            try:
                if device is not None:
                    tuning.set_read_ahead(device, self._limits.read_ahead)
                remove = partial(_remove, directory, device, connection)
                await self._serve(connection, remove, task_status)
            finally:
                self._end_libfuse()
        finally:
            workers.uninstall()
            self._locks.disconnect()
            with trio.CancelScope(shield=True):
                await _in_thread(_remove, directory, device)

    def _serve_locks(self) -> None:
        """Say who keeps locks."""
        if self._locks.connected:
            self._filesystem.keep_locks()
        elif not self._local_locks:
            log.warning(
                "locks hold on this machine only: the module between pyfuse3 and libfuse was not"
                " compiled, or does not fit them"
            )

    async def _serve(
        self, connection: int, remove: Callable[[], None], task_status: trio.TaskStatus[None]
    ) -> None:
        """Answer requests until the mount is gone. When cancelled, `remove` it.

        The main loop is out of reach of that cancellation: it answers until the very end.
        """
        ended = trio.Event()
        async with trio.open_nursery() as nursery:
            await nursery.start(self._locks.run)
            nursery.start_soon(self._main_loop, ended)
            nursery.start_soon(self._interrupts.run)
            nursery.start_soon(self._watch, connection)
            try:
                task_status.started()
                await ended.wait()
            finally:
                with trio.CancelScope(shield=True):
                    await self._leave(remove, ended)
                nursery.cancel_scope.cancel()

    async def _leave(self, remove: Callable[[], None], ended: trio.Event) -> None:
        """Let go of everybody: whoever waits, invalidations, the mount, the main loop.

        From the first step on all requests are answered with ENOTCONN at once. That goes on
        until the mount is gone, since a reader whose request was refused asks again, and an
        invalidation of the page that it wants waits for that.
        """
        self._answer_all()
        with trio.move_on_after(ANSWER_SECONDS):
            await self._interrupts.drained()
            await self._locks.drained()
        self._settled = await _in_thread(self._notifier.close, SETTLE_SECONDS)
        await _in_thread(remove)
        if not self._settled:
            self._settled = await _in_thread(self._notifier.close, SETTLE_SECONDS)
        if not ended.is_set():
            pyfuse3.terminate()
            self._main_scope.deadline = trio.current_time() + ANSWER_SECONDS

    async def _main_loop(self, ended: trio.Event) -> None:
        with self._main_scope:
            await pyfuse3.main(MIN_WORKERS, self._limits.requests + SPARE_WORKERS)
        ended.set()

    async def _watch(self, connection: int) -> None:
        """When the connection is cut (umount, also by force), let what waits end at once.

        Nobody waits for those answers any more, but the main loop waits for its workers. Asked
        for no event, the kernel still tells of EPOLLERR, which is how it shows a cut connection.
        """
        with select.epoll() as errors:
            errors.register(connection, 0)
            await trio.lowlevel.wait_readable(errors.fileno())
            self._answer_all()

    def _answer_all(self) -> None:
        self._interrupts.close(errno.ENOTCONN)
        self._locks.close(errno.ENOTCONN)
        self._gate.close()

    def _end_libfuse(self) -> None:
        """Close the connection, which ends the mount for whoever still uses it."""
        if self._settled:
            pyfuse3.close(unmount=False)
            self._requests.uninstall()
        else:
            # A thread is inside libfuse, whose memory must stay until this process ends.
            log.warning("an invalidation is still waiting for the kernel")


async def _in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    return await trio.to_thread.run_sync(partial(function, *args, **kwargs))


def _remove(directory: str, device: str | None, connection: int = -1) -> None:
    """Take our mount away, if it is still there; whoever uses it gets ENOTCONN from now on.

    With the connection also from where it was moved to, and its copies: they would be dead.
    """
    found = mount.find_mount(directory)
    places = [directory] if found is not None and found.device == device else []
    if device is not None and connection >= 0 and not _is_cut(connection):
        places = mount.places_of(device)
    for place in places:
        try:
            mount.unmount(place, lazy=True, force=True)
        except mount.MountError as exc:
            log.error("the mount stays behind: %s", exc)


def _is_cut(connection: int) -> bool:
    """Whether the kernel has ended a connection. Then the mount's number may be another's."""
    watched = select.poll()
    watched.register(connection, 0)  # errors are told in any case
    return bool(watched.poll(0))
