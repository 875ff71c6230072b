"""The endpoint for Prometheus: a small HTTP server inside trio, on a Unix socket or on loopback.

It knows one request, GET of /metrics. Whoever connects may be hostile: requests have a bounded
length and time, connections a bounded number, and each serves one request. Making the answer takes
about a millisecond and waits for nothing, so it is made in the event loop, and no thread touches
what belongs to it.
Source: RFC 9112
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import socket
import stat
from typing import TYPE_CHECKING

import trio

from afsfuse.control.accepting import accept
from afsfuse.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

Exposition = tuple[bytes, str]

REQUEST_MAX = 8192
"""Bytes of a request with all its headers."""
SECONDS = 5.0
"""For a request, and as long again for its answer."""
CONNECTIONS = 8
"""At a time; further ones are closed at once."""
_REQUEST = re.compile(rb"(GET|HEAD) (/[^ ]*) HTTP/1\.[01]\r?\n")
_ACCEPT = re.compile(rb"\naccept:[ \t]*([^\r\n]*)", re.IGNORECASE)
_HOST = re.compile(rb"\nhost:[ \t]*([^\r\n]*)", re.IGNORECASE)
_LOCAL = re.compile(rb"(127\.0\.0\.1|localhost|\[::1\])(:\d+)?", re.IGNORECASE)


class ScrapeServer:
    """Tells whoever asks, at one place."""

    def __init__(self, where: str, exposition: Callable[[str], Exposition]) -> None:
        """`where`: `unix:/path`, or a port of 127.0.0.1. `exposition` makes the answer, given the
        Accept header, and its content type.
        """
        self._where = where
        self._exposition = exposition
        self._connections = 0

    async def run(self, *, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled. Raises `UsageError` before `started()` if that cannot be."""
        listener, path = _listen(self._where)
        try:
            with trio.socket.from_stdlib_socket(listener) as listening:
                async with trio.open_nursery() as nursery:
                    log.info("metrics for Prometheus at %s", self._where)
                    task_status.started(self._where)
                    await self._accept(listening, nursery)
        finally:
            if path is not None:
                with contextlib.suppress(OSError):
                    os.unlink(path)

    async def _accept(self, listening: trio.socket.SocketType, nursery: trio.Nursery) -> None:
        while True:
            connection = await accept(listening, " for metrics")
            if self._connections >= CONNECTIONS:
                connection.close()
                continue
            self._connections += 1
            nursery.start_soon(self._serve, connection)

    async def _serve(self, connection: trio.socket.SocketType) -> None:
        """Answer one request, and close."""
        try:
            with connection, contextlib.suppress(OSError):
                answer = await self._answer(connection)
                if answer is not None:
                    with trio.move_on_after(SECONDS):
                        await _send(connection, answer)
                        connection.shutdown(socket.SHUT_WR)
        except Exception:  # a bug of ours; it costs this connection, not the mount
            log.exception("metrics were not told: a bug")
        finally:
            self._connections -= 1

    async def _answer(self, connection: trio.socket.SocketType) -> bytes | None:
        """What to answer; None for who says nothing in time."""
        head = bytearray()
        with trio.move_on_after(SECONDS) as scope:
            while b"\n\r\n" not in head and b"\n\n" not in head:
                if len(head) > REQUEST_MAX:
                    return _response("431 Request Header Fields Too Large")
                chunk = await connection.recv(REQUEST_MAX)
                if not chunk:
                    return None
                head += chunk
        if scope.cancelled_caught:
            return None
        request = _REQUEST.match(head)
        if request is None:
            return _response("405 Method Not Allowed", more="Allow: GET, HEAD\r\n")
        host = _HOST.search(head)
        if host is not None and self._is_port and not _LOCAL.fullmatch(host[1].strip()):
            return _response("421 Misdirected Request")  # a page in a browser, by a name of its own
        if request[2].split(b"?")[0] != b"/metrics":
            return _response("404 Not Found", b"see /metrics\n")
        accept = _ACCEPT.search(head)
        body, kind = self._exposition(accept[1].decode("latin-1") if accept is not None else "")
        return _response("200 OK", body, kind, is_head=request[1] == b"HEAD")

    @property
    def _is_port(self) -> bool:
        return not self._where.startswith("unix:")


def _response(
    status: str,
    body: bytes = b"",
    kind: str = "text/plain; charset=utf-8",
    *,
    more: str = "",
    is_head: bool = False,
) -> bytes:
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
        f"Connection: close\r\n{more}\r\n"
    )
    return head.encode("latin-1") + (b"" if is_head else body)


async def _send(connection: trio.socket.SocketType, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[await connection.send(view) :]


def _listen(where: str) -> tuple[socket.socket, str | None]:
    """A listening socket, and its file if it has one. Raises `UsageError`."""
    kind, _, path = where.partition(":")
    try:
        if kind != "unix":
            return _listen_on(("127.0.0.1", int(where)), socket.AF_INET), None
        with contextlib.suppress(FileNotFoundError):  # one of a daemon that is dead is in the way
            if stat.S_ISSOCK(os.lstat(path).st_mode) and _is_dead(path):
                os.unlink(path)
        return _listen_on(path, socket.AF_UNIX), path
    except OSError as exc:
        raise UsageError(
            f"-o metrics={where}: {exc.strerror}: choose another place", exit_code=2
        ) from None


def _listen_on(address: str | tuple[str, int], family: socket.AddressFamily) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        if family == socket.AF_INET:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        if family == socket.AF_UNIX:
            os.chmod(str(address), 0o666)  # the folder says who may come here
        listener.listen(CONNECTIONS)
    except BaseException:
        listener.close()
        raise
    return listener


def _is_dead(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        return probe.connect_ex(path) == errno.ECONNREFUSED
