"""A volume: its vnodes, what it may hold, and clones of it."""

from __future__ import annotations

import errno
import heapq
from typing import TYPE_CHECKING

from afsfuse.democell.acl import ALL_RIGHTS, AccessList
from afsfuse.democell.dirpages import DirectoryPages
from afsfuse.democell.refusal import Refused
from afsfuse.democell.times import seconds
from afsfuse.democell.vnode import ROOT, Vnode, blocks
from afsfuse.errors import ViceCode
from afsfuse.interfaces.common import Fid
from afsfuse.interfaces.fileserver import FileType, VolSync
from afsfuse.interfaces.protection import ANYUSER
from afsfuse.model import VolumeType

if TYPE_CHECKING:
    from collections.abc import Collection

    from afsfuse.democell.filedata import FileData
    from afsfuse.democell.partition import Partition

OPEN_TO_ALL = AccessList({ANYUSER: ALL_RIGHTS})
_ROOT_MODE = 0o755
_MAX_VNODES = 300_000  # of one volume, for each takes memory
_SPARE_KIB = 1024
_SMALLEST_NUMBER = {True: 3, False: 2}  # directories: odd ones, 1 is the root


class Volume:
    """One volume at one server. Read-only ones are clones, whose vnodes never change."""

    def __init__(
        self,
        number: int,
        name: str,
        partition: Partition,
        *,
        parent: int | None = None,
        type: VolumeType = VolumeType.RW,
        quota: int = 0,
    ) -> None:
        """`parent` is the number of the read/write volume; `quota` is in KiB, 0 for none."""
        self.id = number
        self.name = name
        self.type = type
        self.parent = number if parent is None else parent
        self.partition = partition
        self.quota = quota
        self.min_quota = 0
        self.offline_message = b""
        self.created = seconds()
        """Of a clone: when it was made; told to clients in each `VolSync`."""
        self.state: int | None = None
        """What is answered in place of all else: VBUSY, VOFFLINE, VMOVED …; None: the volume."""
        self.used = 0
        """KiB."""
        self.vnodes: dict[int, Vnode] = {}
        self.next_unique = ROOT
        self._gaps: dict[bool, list[int]] = {True: [], False: []}
        self._next = dict(_SMALLEST_NUMBER)
        self.fresh = True
        """Nothing of it was kept on disk yet, at the server where it is."""
        self.changed: set[int] = set()
        """Vnodes that were made, changed or removed since the volume was last kept on disk."""

    @classmethod
    def create(
        cls,
        number: int,
        name: str,
        partition: Partition,
        *,
        quota: int = 0,
        acl: AccessList = OPEN_TO_ALL,
    ) -> Volume:
        """A new read/write volume with an empty root."""
        volume = cls(number, name, partition, quota=quota)
        root = Vnode(
            ROOT, volume._new_unique(), FileType.DIRECTORY, 0,
            DirectoryPages.make((ROOT, ROOT), (ROOT, ROOT)), acl, _ROOT_MODE,
            owner=0, author=0, links=2, version=1, mtime=volume.created,
            server_mtime=volume.created,
        )  # fmt: skip
        volume._enter(root)
        volume.charge(blocks(root.length))
        return volume

    @property
    def writable(self) -> bool:
        """Whether it is the read/write volume."""
        return self.type is VolumeType.RW

    @property
    def sync(self) -> VolSync:
        """What is told of the volume with each of its vnodes."""
        return VolSync(self.created)

    @property
    def root(self) -> Vnode:
        """The directory at its top."""
        return self.vnodes[ROOT]

    @property
    def names(self) -> Collection[bytes]:
        """The names in its root, ``.`` and ``..`` among them."""
        return self.root.directory.slots

    def fid(self, vnode: Vnode) -> Fid:
        """What names a vnode to clients."""
        return Fid(self.id, vnode.number, vnode.unique)

    def vnode(self, number: int, unique: int) -> Vnode:
        """The vnode of this number, if it is still the one that is meant."""
        vnode = self.vnodes.get(number)
        if vnode is None or vnode.unique != unique:
            raise Refused(ViceCode.VNOVNODE)
        return vnode

    def parent_of(self, vnode: Vnode) -> Vnode:
        """The directory whose access list counts; of a directory that is itself."""
        return vnode if vnode.is_directory else self.vnodes[vnode.parent]

    def change(self, vnode: Vnode) -> Vnode:
        """The vnode to be changed: a copy of its own where a clone has the same one."""
        if not self.writable:
            raise Refused(errno.EROFS)
        vnode = self.vnodes[vnode.number]
        if vnode.shared:
            vnode = self.vnodes[vnode.number] = vnode.own_copy()
        self.changed.add(vnode.number)
        return vnode

    def check_room(self, kib: int, *, storing: bool = False) -> None:
        """Refuse (VOVERQUOTA, VDISKFULL) to grow by so much where that is too much.

        Data of files may exceed the quota by 1 MiB. Source: SpareComp in afsfileprocs.c.
        """
        spare = _SPARE_KIB if storing else 0
        if kib > 0 and self.quota and self.used + kib - spare > self.quota:
            raise Refused(ViceCode.VOVERQUOTA)
        if kib > self.partition.available:
            raise Refused(ViceCode.VDISKFULL)

    def charge(self, kib: int) -> None:
        """Count what was added, or with a negative number what has gone."""
        self.used += kib
        self.partition.used += kib

    def allocate(self, kind: FileType, parent: Vnode, data: FileData) -> Vnode:
        """A new vnode, which no directory knows yet. Of a directory the pages are made."""
        if len(self.vnodes) >= _MAX_VNODES:
            raise Refused(ViceCode.VDISKFULL)
        is_directory = kind is FileType.DIRECTORY
        gaps = self._gaps[is_directory]
        number = heapq.heappop(gaps) if gaps else self._next[is_directory]
        if number == self._next[is_directory]:
            self._next[is_directory] += 2
        unique = self._new_unique()
        contents: FileData | DirectoryPages = data
        if is_directory:
            contents = DirectoryPages.make((number, unique), (parent.number, parent.unique))
        vnode = Vnode(number, unique, kind, parent.number, contents, group=parent.group)
        if is_directory:
            vnode.acl, vnode.links = parent.acl, 2
        self._enter(vnode)
        self.charge(blocks(vnode.length))
        return vnode

    def free(self, vnode: Vnode) -> None:
        """Let go of a vnode that no directory knows any more."""
        del self.vnodes[vnode.number]
        heapq.heappush(self._gaps[vnode.is_directory], vnode.number)
        self.changed.add(vnode.number)
        self.charge(-blocks(vnode.length))

    def clone(self, number: int, type: VolumeType, name: str) -> Volume:
        """What the volume is now, under another number. Nothing is copied before it changes."""
        twin = Volume(number, name, self.partition, parent=self.id, type=type, quota=self.quota)
        twin.vnodes = self.vnodes.copy()
        for vnode in twin.vnodes.values():
            vnode.shared = True
        twin.used = self.used
        twin.next_unique = self.next_unique
        twin.changed = set(twin.vnodes)
        return twin

    def move_to(self, partition: Partition) -> None:
        """Be at another server."""
        self.partition.used -= self.used
        self.partition = partition
        self.partition.used += self.used
        self.fresh = True
        self.changed = set(self.vnodes)

    def adopt(self, vnodes: dict[int, Vnode]) -> None:
        """Take over vnodes that were kept on disk."""
        self.vnodes = vnodes
        for is_directory, first in _SMALLEST_NUMBER.items():
            numbers = {n for n, vnode in vnodes.items() if vnode.is_directory is is_directory}
            end = max(numbers, default=0) + 2
            self._next[is_directory] = max(end, first)
            self._gaps[is_directory] = [n for n in range(first, end, 2) if n not in numbers]
        self.charge(sum(blocks(vnode.length) for vnode in vnodes.values()))

    def _new_unique(self) -> int:
        unique = self.next_unique
        self.next_unique += 1
        return unique

    def _enter(self, vnode: Vnode) -> None:
        self.vnodes[vnode.number] = vnode
        self.changed.add(vnode.number)
