"""The commands' end: where tokens can be kept, and whom to ask.

A *place* is the folder of one owner's daemons. One daemon of a place is enough: they share their
tokens. A place of the user's own can be used when no daemon runs there: the command then does by
itself what a daemon would do, and a mount that is made later finds the token.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import time
from typing import TYPE_CHECKING, Any

from afsfuse.auth.folders import CONTROL, folders, is_ours
from afsfuse.control.protocol import ANSWER_MAX, read_answer, request_line
from afsfuse.errors import ControlRefused, NoDaemon

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ANSWER_SECONDS = 10.0
"""For what a daemon knows by itself."""
PATIENT_SECONDS = 130.0
"""For what it has to ask servers: longer than it waits for these itself, `ControlLimits`."""
_KNOCK_SECONDS = 0.01
_SILENT = "a daemon does not answer: see its log"
_CREDENTIALS = struct.Struct("iII")  # struct ucred


class Daemon:
    """One daemon, behind its socket."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._name = name

    def connect(self) -> socket.socket:
        """A connection to it, for what it tells by and by. Raises `NoDaemon` if it is dead."""
        try:
            return _connect(self._folder, self._name)
        except OSError:
            raise NoDaemon("the daemon has ended") from None

    def ask(
        self, verb: str, seconds: float = PATIENT_SECONDS, /, **arguments: object
    ) -> dict[str, Any]:
        """Have something done, and wait so long for the answer.

        Raises `NoDaemon` if it is dead, `ControlRefused` if it refuses or says nothing.
        """
        line = request_line(verb, **arguments)
        try:
            with _connect(self._folder, self._name, seconds) as connection:
                return read_answer(_converse(connection, line))
        except (TimeoutError, BlockingIOError):  # the other: its queue is full
            raise ControlRefused("the daemon does not answer: see its log") from None
        except OSError:
            raise NoDaemon("the daemon has ended") from None


class Place:
    """One folder of tokens."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.by_daemon = False
        """Whether a daemon answered the last request."""

    def ask(self, verb: str, **arguments: object) -> dict[str, Any]:
        """Have something done. Raises `ControlRefused`, or `NoDaemon` if nobody is there."""
        line = request_line(verb, **arguments)
        silent = 0
        for name in self._sockets():
            try:
                with _connect(self.folder, name) as connection:
                    answer = _converse(connection, line)
            except (TimeoutError, BlockingIOError):  # the other: its queue is full
                silent += 1
                continue
            except OSError:  # its daemon is dead, or ends just now
                continue
            self.by_daemon = True
            return read_answer(answer)
        if silent:
            raise ControlRefused("the daemon does not answer: see its log")
        return self._do_it_here(line)

    def ask_each(
        self, verb: str, silent: Callable[[str], object] | None = None, /, **arguments: object
    ) -> list[dict[str, Any]]:
        """Have something done by every daemon of the place; those that are dead are left out.

        Raises `ControlRefused` if one refuses, or does not answer; `silent` is told of the latter
        instead.
        """
        line = request_line(verb, **arguments)
        answers = []
        for name in self._sockets():
            try:
                with _connect(self.folder, name) as connection:
                    answers.append(read_answer(_converse(connection, line)))
            except (TimeoutError, BlockingIOError):
                if silent is None:
                    raise ControlRefused(_SILENT) from None
                silent(_SILENT)
            except OSError:
                continue
        return answers

    def connect_each(self) -> list[socket.socket]:
        """A connection to every daemon of the place; those that are dead or busy are left out."""
        connections = []
        for name in self._sockets():
            with contextlib.suppress(OSError):
                connections.append(_connect(self.folder, name))
        return connections

    def _do_it_here(self, line: bytes) -> dict[str, Any]:
        if not is_ours(self.folder):
            raise NoDaemon("no mount for all users is running here")
        from afsfuse.auth.store import TokenStore
        from afsfuse.control.protocol import read_request
        from afsfuse.control.verbs import Peer, Verbs

        store = TokenStore(self.folder)
        try:
            store.load()
            return Verbs(store).do(read_request(line), Peer.here())
        finally:
            store.close()

    def _sockets(self) -> list[str]:
        """Names of the daemons' sockets."""
        try:
            names = os.listdir(self.folder / CONTROL)
        except OSError:
            return []
        return sorted(name for name in names if name.endswith(".sock") and name[0] != ".")

    def daemons(self) -> list[Daemon]:
        """All that have a socket here; some may be dead."""
        return [Daemon(self.folder, name) for name in self._sockets()]


def _connect(folder: Path, name: str, seconds: float | None = None) -> socket.socket:
    """`seconds`: instead of `ANSWER_SECONDS`. Raises OSError."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(ANSWER_SECONDS if seconds is None else seconds)
    try:
        flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(folder / CONTROL, flags)
        try:  # an address has room for 107 bytes only
            _knock(connection, f"/proc/self/fd/{descriptor}/{name}")
        finally:
            os.close(descriptor)
        uid = _CREDENTIALS.unpack(
            connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        )[1]
        if uid not in (0, os.geteuid()):
            raise PermissionError("a token is not for anybody who waits at this place")
    except BaseException:
        connection.close()
        raise
    return connection


def _knock(connection: socket.socket, address: str) -> None:
    """Connect, be it that others come faster than they are let in. Raises OSError:
    `BlockingIOError` when there is no room in the queue for long.
    """
    until = time.monotonic() + ANSWER_SECONDS
    while True:
        try:
            connection.connect(address)
            return
        except BlockingIOError:  # the queue is full: the kernel does not wait where we have a bound
            if time.monotonic() >= until:
                raise
            time.sleep(_KNOCK_SECONDS)


def _converse(connection: socket.socket, line: bytes) -> bytes:
    """Send a line, and wait for one. Raises OSError, `ControlRefused` if that is too long."""
    with contextlib.suppress(BrokenPipeError):  # it may have refused us before it read the line
        connection.sendall(line)
    answer = bytearray()
    while not answer.endswith(b"\n"):
        if not (chunk := connection.recv(1 << 16)):
            raise ConnectionResetError
        answer += chunk
        if len(answer) > ANSWER_MAX:
            raise ControlRefused("the daemon's answer is too long")
    return bytes(answer)


def places() -> list[Place]:
    """Where this user's tokens may be: with the machine's daemons, and his own."""
    return [Place(folder) for folder in folders()]


def ask_each(
    verb: str, silent: Callable[[str], object] | None = None, /, **arguments: object
) -> list[dict[str, Any]]:
    """Have something done by every daemon that this user can reach.

    Raises `NoDaemon` if there is none, `ControlRefused` if one refuses or does not answer. If
    `silent` is there, it is told of those that do not answer, and the others' answers count.
    """
    unheard: list[str] = []
    note = None if silent is None else unheard.append
    answers = [answer for place in places() for answer in place.ask_each(verb, note, **arguments)]
    if not answers:
        raise ControlRefused(unheard[0]) if unheard else NoDaemon("no mount is running here")
    for said in unheard:
        assert silent is not None
        silent(said)
    return answers


def tell_all(verb: str, **arguments: object) -> list[tuple[Place, dict[str, Any]]]:
    """Have something done at each place that there is. Raises `NoDaemon` if there is none.

    A place that refuses raises `ControlRefused`, after the others were asked.
    """
    answers = []
    missing: NoDaemon | None = None
    refused: ControlRefused | None = None
    for place in places():
        try:
            answers.append((place, place.ask(verb, **arguments)))
        except NoDaemon as exc:
            missing = exc
        except ControlRefused as exc:
            refused = exc
    if refused is not None:
        raise refused
    if not answers:
        raise missing or NoDaemon("no daemon is running here")
    return answers
