"""Who knows the cells that are not configured: the seam to the DNS."""

from dataclasses import dataclass
from typing import Protocol

from afsfuse.errors import CellUnknown
from rxrpc import Address


@dataclass(frozen=True, slots=True)
class DnsAnswer:
    """Location servers in the order in which to try them, and for how many seconds that holds."""

    servers: tuple[Address, ...]
    ttl: float


class CellResolver(Protocol):
    """Whoever knows the location servers of cells that are not configured."""

    async def lookup(self, cell: str) -> DnsAnswer:
        """Find them; `CellUnknown` when there is no such cell, `CellUnreachable` on failure."""
        ...


class NoDns:
    """Knows no cells: for a client that is to use CellServDB only."""

    async def lookup(self, cell: str) -> DnsAnswer:
        """Refuse."""
        raise CellUnknown("the cell is not in CellServDB, and the DNS is not used", cell=cell)


class SystemDns:
    """The DNS as `/etc/resolv.conf` says.

    The library for it is loaded with the first question: most mounts never ask one, and it takes
    a tenth of the time in which a mount can be there.
    """

    def __init__(self) -> None:
        self._resolver: CellResolver | None = None

    async def lookup(self, cell: str) -> DnsAnswer:
        """Ask; see `CellResolver`."""
        if self._resolver is None:
            from afsfuse.cell.dns import DnsResolver

            self._resolver = DnsResolver()
        return await self._resolver.lookup(cell)
