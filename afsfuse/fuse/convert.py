"""Domain values -> what pyfuse3 sends to the kernel. The hot path of every listing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyfuse3

from afsfuse.vfs.entry import Attributes, seconds

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


def attributes_to_set(
    attributes: pyfuse3.EntryAttributes, fields: pyfuse3.SetattrFields
) -> Attributes:
    """What setattr is to set. AFS keeps neither atime nor ctime: to set them changes nothing."""
    return Attributes(
        size=attributes.st_size if fields.update_size else None,
        mode=attributes.st_mode if fields.update_mode else None,
        uid=attributes.st_uid if fields.update_uid else None,
        gid=attributes.st_gid if fields.update_gid else None,
        mtime=seconds(attributes.st_mtime_ns) if fields.update_mtime else None,
    )


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
