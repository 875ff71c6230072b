"""The file servers, each known by its UUID."""

from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address
from math import inf
from uuid import UUID

from afsfuse.refusals import Refused, note
from rxrpc import Address


class FileServer:
    """One file server of a cell. There is one object for each, compared by identity.

    The registry keeps `addresses` and `unique`; everything else is for those who make calls.
    """

    __slots__ = (
        "addresses",
        "cell",
        "down_until",
        "last_seen",
        "rtt",
        "unique",
        "uuid",
        "waiting",
    )

    def __init__(self, cell: str, uuid: UUID, unique: int, addresses: Sequence[Address]) -> None:
        self.cell = cell
        self.uuid = uuid
        """Its own, or made of its address if it registered none."""
        self.unique = unique
        """Changes when the server registered its addresses anew."""
        self.addresses = tuple(addresses)
        self.rtt: float | None = None
        """Seconds; None while nothing has been measured."""
        self.last_seen = -inf
        """When it last answered, on trio's clock."""
        self.down_until = -inf
        """It did not answer: until then it is not asked again. On trio's clock."""
        self.waiting = 0
        """Callers that wait for it."""

    @property
    def host(self) -> str | None:
        """The address that people are told; None while none is known."""
        return self.addresses[0][0] if self.addresses else None

    @property
    def called(self) -> str:
        """The same, in a message."""
        return self.host or "without address"

    def __repr__(self) -> str:
        hosts = ", ".join(host for host, _ in self.addresses)
        return f"<FileServer {self.uuid} of {self.cell} at {hosts}>"


SERVERS_MAX = 2048
"""File servers of all cells that are known: a location service may invent as many as it likes."""


class ServerRegistry:
    """All file servers that volumes were found on, `SERVERS_MAX` at most.

    When one is too many, that goes which has not answered for longest, or never has. Who still
    holds it may go on; if it is named again, it is a new one.

    A server is known within its cell: whoever runs the location service of one cell cannot
    redirect what another cell says of the same UUID.
    """

    def __init__(self) -> None:
        self._servers: dict[tuple[str, UUID], FileServer] = {}

    def __iter__(self) -> Iterator[FileServer]:
        return iter(self._servers.values())

    def get(self, cell: str, uuid: UUID) -> FileServer | None:
        """The server, if it is known."""
        return self._servers.get((cell, uuid))

    def update(
        self, cell: str, uuid: UUID, unique: int, addresses: Sequence[Address]
    ) -> FileServer:
        """Enter what the location service says of a server."""
        server = self._servers.get((cell, uuid))
        if server is None:
            if len(self._servers) >= SERVERS_MAX:
                del self._servers[min(self._servers, key=lambda k: self._servers[k].last_seen)]
                note(Refused.EXCESS)
            server = self._servers[cell, uuid] = FileServer(cell, uuid, unique, addresses)
        elif server.unique != unique or server.addresses != tuple(addresses):
            server.unique = unique
            server.addresses = tuple(addresses)
            server.down_until = server.last_seen = -inf  # at which of them it answers is not known
        return server


def uuid_of_address(address: IPv4Address) -> UUID:
    """Stands for a server without a UUID, as the location service writes it: address, then 0."""
    return UUID(int=int(address) << 96)
