"""Where the log goes and how it looks; a flood of equal messages is cut short.

In the foreground: standard error, in journald's form (`<N>` in front) when systemd reads it. In
the background: syslog. With a log file: there, and nowhere else.
"""

from __future__ import annotations

import errno
import logging
import os
import sys
import syslog
import time
from typing import TYPE_CHECKING

from afsfuse.errors import UsageError, printable

if TYPE_CHECKING:
    from collections.abc import Callable

NAMES = ("afsfuse", "rxrpc", "pyfuse3")
"""The loggers that are ours to set up."""

BURST = 20
"""Messages of one kind that pass within `PERIOD` seconds; the rest is counted."""
PERIOD = 60.0
_KINDS = 1024  # kinds of messages that are remembered

_PRIORITIES = (
    (logging.CRITICAL, syslog.LOG_CRIT),
    (logging.ERROR, syslog.LOG_ERR),
    (logging.WARNING, syslog.LOG_WARNING),
    (logging.INFO, syslog.LOG_INFO),
)


def priority(level: int) -> int:
    """The syslog priority of a level of the logging module."""
    return next((number for least, number in _PRIORITIES if level >= least), syslog.LOG_DEBUG)


class RateLimit(logging.Filter):
    """Lets `burst` messages of a kind through in each period; the next one tells of the others.

    A kind is what has one logger and one template, whatever the values in it are.
    """

    def __init__(
        self,
        burst: int = BURST,
        period: float = PERIOD,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self._burst = burst
        self._period = period
        self._clock = clock
        self._kinds: dict[tuple[str, str], list[float]] = {}  # begin of period, passed, cut off

    def filter(self, record: logging.LogRecord) -> bool:
        now = self._clock()
        kind = (record.name, str(record.msg))
        state = self._kinds.get(kind)
        if state is None or now - state[0] >= self._period:
            if state is not None and state[2]:
                record.msg = f"{record.msg} ({state[2]:.0f} more like this were left out)"
            if len(self._kinds) >= _KINDS:
                self._kinds.clear()
            self._kinds[kind] = [now, 1, 0]
            return True
        passed = state[1] < self._burst
        state[1 if passed else 2] += 1
        return passed


class PlainFormatter(logging.Formatter):
    """What is no letter is written as in Python's own texts, and each line but the first stands
    back: names are in it that anybody may have chosen, and none must pass for a line of ours, give
    orders to a terminal, or be what no log takes, such as half a character.
    """

    def format(self, record: logging.LogRecord) -> str:
        return "\n    ".join(map(printable, super().format(record).split("\n")))


class JournalFormatter(PlainFormatter):
    """`<4>name: message`, each line of a traceback with its own priority. Source: sd-daemon(3)."""

    def __init__(self) -> None:
        super().__init__("%(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        prefix = f"<{priority(record.levelno)}>"
        return "\n".join(prefix + line for line in super().format(record).split("\n"))


class SyslogHandler(logging.Handler):
    """The C library's syslog; light, and right also when the daemon at the other end restarts."""

    def __init__(self) -> None:
        super().__init__()
        syslog.openlog("afsfuse", syslog.LOG_PID, syslog.LOG_DAEMON)
        self.setFormatter(PlainFormatter("%(name)s: %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        for line in self.format(record).split("\n"):
            syslog.syslog(priority(record.levelno), line)


def answers_somebody(record: logging.LogRecord) -> bool:
    """Leave out pyfuse3's complaint that nobody waits for an answer any more.

    That is how a request ends that was on its way when the connection was cut.
    """
    gone = os.strerror(errno.ENOENT)
    return not ("fuse_reply_* failed" in str(record.msg) and record.args == (gone,))


def set_up(*, foreground: bool, logfile: str | None, debug: bool) -> None:
    """Send the log to its place. Raises `UsageError` when the log file cannot be written."""
    handler = _handler(foreground, logfile)
    handler.addFilter(RateLimit())
    for name in NAMES:
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.propagate = False
    logging.getLogger("pyfuse3").filters = [answers_somebody]
    set_level(debug=debug)


def set_level(*, debug: bool) -> None:
    """Log everything, or what is worth knowing."""
    for name in NAMES:
        logging.getLogger(name).setLevel(logging.DEBUG if debug else logging.INFO)
    logging.getLogger("pyfuse3").setLevel(logging.INFO)  # at DEBUG it tells of each worker


def echo(level: int = logging.WARNING) -> logging.Handler:
    """Show messages on standard error as well, until `unecho`: somebody waits for the start."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setLevel(level)
    handler.setFormatter(PlainFormatter("afsfuse: %(message)s"))
    for name in NAMES:
        logging.getLogger(name).addHandler(handler)
    return handler


def unecho(handler: logging.Handler) -> None:
    """Undo `echo`."""
    for name in NAMES:
        logging.getLogger(name).removeHandler(handler)


def read_by_journal() -> bool:
    """Whether journald reads standard error, and not somebody to whom it was redirected.

    `JOURNAL_STREAM` has device and inode of what journald reads. Source: systemd.exec(5).
    """
    try:
        found = os.fstat(2)
    except OSError:  # closed
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


def _handler(foreground: bool, logfile: str | None) -> logging.Handler:
    plain = PlainFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    if logfile is not None:
        try:
            handler: logging.Handler = logging.FileHandler(logfile)
        except OSError as exc:
            raise UsageError(
                f"{logfile}: the log cannot be written there: {exc.strerror}", exit_code=1
            ) from None
        handler.setFormatter(plain)
    elif foreground:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(JournalFormatter() if read_by_journal() else plain)
    else:
        handler = SyslogHandler()
    return handler
