"""Directory blobs, laid out the way a file server does it: the twin of `Directory.parse`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from afsfuse.democell.dirpages import BLOB_BYTES, PAGE_BYTES, DirectoryPages

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

PAGE = PAGE_BYTES
BLOB = BLOB_BYTES


class DirectoryBuilder:
    """A directory under construction. Entries keep their slots when others are removed."""

    def __init__(self, me: tuple[int, int] = (1, 1), parent: tuple[int, int] = (1, 1)) -> None:
        self._pages = DirectoryPages.make(me, parent)

    @property
    def slots(self) -> Mapping[bytes, int]:
        """Where each name stands."""
        return self._pages.slots

    def add(self, name: bytes, vnode: int, unique: int) -> None:
        """Enter a name."""
        self._pages.add(name, vnode, unique)

    def remove(self, name: bytes) -> None:
        """Take a name out, leaving a gap."""
        self._pages.remove(name)

    def blob(self) -> bytes:
        """The whole directory."""
        return self._pages.data()


def directory_blob(entries: Iterable[tuple[bytes, int, int]]) -> bytes:
    """A directory with these entries beside ``.`` and ``..``."""
    builder = DirectoryBuilder()
    for name, vnode, unique in entries:
        builder.add(name, vnode, unique)
    return builder.blob()


def many(count: int) -> Iterator[tuple[bytes, int, int]]:
    """Entries `file000000` and so on."""
    for number in range(count):
        yield b"file%06d" % number, 2 * number + 4, number + 10
