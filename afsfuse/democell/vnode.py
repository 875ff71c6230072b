"""One file, directory or link of a volume."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from afsfuse.democell.dirpages import DirectoryPages
from afsfuse.democell.filedata import FileData
from afsfuse.interfaces.fileserver import STATUS_VERSION, FetchStatus, FileType
from afsfuse.interfaces.protection import ANONYMOUS

if TYPE_CHECKING:
    from afsfuse.democell.acl import AccessList

ROOT = 1
"""Vnode and unique of a volume's root."""


def blocks(length: int) -> int:
    """KiB that a length counts for; an empty file counts for one. Source: nBlocks in volume.h."""
    return max(1, (length + 1023) // 1024)


@dataclass(slots=True)
class FileLock:
    """The lock of a file: so many readers, or -1 for a writer."""

    count: int = 0
    until: float = 0.0  # trio's clock


@dataclass(slots=True)
class Vnode:
    """What a server knows of one file, and what is in it."""

    number: int
    unique: int
    kind: FileType
    parent: int  # the directory's vnode; of a directory the one above, 0 of the root
    data: FileData | DirectoryPages
    acl: AccessList | None = None  # of directories
    mode: int = 0o777
    owner: int = ANONYMOUS
    group: int = 0
    author: int = ANONYMOUS
    links: int = 1
    version: int = 0
    mtime: int = 0  # Unix seconds, as the client says
    server_mtime: int = 0
    lock: FileLock = field(default_factory=FileLock)
    shared: bool = False  # with a clone: to be copied before it is changed

    @property
    def is_directory(self) -> bool:
        """Directories have odd numbers, too."""
        return self.kind is FileType.DIRECTORY

    @property
    def length(self) -> int:
        """Bytes."""
        return self.data.length

    @property
    def directory(self) -> DirectoryPages:
        """The names in a directory."""
        assert isinstance(self.data, DirectoryPages)
        return self.data

    @property
    def file(self) -> FileData:
        """The bytes of a file or a link."""
        assert isinstance(self.data, FileData)
        return self.data

    def own_copy(self) -> Vnode:
        """The same, to be changed without the clones that share this one."""
        return replace(self, data=self.data.copy(), lock=replace(self.lock), shared=False)

    def status(self, parent: Vnode, rights: int, anonymous_rights: int, now: float) -> FetchStatus:
        """What is told of it; a directory calls itself its parent. Source: GetStatus."""
        length, version = self.length, self.version
        return FetchStatus(
            interface_version=STATUS_VERSION,
            file_type=self.kind,
            link_count=self.links,
            length_low=length & 0xFFFFFFFF,
            data_version_low=version & 0xFFFFFFFF,
            author=self.author & 0xFFFFFFFF,
            owner=self.owner & 0xFFFFFFFF,
            caller_access=rights,
            anonymous_access=anonymous_rights,
            unix_mode_bits=self.mode,
            parent_vnode=parent.number,
            parent_unique=parent.unique,
            residency_mask=1,
            client_mod_time=self.mtime & 0xFFFFFFFF,
            server_mod_time=self.server_mtime & 0xFFFFFFFF,
            group=self.group & 0xFFFFFFFF,
            sync_counter=0,
            data_version_high=0,  # OpenAFS's servers know 32 bits
            lock_count=self.lock.count & 0xFFFFFFFF if now <= self.lock.until else 0,
            length_high=length >> 32,
            error_code=0,
        )
