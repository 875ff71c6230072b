"""Entries become attributes, fast."""

from __future__ import annotations

import stat

from afsfuse.fuse.convert import entry_attributes, statvfs_data
from afsfuse.model import Inode
from afsfuse.vfs.entry import Entry, VolumeSpace, negative


def test_every_field_arrives() -> None:
    entry = Entry(
        inode=Inode(2**63 - 1),
        generation=77,
        mode=stat.S_IFREG | 0o640,
        nlink=3,
        uid=2**32 - 1,
        gid=5,
        size=5 * 2**30 + 1,
        mtime=2**31 + 5,
        blksize=4096,
        attr_timeout=12.5,
        entry_timeout=13.5,
    )
    shown = entry_attributes(entry)
    assert (shown.st_ino, shown.generation) == (2**63 - 1, 77)
    assert (shown.st_mode, shown.st_nlink) == (stat.S_IFREG | 0o640, 3)
    assert (shown.st_uid, shown.st_gid) == (2**32 - 1, 5)
    assert (shown.st_size, shown.st_blksize) == (5 * 2**30 + 1, 4096)
    assert shown.st_blocks == 5 * 2**21 + 1
    assert shown.st_mtime_ns == shown.st_ctime_ns == shown.st_atime_ns == (2**31 + 5) * 10**9
    assert (shown.attr_timeout, shown.entry_timeout) == (12.5, 13.5)


def test_times_before_1970_are_kept() -> None:
    entry = negative(0.0)
    entry.mtime = -1
    assert entry_attributes(entry).st_mtime_ns == -(10**9)


def test_an_absent_name_has_inode_0_and_a_time() -> None:
    shown = entry_attributes(negative(600.0))
    assert (shown.st_ino, shown.entry_timeout) == (0, 600.0)


def test_the_space_of_a_volume() -> None:
    data = statvfs_data(VolumeSpace(1024, 5000, 4000, 0, 0, 255))
    assert (data.f_bsize, data.f_frsize, data.f_blocks) == (1024, 1024, 5000)
    assert (data.f_bfree, data.f_bavail, data.f_namemax) == (4000, 4000, 255)
    assert (data.f_files, data.f_ffree, data.f_favail) == (0, 0, 0)
