"""What the vfs hands to whoever serves the kernel, and takes from him: attributes, listings, open
files, space.
"""

import stat
from dataclasses import dataclass
from typing import NamedTuple

from afsfuse.model import Inode

NO_INODE = Inode(0)
"""The inode of a negative answer: the name is proven not to be there."""

BLOCK_SIZE = 4096
"""Preferred input and output size in bytes: a page, as the kernel's own AFS client says."""

_LAST_SECOND = 2**32 - 1  # there are 32 bits for a time on the wire


@dataclass(slots=True)
class Entry:
    """Attributes of one node, with the seconds for which the kernel may believe them.

    A plain mutable dataclass since one is made for every entry of every listing.
    """

    inode: Inode
    """63-bit number; `NO_INODE` in a negative answer, where only `entry_timeout` counts."""
    generation: int
    """The vnode's uniquifier: tells a reused vnode number from its predecessor."""
    mode: int
    """Type and permission bits, `st_mode`; never with suid, sgid or sticky bits."""
    nlink: int
    uid: int
    """The owner's AFS id."""
    gid: int
    size: int
    """Bytes; of a directory what the server says."""
    mtime: int
    """Unix seconds; AFS keeps no other time, so atime and ctime are the same."""
    blksize: int
    attr_timeout: float
    """Seconds; what is left of the callback promise on the vnode."""
    entry_timeout: float
    """Seconds; what is left of the callback promise on the directory that was searched."""

    @property
    def blocks(self) -> int:
        """Blocks of 512 bytes, `st_blocks`."""
        return (self.size + 511) >> 9

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.mode)


READS_ONLY = 1 << 61
"""Bit of a handle: nothing can be written through it, so that closing it stores nothing."""

UNFLUSHED = 1 << 62
"""Bit of a handle: closing it stores nothing and ends no POSIX lock, so nobody need hear of it but
when it is closed by all."""

LISTED = 1 << 60
"""Bit of a handle of a directory: the kernel may keep what is listed through it."""

KEPT = 1 << 59
"""... and what it has kept before is still so. All these bits are known to
`afsfuse/fuse/_libfuse.c`, too."""


def negative(timeout: float) -> Entry:
    """The answer "no such name", to be believed for `timeout` seconds."""
    return Entry(NO_INODE, 0, 0, 0, 0, 0, 0, 0, BLOCK_SIZE, 0.0, timeout)


class Listing(NamedTuple):
    """One name of a directory as it is offered to the kernel."""

    name: bytes
    entry: Entry
    next_offset: int
    """Where a later `readdir` goes on behind this name; never 0."""


class OpenFile(NamedTuple):
    """The answer to `open`."""

    handle: int
    keep_cache: bool
    """Whether the pages that the kernel holds of this file are still those of this version."""


@dataclass(frozen=True, slots=True)
class VolumeSpace:
    """The answer to `statfs`: the quota of one volume, or its partition when it has no quota."""

    block_size: int
    """Bytes."""
    blocks: int
    blocks_free: int
    """Never below 0, also when a volume is over its quota."""
    files: int
    """0: AFS has no limit that would be worth a number."""
    files_free: int
    name_max: int
    """Bytes of the longest name."""


class Attributes(NamedTuple):
    """What is to be set; None leaves it as it is."""

    size: int | None = None
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    mtime: int | None = None  # Unix seconds


def seconds(nanoseconds: int) -> int:
    """The time that AFS keeps of one: whole seconds, from 1970 to 2106."""
    return max(0, min(nanoseconds // 1_000_000_000, _LAST_SECOND))
