"""The daemon's control socket. Whoever connects may be hostile; nothing here waits for him long.

Each connection has a bounded number of requests, each request a bounded length and time, each user
a bounded number of connections. Who is at the other end is what the kernel says.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import secrets
import select
import socket
import stat
import struct
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from afsfuse.auth.folders import CONTROL
from afsfuse.auth.identity import Identity
from afsfuse.control.accepting import accept
from afsfuse.control.outlets import Outlet
from afsfuse.control.pacing import Pace
from afsfuse.control.protocol import (
    LINE_MAX,
    answer_line,
    error_line,
    more_line,
    read_request,
)
from afsfuse.control.verbs import Peer, Verbs
from afsfuse.errors import AfsError, ControlRefused

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

    from afsfuse.auth.store import TokenStore
    from afsfuse.control.verbs import Request

log = logging.getLogger(__name__)

SO_PEERPIDFD = 77  # Source: asm-generic/socket.h, since Linux 6.5
_CREDENTIALS = struct.Struct("iII")  # struct ucred
_NEW = ".new-"
_LOOK = 1.0  # seconds between two looks whether somebody who has sent more is still there


@dataclass(frozen=True)
class ControlLimits:
    """What strangers may cost."""

    seconds: float = 10.0
    """For one request, and for the answer to be taken."""
    patience: float = 120.0
    """For what has to be asked of servers; it ends earlier when nobody waits for it any more."""
    requests: int = 64
    """Of one connection."""
    connections: int = 256
    """At a time; root may have some more."""
    connections_of_user: int = 16
    streams: int = 32
    """Connections on which something is told by and by, at a time."""
    streams_of_user: int = 8


class ControlServer:
    """Answers commands, on a socket of its own in the store's folder."""

    def __init__(
        self,
        store: TokenStore,
        limits: ControlLimits | None = None,
        verbs: Verbs | None = None,
        settled: Callable[[Identity], Awaitable[None]] | None = None,
    ) -> None:
        """``settled``: what is waited for, in bounds of its own, before a new token of an
        identity is acknowledged. It is in use by then.
        """
        self._settled = settled
        self._folder = store.folder / CONTROL
        self._verbs = verbs or Verbs(store)
        self._limits = limits or ControlLimits()
        self._connections: Counter[int] = Counter()  # by uid
        self._streams: Counter[int] = Counter()  # by uid
        self._pace = Pace()

    async def run(self, *, task_status: trio.TaskStatus[Path] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled. Raises OSError before `started()` if there can be no socket."""
        clear_stale(self._folder)
        listener, path = _listen(self._folder)
        try:
            with trio.socket.from_stdlib_socket(listener) as listening:
                async with trio.open_nursery() as nursery:
                    task_status.started(path)
                    await self._accept(listening, nursery)
        finally:
            with contextlib.suppress(FileNotFoundError):
                path.unlink()

    async def _accept(self, listening: trio.socket.SocketType, nursery: trio.Nursery) -> None:
        while True:
            connection = await accept(listening)
            pid, uid, gid = _CREDENTIALS.unpack(
                connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
            )
            most = self._limits.connections + (self._limits.connections_of_user if uid == 0 else 0)
            if (
                self._connections[uid] >= self._limits.connections_of_user
                or self._connections.total() >= most
            ):
                _refuse(connection)
                continue
            self._connections[uid] += 1
            nursery.start_soon(self._serve, connection, pid, uid, gid)

    async def _serve(
        self, connection: trio.socket.SocketType, pid: int, uid: int, gid: int
    ) -> None:
        """Answer one connection's requests, until its end or that of our patience."""
        try:
            with connection, _lifeline(connection, pid) as lifeline:
                peer = Peer(uid, gid, pid, lambda: _is_alive(lifeline))
                talk = self._converse(connection, peer)
                with contextlib.suppress(OSError):  # it is gone
                    await (talk if peer.owns_daemon else self._pace.measured(uid, talk))
        except Exception:  # a bug of ours; it costs this connection, not the mount
            log.exception("a command was not answered: a bug")
        finally:
            self._connections[uid] -= 1
            if not self._connections[uid]:
                del self._connections[uid]

    async def _converse(self, connection: trio.socket.SocketType, peer: Peer) -> None:
        pending = bytearray()
        for _ in range(self._limits.requests):
            with trio.move_on_after(self._limits.seconds) as scope:
                while (end := pending.find(b"\n")) < 0:
                    if len(pending) > LINE_MAX:
                        await _send(connection, error_line("the request is too long"))
                        return
                    chunk = await connection.recv(LINE_MAX)
                    if not chunk:
                        return
                    pending += chunk
            if scope.cancelled_caught:
                return
            line = bytes(pending[:end])
            pending[: end + 1] = b""
            if not peer.owns_daemon:
                await self._pace.turn(peer.uid)
            stream = self._asks_for_stream(line)
            if stream is not None:
                await self._tell(connection, stream, peer)
                return
            answer = await self._while_awaited(connection, line, peer)
            if answer is None:
                return
            with trio.move_on_after(self._limits.seconds) as scope:
                await _send(connection, answer)
            if scope.cancelled_caught:
                return

    def _asks_for_stream(self, line: bytes) -> Request | None:
        """The request, if it is for what is told by and by."""
        try:
            request = read_request(line) if len(line) <= LINE_MAX else {}
        except AfsError:
            return None
        return request if request.get("do") in self._verbs.streams else None

    async def _tell(self, connection: trio.socket.SocketType, request: Request, peer: Peer) -> None:
        """Serve one stream until its end, its reader's, or that of our patience with him."""
        if (
            self._streams[peer.uid] >= self._limits.streams_of_user
            or self._streams.total() >= self._limits.streams
        ):
            with trio.move_on_after(self._limits.seconds):
                await _send(connection, error_line("too many look on already: try again later"))
            return
        self._streams[peer.uid] += 1
        try:
            await self._pump(connection, request, peer)
        finally:
            self._streams[peer.uid] -= 1
            if not self._streams[peer.uid]:
                del self._streams[peer.uid]

    async def _pump(self, connection: trio.socket.SocketType, request: Request, peer: Peer) -> None:
        outlet = Outlet()
        ending = answer_line({})

        async def send() -> None:
            try:
                while lines := await outlet.take():
                    for line in lines:
                        with trio.fail_after(self._limits.seconds):
                            await _send(connection, more_line(line))
                with trio.fail_after(self._limits.seconds):
                    await _send(connection, ending)
            except (OSError, trio.TooSlowError):  # gone, or as good as gone
                pass
            nursery.cancel_scope.cancel()

        async def wait_for_reader() -> None:
            """Until he goes, or says that it is enough."""
            try:
                if await connection.recv(1):
                    telling.cancel()
                    return
            except OSError:
                pass
            nursery.cancel_scope.cancel()

        telling = trio.CancelScope()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            nursery.start_soon(wait_for_reader)
            try:
                with telling:
                    result = await self._verbs.streams[request["do"]](request, peer, outlet)
                    ending = answer_line(result)
            except AfsError as exc:
                ending = error_line(str(exc))
            outlet.close()

    async def _while_awaited(
        self, connection: trio.socket.SocketType, line: bytes, peer: Peer
    ) -> bytes | None:
        """The answer to a request; None if whoever asked has left before."""
        answer: bytes | None = None

        async def watch() -> None:
            """Come to an end when the other side does; it may send more requests before."""
            with contextlib.suppress(OSError):
                while True:
                    if not await connection.recv(1, socket.MSG_PEEK):
                        break
                    await trio.sleep(_LOOK)
            nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            with trio.move_on_after(self._limits.patience):
                answer, newly_known = await self._answer(line, peer)
                if newly_known is not None and self._settled is not None:
                    await self._settled(newly_known)
            if answer is None and not nursery.cancel_scope.cancel_called:
                answer = error_line(f"no answer within {self._limits.patience:.0f} s")
            nursery.cancel_scope.cancel()
        return answer

    async def _answer(self, line: bytes, peer: Peer) -> tuple[bytes, Identity | None]:
        """The answer to a request, and who has a token by it that is to be settled before."""
        try:
            if len(line) > LINE_MAX:
                raise ControlRefused("the request is too long")
            request = read_request(line)
            answer = await self._verbs.perform(request, peer)
        except AfsError as exc:
            return error_line(str(exc)), None
        if request["do"] == "set" and request.get("wait") is not False:
            return answer_line(answer), Identity.parse(answer["identity"])
        return answer_line(answer), None


async def _send(connection: trio.socket.SocketType, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[await connection.send(view) :]


def _refuse(connection: trio.socket.SocketType) -> None:
    """Say that there are too many of them, if that can be said without waiting."""
    with connection, contextlib.suppress(OSError):
        os.write(connection.fileno(), error_line("too many connections: try again later"))


def _listen(folder: Path) -> tuple[socket.socket, Path]:
    """A listening socket, and where it is: it has its name only when it listens.

    So a socket that refuses connections is one whose daemon is dead.
    """
    name = f"{os.getpid()}-{secrets.token_hex(4)}.sock"
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with short_path(folder) as short:
            listener.bind(f"{short}/{_NEW}{name}")
            os.chmod(f"{short}/{_NEW}{name}", 0o666)  # who may do what is decided by uid
            listener.listen(64)
            os.rename(f"{short}/{_NEW}{name}", f"{short}/{name}")
    except BaseException:
        listener.close()
        raise
    return listener, folder / name


@contextlib.contextmanager
def short_path(folder: Path) -> Iterator[str]:
    """Another name for a folder: a socket's address has room for 107 bytes only."""
    flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(folder, flags)
    try:
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def clear_stale(folder: Path) -> list[str]:
    """Remove sockets whose daemons are dead. -> their names"""
    cleared = []
    with short_path(folder) as short:
        for name in os.listdir(short):
            path = f"{short}/{name}"
            with contextlib.suppress(OSError):
                if stat.S_ISSOCK(os.lstat(path).st_mode) and not name.startswith("."):
                    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                        probe.setblocking(False)
                        if probe.connect_ex(path) == errno.ECONNREFUSED:
                            os.unlink(path)
                            cleared.append(name)
    return cleared


@contextlib.contextmanager
def _lifeline(connection: trio.socket.SocketType, pid: int) -> Iterator[int | None]:
    """A descriptor of the process that connected; None when there is none to be had.

    The kernel of 6.5 or newer gives it for the very process; before, it is looked up by its
    number, which leaves the blink between its connecting and our accepting.
    """
    try:
        descriptor = connection.getsockopt(socket.SOL_SOCKET, SO_PEERPIDFD)
    except OSError:
        try:
            descriptor = os.pidfd_open(pid) if pid else -1
        except OSError:
            descriptor = -1
    try:
        yield None if descriptor < 0 else descriptor
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def _is_alive(lifeline: int | None) -> bool:
    if lifeline is None:
        return False
    poll = select.poll()
    poll.register(lifeline, select.POLLIN)
    return not poll.poll(0)
