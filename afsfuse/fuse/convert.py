"""Domain values -> what pyfuse3 sends to the kernel. The hot path of every listing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyfuse3

if TYPE_CHECKING:
    from afsfuse.vfs.entry import Entry, OpenFile, VolumeSpace

_NANOSECONDS = 1_000_000_000


def entry_attributes(entry: Entry) -> pyfuse3.EntryAttributes:
    """The attributes of one node. An entry of inode 0 becomes a negative answer, which is cached.

    AFS keeps one time, so all three are the modification time.
    """
    attributes = pyfuse3.EntryAttributes()
    size = entry.size
    mtime = entry.mtime * _NANOSECONDS
    attributes.st_ino = entry.inode
    attributes.generation = entry.generation
    attributes.st_mode = entry.mode
    attributes.st_nlink = entry.nlink
    attributes.st_uid = entry.uid
    attributes.st_gid = entry.gid
    attributes.st_size = size
    attributes.st_blksize = entry.blksize
    attributes.st_blocks = (size + 511) >> 9
    attributes.st_mtime_ns = mtime
    attributes.st_ctime_ns = mtime
    attributes.st_atime_ns = mtime
    attributes.attr_timeout = entry.attr_timeout
    attributes.entry_timeout = entry.entry_timeout
    return attributes


def file_info(opened: OpenFile) -> pyfuse3.FileInfo:
    """The answer to open(2)."""
    return pyfuse3.FileInfo(fh=opened.handle, keep_cache=opened.keep_cache)


def statvfs_data(space: VolumeSpace) -> pyfuse3.StatvfsData:
    """The answer to statfs(2)."""
    data = pyfuse3.StatvfsData()
    data.f_bsize = space.block_size
    data.f_frsize = space.block_size
    data.f_blocks = space.blocks
    data.f_bfree = space.blocks_free
    data.f_bavail = space.blocks_free
    data.f_files = space.files
    data.f_ffree = space.files_free
    data.f_favail = space.files_free
    data.f_namemax = space.name_max
    return data
