"""What daemons tell by and by: the commands' end.

with follow_each("watch", every=2.0) as feed:
    while feed.lives:
        for source, line in feed.wait(1.0):
            …
"""

from __future__ import annotations

import contextlib
import selectors
import socket
from typing import TYPE_CHECKING, Any

from afsfuse.control.places import places
from afsfuse.control.protocol import ANSWER_MAX, read_more, request_line
from afsfuse.errors import ControlRefused, NoDaemon

if TYPE_CHECKING:
    from collections.abc import Sequence

_CHUNK = 1 << 16


class Feed:
    """The streams of several daemons, each known by its place in the list that was given."""

    def __init__(self, connections: Sequence[socket.socket]) -> None:
        self._selector = selectors.DefaultSelector()
        self._pending = [bytearray() for _ in connections]
        self._connections = dict(enumerate(connections))
        self._refusal: ControlRefused | None = None
        self._told = False
        for source, connection in self._connections.items():
            connection.setblocking(False)
            self._selector.register(connection, selectors.EVENT_READ, source)

    def __enter__(self) -> Feed:
        return self

    def __exit__(self, *_: object) -> None:
        for connection in self._connections.values():
            connection.close()
        self._selector.close()

    @property
    def lives(self) -> bool:
        """Whether any daemon has more to tell."""
        return bool(self._connections)

    def watch(self, descriptor: int) -> None:
        """Let `wait` return also when there is something to read there, such as a keyboard."""
        self._selector.register(descriptor, selectors.EVENT_READ, None)

    def wait(self, seconds: float | None = None) -> list[tuple[int, dict[str, Any]]]:
        """What was told, with its source; nothing after so long, or when `watch` sees something.

        Raises `ControlRefused` when all that is left of them refuse.
        """
        told: list[tuple[int, dict[str, Any]]] = []
        for key, _ in self._selector.select(seconds):
            if key.data is not None:
                told += self._read(key.data)
        self._told |= bool(told)
        if self._refusal is not None and not self._told and not self.lives:
            raise self._refusal
        return told

    def _read(self, source: int) -> list[tuple[int, dict[str, Any]]]:
        pending = self._pending[source]
        try:
            chunk = self._connections[source].recv(_CHUNK)
        except BlockingIOError:
            return []
        except OSError:
            chunk = b""
        pending += chunk
        told = []
        while (end := pending.find(b"\n")) >= 0:
            line = bytes(pending[:end])
            del pending[: end + 1]
            try:
                more = read_more(line)
            except ControlRefused as exc:
                self._refusal, more = exc, None
            if more is None:
                chunk = b""
                break
            told.append((source, more))
        if not chunk or len(pending) > ANSWER_MAX:
            connection = self._connections.pop(source)
            self._selector.unregister(connection)
            connection.close()
        return told


def follow_each(verb: str, **arguments: object) -> Feed:
    """Have every daemon that this user can reach tell something by and by.

    Raises `NoDaemon` if there is none.
    """
    connections = [one for place in places() for one in place.connect_each()]
    if not connections:
        raise NoDaemon("no mount is running here")
    return follow(connections, verb, **arguments)


def follow(connections: Sequence[socket.socket], verb: str, **arguments: object) -> Feed:
    """Have daemons tell something by and by on these connections."""
    line = request_line(verb, **arguments)
    for connection in connections:
        with contextlib.suppress(OSError):  # `wait` sees that it is gone
            connection.sendall(line)
    return Feed(connections)


def addresses_of(host: str) -> list[str]:
    """The IPv4 addresses of a name, or the one that is given; none when there is no such host."""
    try:
        found = socket.getaddrinfo(host, None, socket.AF_INET, socket.SOCK_DGRAM)
    except OSError:
        return []
    return sorted({str(address[0]) for *_, address in found})
