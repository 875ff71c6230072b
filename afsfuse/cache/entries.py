"""Cache entries as OpenAFS's `cmdebug` asks for them: by number, from 0 on."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from afsfuse.model import FileKind, VolumeType

if TYPE_CHECKING:
    from collections.abc import Iterable

    from afsfuse.cache.vnodes import Vnode
    from afsfuse.interfaces.common import Fid

_SNAPSHOT_AGE = 30.0  # seconds


class CacheEntry(NamedTuple):
    """What is told of one vnode."""

    fid: Fid
    cell: str
    length: int
    data_version: int
    server: str | None  # address of the server whose promise it is; None without a promise
    expires_in: float  # seconds; 0.0 without a promise
    held: bool  # the kernel holds it
    read_only: bool
    mount_point: bool


class EntrySnapshots:
    """Numbers the vnodes. A walk from 0 on sees one state of the table, taken at its start."""

    def __init__(self) -> None:
        """No walk is under way."""
        self._vnodes: list[Vnode] = []
        self._taken = float("-inf")

    def at(self, index: int, table: Iterable[Vnode], now: float) -> Vnode | None:
        """The vnode of this number, None past the end."""
        if index == 0 or now > self._taken + _SNAPSHOT_AGE:
            self._vnodes = list(table)
            self._taken = now
        if 0 <= index < len(self._vnodes):
            return self._vnodes[index]
        self._vnodes = []
        self._taken = float("-inf")
        return None


def describe(vnode: Vnode, held: bool, now: float) -> CacheEntry:
    """What `cmdebug` is told of a vnode."""
    promised = vnode.expires > now and vnode.server is not None
    return CacheEntry(
        fid=vnode.fid,
        cell=vnode.volume.cell.name,
        length=vnode.status.length,
        data_version=vnode.data_version,
        server=vnode.server.host if promised and vnode.server is not None else None,
        expires_in=vnode.expires - now if promised else 0.0,
        held=held,
        read_only=vnode.volume.type is not VolumeType.RW,
        mount_point=vnode.status.kind is FileKind.MOUNTPOINT,
    )
