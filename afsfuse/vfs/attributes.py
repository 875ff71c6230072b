"""From the status of a vnode to the attributes that the kernel shows."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

from afsfuse.cache.vnodes import PROMISE_MARGIN
from afsfuse.model import FileKind
from afsfuse.vfs.access import kept_for
from afsfuse.vfs.entry import BLOCK_SIZE, Entry

if TYPE_CHECKING:
    from afsfuse.cache import Vnode
    from afsfuse.vfs.inodes import Node

# Looked up once: members of an Enum cost as much as the rest of an entry.
_FILE = FileKind.FILE
_SYMLINK = FileKind.SYMLINK
_REGULAR, _LINK, _DIRECTORY = stat.S_IFREG, stat.S_IFLNK, stat.S_IFDIR
_PERMISSIONS = 0o777  # suid, sgid and sticky bits are not honoured, so they are not shown either
_FAKED_MODE = 0o755
_FAKED_SIZE = 2048  # bytes: one page, the smallest directory there is


def entry_of(
    node: Node, vnode: Vnode, now: float, entry_timeout: float, open_until: float
) -> Entry:
    """What a vnode's status says, with what was written and is not stored yet.

    Valid for what is left of its promise, and no longer than everybody may be told (see
    `access.kept_for`).

    The hot path of every stat and listing.
    """
    status = vnode.status
    kind = status.kind
    dirty = vnode.dirty
    size = status.length if dirty is None else dirty.length
    node.shown_size = size
    type_bits = _REGULAR if kind is _FILE else _LINK if kind is _SYMLINK else _DIRECTORY
    return Entry(
        node.inode,
        node.generation,
        type_bits | (status.mode & _PERMISSIONS),
        status.links - vnode.unlinked if status.links else 0,  # no server has 0, but may say so
        status.owner,
        status.group,
        size,
        status.mtime if dirty is None else dirty.mtime,
        BLOCK_SIZE,
        kept_for(vnode.expires - PROMISE_MARGIN, open_until, now),
        entry_timeout,
    )


def faked_directory(node: Node, mtime: int, attr_timeout: float, entry_timeout: float) -> Entry:
    """A mount point whose target is not known."""
    return _faked(node, _DIRECTORY | _FAKED_MODE, mtime, attr_timeout, entry_timeout)


def unknown(node: Node, vnode_number: int) -> Entry:
    """An entry whose status could not be had; the kernel is to ask again each time.

    AFS gives odd vnode numbers to directories and even ones to everything else.
    Source: vnodeTypeToIndex in src/vol/vnode.h.
    """
    kind = _DIRECTORY if vnode_number & 1 else _REGULAR
    return _faked(node, kind, 0, 0.0, 0.0)


def _faked(node: Node, mode: int, mtime: int, attr_timeout: float, entry_timeout: float) -> Entry:
    directory = stat.S_ISDIR(mode)
    return Entry(
        node.inode,
        node.generation,
        mode,
        2 if directory else 1,
        0,
        0,
        _FAKED_SIZE if directory else 0,
        mtime,
        BLOCK_SIZE,
        attr_timeout,
        entry_timeout,
    )
