"""Read-ahead over the small files of a directory.

People read whole folders: `cp -r`, `grep -r`, `tar`, a compiler its headers. Each file costs a
round trip, in which everybody waits, although the next name is no secret. So once files of a
directory are opened one after the other, in the order of its slots (what `readdir` gives) or of
their names (what a shell's `*` gives), the next ones are fetched while the present one is read.

Only what is known anyway is used: the directory and the statuses that the cache holds. Nothing here
waits or asks a server about anything but the data itself.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

import trio

from afsfuse.interfaces.common import Fid

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from afsfuse.auth.identity import Identity
    from afsfuse.cache import CacheManager, Vnode
    from afsfuse.cache.directories import Directory
    from afsfuse.cell.volumes import Volume
    from afsfuse.vfs.inodes import VnodeNode

AHEAD = 40
"""Files fetched ahead of the one that is opened."""
_SURE = 2
"""Files opened in sequence after which it counts as a sequence."""
_SKIP = 4
"""Names that a reader may leave out: folders, files that it does not want."""
_NOWHERE = -_SKIP - 1
"""A place that no name follows."""
_FOLDERS = 64
"""Directories in which sequences are followed at a time."""
_RENEWED = 2.0
"""Seconds for which the order of a directory that is being changed counts."""

_LARGEST = 20_000
"""Names of a directory that are put in order; in a larger one that costs more than it gives."""


class Sequence:
    """The names of one directory in one order, and how far a reader has come."""

    __slots__ = ("_names", "_places", "ahead", "hits", "place")

    def __init__(self, names: Iterable[bytes]) -> None:
        self._names = list(names)
        self._places = {name: place for place, name in enumerate(self._names)}
        self.place = _NOWHERE
        self.hits = 0
        self.ahead = 0
        """The first place that nobody was sent for yet."""

    def opened(self, name: bytes) -> None:
        """Note that a file is being opened."""
        place = self._places.get(name, _NOWHERE)
        follows = 0 < place - self.place <= _SKIP
        self.hits = self.hits + 1 if follows else 0
        self.place = place
        if not self.hits:
            self.ahead = place + 1

    def wanted(self) -> list[bytes]:
        """Names to fetch now: none, or so many that several calls go out together."""
        if self.hits < _SURE:
            return []
        first = max(self.ahead, self.place + 1)
        last = self.place + 1 + AHEAD
        if last - first < AHEAD // 2:
            return []
        self.ahead = last
        return self._names[first:last]


class _Folder:
    """A directory with its two orders, as they were at some moment."""

    __slots__ = ("directory", "sequences", "since", "version")

    def __init__(self, directory: Directory) -> None:
        self.directory = directory
        self.version = directory.data_version
        self.since = trio.current_time()
        by_slot = [entry.name for entry in directory]
        self.sequences = [Sequence(by_slot)]
        by_name = sorted(by_slot)
        if by_name != by_slot:
            self.sequences.append(Sequence(by_name))


def _is_old(folder: _Folder) -> bool:
    """Whether the directory was edited in place a while ago: putting it in order costs much."""
    return (
        folder.version != folder.directory.data_version
        and trio.current_time() - folder.since > _RENEWED
    )


class Neighbours:
    """Watches which files are opened, and has the cache fetch those that come next."""

    def __init__(self, cache: CacheManager) -> None:
        self._cache = cache
        self._folders: OrderedDict[int, _Folder] = OrderedDict()  # by inode, least used first

    def opened(self, node: VnodeNode, who: Identity) -> None:
        """A file is being opened whose pages the kernel does not have. Never waits or fails."""
        folder = self._folder(node)
        if folder is None:
            return
        for sequence in folder.sequences:
            sequence.opened(node.name)
            if names := sequence.wanted():
                vnodes = self._vnodes(node.mount.volume, folder.directory, names)
                self._cache.prefetch(vnodes, who)

    def _folder(self, node: VnodeNode) -> _Folder | None:
        parent = node.parent
        if parent is None or parent.vnode is None:
            return None
        directory = parent.vnode.directory
        if directory is None or len(directory) > _LARGEST:
            return None
        folder = self._folders.get(parent.inode)
        if folder is None or folder.directory is not directory or _is_old(folder):
            folder = self._folders[parent.inode] = _Folder(directory)
            if len(self._folders) > _FOLDERS:
                self._folders.popitem(last=False)
        self._folders.move_to_end(parent.inode)
        return folder

    def _vnodes(
        self, volume: Volume, directory: Directory, names: Iterable[bytes]
    ) -> Iterator[Vnode]:
        """What the cache knows of the files behind the names."""
        for name in names:
            found = directory.find(name)
            if found is not None:
                vnode = self._cache.peek(volume, Fid(volume.id, *found))
                if vnode is not None:
                    yield vnode
