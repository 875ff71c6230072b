"""What pyfuse3 leaves out of a request: the node of a STATFS, the caller of a READ or READDIR.

libfuse has both, and with its option `debug` it writes them into its log, one line a request, just
before it calls pyfuse3's handler. Where that log goes is for the application to say
(`fuse_set_log_func`, libfuse's `fuse_log.h`), so we let it come here and keep the last line. The
handler's coroutine starts to run before anything else is read from the kernel, so what is the last
line then is the line of its own request. Formatting and keeping a line costs 2 microseconds.

Should a future libfuse word that line otherwise, `Request.nodeid` and `Request.tid` are 0, which
means "unknown" to every user of them. Messages that are no request lines go to our own log.
"""

from __future__ import annotations

import ctypes
import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from afsfuse.fuse import libfuse

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

log = logging.getLogger(__name__)

_LINE_SIZE = 512
_DEBUG = 7  # FUSE_LOG_DEBUG; the levels are those of syslog(3). Source: fuse_log.h
_LEVELS = {4: logging.WARNING, 5: logging.INFO, 6: logging.INFO, 7: logging.DEBUG}
# "unique: 8, opcode: STATFS (17), nodeid: 15, insize: 40, pid: 7547". Source: fuse_lowlevel.c
_REQUEST = re.compile(rb"nodeid: (\d+).* pid: (\d+)")

_SINK = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)


class Request(NamedTuple):
    """What a request line tells."""

    nodeid: int
    """The inode it is about; 0 when unknown."""
    tid: int
    """The thread that waits for the answer; 0 when unknown or nobody of this pid namespace."""


UNKNOWN = Request(0, 0)


def parse(line: bytes) -> Request:
    """Read a request line; `UNKNOWN` when it is none."""
    if (match := _REQUEST.search(line)) is None:
        return UNKNOWN
    return Request(int(match[1]), int(match[2]))


class Requests(Protocol):
    """Where handlers find their request: `RequestLog`, or a toy in tests."""

    @property
    def last(self) -> bytes: ...


class RequestLog:
    """Receives libfuse's log. `last` is the raw line of the request that is being started."""

    def __init__(self, between: ModuleType | None = libfuse.between) -> None:
        """`between`: `_libfuse`, or None to go without it."""
        self._between = between
        self._sink = LogSink() if between is None else None

    @property
    def last(self) -> bytes:
        """Empty before the first request, and when the log cannot be had."""
        if self._sink is not None:
            return self._sink.last
        assert self._between is not None
        line: bytes = self._between.request()
        return line

    def install(self) -> None:
        """Become the sink of the libfuse that this process has loaded."""
        if not (self._between.take_log(_say) if self._between else self._install_sink()):
            log.warning("libfuse is not among the loaded libraries: statfs shows the root volume")

    def _install_sink(self) -> bool:
        library = loaded_libfuse()
        if library is None or self._sink is None:
            return False
        library.fuse_set_log_func(self._sink.function)
        return True

    def uninstall(self) -> None:
        """Give libfuse its own sink back, standard error."""
        if self._between is not None:
            self._between.leave_log()
        elif (library := loaded_libfuse()) is not None:
            library.fuse_set_log_func(None)


class LogSink:
    """What `_libfuse` does with libfuse's log, without it."""

    def __init__(self) -> None:
        self.last: bytes = b""
        self.function = _SINK(self._receive)  # libfuse keeps no reference of its own
        self._wanted: dict[int, bool] = {}  # by address of the format: is it the request line's?
        self._buffer = ctypes.create_string_buffer(_LINE_SIZE)
        self._address = ctypes.addressof(self._buffer)
        # PyDLL: the lock of the interpreter is held, and giving it up would cost more than this.
        self._format: Callable[[int, int, int, int], int] = ctypes.PyDLL(None).vsnprintf
        self._format.argtypes = [
            ctypes.c_void_p,
            ctypes.c_size_t,
            ctypes.c_void_p,
            ctypes.c_void_p,
        ]

    def _receive(self, level: int, template: int, arguments: int) -> None:
        """Called by libfuse in whatever thread it runs; must not raise, nor take long."""
        wanted = self._wanted.get(template)
        if wanted is None:
            text = ctypes.string_at(template)
            wanted = self._wanted[template] = b"opcode: " in text and b"nodeid: " in text
        if wanted:
            self._format(self._address, _LINE_SIZE, template, arguments)
            self.last = self._buffer.value
        elif level != _DEBUG:
            message = ctypes.create_string_buffer(_LINE_SIZE)
            self._format(ctypes.addressof(message), _LINE_SIZE, template, arguments)
            _say(level, message.value)


def _say(level: int, text: bytes) -> None:
    """Put a message of libfuse, which is no request line, into our own log."""
    message = text.strip().decode(errors="replace")
    log.log(_LEVELS.get(level, logging.ERROR), "libfuse: %s", message)


def loaded_libfuse() -> ctypes.CDLL | None:
    """The libfuse that pyfuse3 is linked with, whatever its version; None when there is none."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        path = line.partition("/")[1] + line.partition("/")[2]
        if path.rpartition("/")[2].startswith("libfuse3"):
            library = ctypes.CDLL(path)
            library.fuse_set_log_func.argtypes = [ctypes.c_void_p]
            library.fuse_set_log_func.restype = None
            return library
    return None
