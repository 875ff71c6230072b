"""The disk that a server pretends to have."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from afsfuse.democell.filedata import FileData
from afsfuse.democell.refusal import Refused
from afsfuse.errors import ViceCode

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from afsfuse.democell.volume import Volume

DEFAULT_KIB = 64 << 20
DEFAULT_MEMORY = 1 << 30


class Partition:
    """Bounds what a server's volumes hold: by their lengths, as quotas count, and in memory.

    A file may be long and full of holes: then it counts in full, and takes no memory.
    """

    def __init__(self, kib: int = DEFAULT_KIB, memory: int = DEFAULT_MEMORY) -> None:
        """`memory`: bytes that all files may take in fact."""
        self.total = kib
        self.used = 0
        self._memory = memory
        self._written = 0  # at least what is held; counted anew when that is too much
        self._reserved = 0

    @property
    def available(self) -> int:
        """KiB."""
        return max(0, self.total - self.used)

    @contextmanager
    def reserve(self, size: int, volumes: Iterable[Volume]) -> Iterator[None]:
        """Take so many bytes of memory, which a file has at the end; refuses (VDISKFULL) where
        that is too much.
        """
        if self._written + self._reserved + size > self._memory:
            self._written = _held(volumes)
        if self._written + self._reserved + size > self._memory:
            raise Refused(ViceCode.VDISKFULL)
        self._reserved += size
        try:
            yield
        finally:
            self._reserved -= size
            self._written += size


def _held(volumes: Iterable[Volume]) -> int:
    """The bytes that all files take together; what clones share counts once."""
    pieces = {
        id(piece): len(piece)
        for volume in volumes
        for vnode in volume.vnodes.values()
        if isinstance(vnode.data, FileData)
        for piece in vnode.data.pieces.values()
    }
    return sum(pieces.values())
