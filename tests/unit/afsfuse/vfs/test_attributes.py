"""Attributes that nobody told."""

import math
import stat
from typing import Any, cast

import pytest

from afsfuse.interfaces.common import Fid
from afsfuse.model import FileKind, Inode
from afsfuse.vfs.attributes import entry_of, faked_directory, unknown
from afsfuse.vfs.inodes import Node
from tests.unit.afsfuse.vfs.worldfiles import FakeFile

NODE = Node(Inode(77), 5, {}, None)


class FakeVnode:
    def __init__(self, file: FakeFile) -> None:
        self.status = file.status()
        self.expires = 110.0
        self.unlinked = 0
        self.dirty = None


@pytest.mark.parametrize(
    ("kind", "type_bits"),
    [
        (FileKind.FILE, stat.S_IFREG),
        (FileKind.DIRECTORY, stat.S_IFDIR),
        (FileKind.SYMLINK, stat.S_IFLNK),
        (FileKind.MOUNTPOINT, stat.S_IFDIR),
    ],
)
@pytest.mark.parametrize("mode", [0o7777, 0o644, 0])
def test_types_and_permissions(kind: FileKind, type_bits: int, mode: int) -> None:
    vnode = FakeVnode(FakeFile(Fid(1, 2, 3), kind, b"x" * 513, mode=mode))
    entry = entry_of(NODE, cast("Any", vnode), 40.0, 7.0, math.inf)
    assert entry.mode == type_bits | (mode & 0o777)
    assert (entry.attr_timeout, entry.entry_timeout) == (60.0, 7.0)
    assert entry_of(NODE, cast("Any", vnode), 40.0, 7.0, 50.0).attr_timeout == 10.0
    assert entry_of(NODE, cast("Any", vnode), 40.0, 7.0, 0.0).attr_timeout == 0.0
    assert (entry.size, entry.blocks, entry.blksize) == (513, 2, 4096)
    assert entry.is_directory == (type_bits == stat.S_IFDIR)


def test_a_mount_point_that_leads_nowhere_yet() -> None:
    entry = faked_directory(NODE, 1_000, 10.0, 20.0)
    assert (entry.inode, entry.generation, entry.mtime) == (77, 5, 1_000)
    assert entry.mode == stat.S_IFDIR | 0o755
    assert (entry.attr_timeout, entry.entry_timeout, entry.nlink) == (10.0, 20.0, 2)


def test_the_parity_of_a_vnode_number_tells_directories() -> None:
    assert unknown(NODE, 3).mode == stat.S_IFDIR
    assert unknown(NODE, 4).mode == stat.S_IFREG
    assert unknown(NODE, 4).attr_timeout == 0.0
