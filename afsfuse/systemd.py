"""What systemd is told of the daemon, by its own protocol, and the watch over the mount.

A message is one datagram of lines `NAME=value` to the Unix socket in `NOTIFY_SOCKET`. Source:
sd_notify(3), sd_watchdog_enabled(3), systemd.service(5) for `Type=notify`.

The watchdog is fed by a task of the event loop, after a question to the mount's own root has gone
through the kernel and come back: so it starves when the loop stands still, and when the mount does.
The question is for an extended attribute that the daemon itself knows: the kernel keeps none, as it
would attributes of stat(2), and no server is asked, which may be silent for reasons of its own.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
import time
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping

log = logging.getLogger(__name__)

STATUS_SECONDS = 10.0
"""How often the status is told, where the watchdog does not want to be fed more often."""
PROGRESS_SECONDS = 2.0
"""How often the end says how far it is."""
EXTENSION_SECONDS = 15.0
"""The time that the end asks for, each time anew while it gets on."""
_RETRY_SECONDS = 1.0  # between two questions to a mount of which the first was not answered
_SEND_SECONDS = 1.0  # a full queue is systemd's trouble, and must not become ours


class Notifier:
    """Tells the service manager something; without one it tells nobody."""

    def __init__(self, address: str = "", watchdog: float | None = None) -> None:
        """`address`: a path, or `@` and an abstract name. `watchdog`: see there."""
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self.watchdog = watchdog
        """Seconds within which the watchdog wants to be fed; None: it does not watch."""

    @classmethod
    def from_environment(cls) -> Notifier:
        """As the service manager has said. The variables go: they are not for our children."""
        address = os.environ.pop("NOTIFY_SOCKET", "")
        microseconds = os.environ.pop("WATCHDOG_USEC", "")
        pid = os.environ.pop("WATCHDOG_PID", "")
        if not address.startswith(("/", "@")):
            return cls()
        watched = microseconds.isdecimal() and int(microseconds) and pid in ("", str(os.getpid()))
        return cls(address, int(microseconds) / 1e6 if watched else None)

    @property
    def active(self) -> bool:
        """Whether anybody is told."""
        return bool(self._address)

    def tell(self, **fields: object) -> None:
        """Send one message, such as `tell(READY=1, STATUS="mounted")`. Never raises."""
        if not self._address:
            return
        lines = (f"{name}={' '.join(str(value).split())}" for name, value in fields.items())
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
            out.settimeout(_SEND_SECONDS)
            try:
                out.sendto("\n".join(lines).encode(errors="replace"), self._address)
            except OSError as exc:
                log.debug("systemd is not told %s: %s", ", ".join(fields), exc)

    @contextlib.contextmanager
    def reloading(self) -> Iterator[None]:
        """Around the work of a reload; it is over when this is left, whatever came of it."""
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self.tell(RELOADING=1, MONOTONIC_USEC=now)
        try:
            yield
        finally:
            self.tell(READY=1)


class Watch:
    """Says that the mount is ready, how it goes on, feeds the watchdog, and follows the end."""

    def __init__(
        self, notifier: Notifier, answers: Callable[[], Awaitable[bool]], status: Callable[[], str]
    ) -> None:
        """`answers`: ask the mount. `status`: a line for people."""
        self._notifier = notifier
        self._answers = answers
        self._status = status
        self._ending = False

    async def run(self) -> None:
        """Until cancelled, or until the end begins."""
        notifier = self._notifier
        if not notifier.active:
            return
        pause = STATUS_SECONDS
        if notifier.watchdog is not None:
            pause = min(pause, notifier.watchdog / 3)
        message: Mapping[str, object] = {"READY": 1}
        while True:
            answered = await self._answers()
            if self._ending:
                return
            if answered:
                notifier.tell(**message, STATUS=self._status())
                message = {} if notifier.watchdog is None else {"WATCHDOG": 1}
            await trio.sleep(pause if answered else _RETRY_SECONDS)

    @contextlib.asynccontextmanager
    async def farewell(self, left: Callable[[], str]) -> AsyncIterator[None]:
        """Around the end of the daemon: say what is left to do, and have the time for it."""
        self._ending = True
        self._notifier.tell(STOPPING=1, STATUS=left())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._follow, left)
            yield
            nursery.cancel_scope.cancel()
        self._notifier.tell(STATUS=left())

    async def _follow(self, left: Callable[[], str]) -> None:
        while self._notifier.active:
            self._notifier.tell(EXTEND_TIMEOUT_USEC=round(EXTENSION_SECONDS * 1e6), STATUS=left())
            await trio.sleep(PROGRESS_SECONDS)


def asks(directory: str, attribute: str) -> Callable[[], Awaitable[bool]]:
    """Whether the mount on a directory answers a question for an extended attribute.

    An error is an answer, too, but for those of the kernel when nobody is there to ask. It is asked
    by a thread, which the event loop answers.
    """
    limiter = trio.CapacityLimiter(1)  # of its own: others may have taken all the threads

    def ask() -> bool:
        try:
            os.getxattr(directory, attribute)
        except OSError as exc:
            return exc.errno not in (errno.ENOTCONN, errno.ECONNABORTED)
        return True

    async def asked() -> bool:
        return await trio.to_thread.run_sync(ask, abandon_on_cancel=True, limiter=limiter)

    return asked
