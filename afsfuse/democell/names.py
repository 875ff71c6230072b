"""What happens to names: made, removed, renamed. Nobody's rights are asked here.

Each function changes a volume and gives the vnodes concerned as they are then. The order of checks
and their codes are those of src/viced/afsfileprocs.c, for clients can tell.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING

from afsfuse.democell.filedata import FileData
from afsfuse.democell.refusal import Refused
from afsfuse.democell.times import seconds
from afsfuse.democell.vnode import blocks
from afsfuse.interfaces.fileserver import FileType, StoreMask, StoreStatus
from afsfuse.interfaces.protection import ANONYMOUS

if TYPE_CHECKING:
    from afsfuse.democell.vnode import Vnode
    from afsfuse.democell.volume import Volume

LOOP = 90
"""Of renames that would tie a knot. Not an errno of Linux. Source: FSERR_ELOOP."""

NOTHING = StoreStatus(StoreMask.NONE)
_SPECIAL = (b".", b"..")
_MODE_BITS = 0o7777
_SET_USER_ID = 0o4000


@dataclass(frozen=True)
class Removal:
    """What a name stood for, after the name has gone."""

    directory: Vnode
    target: Vnode
    gone: bool  # it was the last name


def check_name(name: bytes) -> None:
    """Refuse names that clients could not ask for. Source: FileNameOK."""
    if name.endswith(b"@sys") or b"/" in name:
        raise Refused(errno.EINVAL)


def create(
    volume: Volume,
    parent: Vnode,
    name: bytes,
    kind: FileType,
    *,
    status: StoreStatus = NOTHING,
    data: bytes = b"",
    who: int = ANONYMOUS,
) -> tuple[Vnode, Vnode]:
    """Make something new in a directory: the directory, and what was made."""
    need = 2 if kind is FileType.DIRECTORY else blocks(len(data))
    volume.check_room(need)
    parent = volume.change(parent)
    made = volume.allocate(kind, parent, FileData(data))
    try:
        _edit(volume, parent, who, add=(name, made))
    except Refused:
        volume.free(made)
        raise
    if made.is_directory:
        parent.links += 1
    made.owner = made.author = who
    set_status(volume, made, status, who)
    return parent, made


def set_status(volume: Volume, vnode: Vnode, status: StoreStatus, who: int) -> Vnode:
    """Set what a client asked for, of a vnode that was made just now or had data stored."""
    vnode = volume.change(vnode)
    vnode.author = who
    vnode.mtime = seconds()
    return store_status(volume, vnode, status)


def store_status(volume: Volume, vnode: Vnode, status: StoreStatus) -> Vnode:
    """Set what a client asked for and nothing else."""
    vnode = volume.change(vnode)
    if status.mask & StoreMask.MODIFICATION_TIME:
        vnode.mtime = status.client_mod_time
    if status.mask & StoreMask.OWNER:
        vnode.mode &= ~_SET_USER_ID
        vnode.owner = status.owner
    if status.mask & StoreMask.MODE:
        vnode.mode = status.unix_mode_bits & _MODE_BITS
    if status.mask & StoreMask.GROUP:
        vnode.group = status.group
    vnode.server_mtime = seconds()
    return vnode


def link(
    volume: Volume, parent: Vnode, name: bytes, target: Vnode, who: int = ANONYMOUS
) -> tuple[Vnode, Vnode]:
    """A further name for a file: the directory, and the file."""
    if target.kind is not FileType.FILE:
        raise Refused(errno.EISDIR)
    if target.parent != parent.number:
        raise Refused(errno.EXDEV, "a file's names are all in one directory")
    parent = volume.change(parent)
    _edit(volume, parent, who, add=(name, target))
    target = volume.change(target)
    target.links += 1
    target.author = who
    target.server_mtime = seconds()
    return parent, target


def remove(
    volume: Volume, parent: Vnode, name: bytes, *, directory: bool, who: int = ANONYMOUS
) -> Removal:
    """Take a name away, and what it stands for if that was its last name."""
    if name in _SPECIAL:
        raise Refused(errno.EINVAL)
    target = _look_up(volume, parent, name)
    if target.number == parent.number:
        raise Refused(errno.EINVAL)
    if target.is_directory is not directory:
        raise Refused(errno.ENOTDIR if directory else errno.EISDIR)
    if directory and not target.directory.is_empty:
        raise Refused(errno.EEXIST)
    parent = volume.change(parent)
    _edit(volume, parent, who, remove=name)
    return _unlink(volume, parent, target)


@dataclass(frozen=True)
class Renaming:
    """What a renaming has touched."""

    old: Vnode
    new: Vnode
    moved: Vnode
    reparented: bool  # the moved one is a directory whose ".." is another one now
    replaced: Removal | None


def rename(
    volume: Volume,
    old: Vnode,
    old_name: bytes,
    new: Vnode,
    new_name: bytes,
    who: int = ANONYMOUS,
) -> Renaming:
    """Move a name, over another one perhaps. Rights to delete that one are the caller's matter."""
    moved = _look_up(volume, old, old_name)
    if moved.number in (old.number, new.number):
        raise Refused(LOOP)
    if not moved.is_directory and old.number != new.number and moved.links != 1:
        raise Refused(errno.EXDEV, "a file's names are all in one directory")
    replaced = _replaceable(volume, old, new, new_name, moved)
    if moved.is_directory and old.number != new.number:
        _check_loop(volume, new, moved, replaced)
    old, new = volume.change(old), volume.change(new)
    removal = None
    if replaced is not None:
        new.directory.remove(new_name)
        removal = _unlink(volume, new, replaced)
    _edit(volume, new, who, add=(new_name, moved))
    if new.number == old.number:
        new.version -= 1
    _edit(volume, old, who, remove=old_name)
    reparented = moved.is_directory and old.number != new.number
    moved = volume.change(moved)
    moved.parent = new.number
    if reparented:
        moved.directory.remove(b"..")
        moved.directory.add(b"..", new.number, new.unique)
        moved.version += 1
        old.links -= 1
        new.links += 1
    return Renaming(old, new, moved, reparented, removal)


def _look_up(volume: Volume, directory: Vnode, name: bytes) -> Vnode:
    found = directory.directory.find(name)
    if found is None:
        raise Refused(errno.ENOENT)
    return volume.vnode(*found)


def _replaceable(volume: Volume, old: Vnode, new: Vnode, name: bytes, moved: Vnode) -> Vnode | None:
    """What a renaming would replace; refuses what it may not."""
    found = new.directory.find(name)
    if found is None:
        return None
    if found[0] in (old.number, new.number, moved.number):
        raise Refused(errno.EINVAL)
    target = volume.vnode(*found)
    if target.is_directory:
        if not moved.is_directory:
            raise Refused(errno.EISDIR)
        if not target.directory.is_empty:
            raise Refused(errno.EEXIST)
    elif moved.is_directory:
        raise Refused(errno.ENOTDIR)
    return target


def _check_loop(volume: Volume, new: Vnode, moved: Vnode, replaced: Vnode | None) -> None:
    """Refuse to move a directory below itself."""
    above = new.parent
    while above:
        if above == moved.number or (replaced is not None and above == replaced.number):
            raise Refused(LOOP)
        above = volume.vnodes[above].parent


def _edit(
    volume: Volume,
    directory: Vnode,
    who: int,
    *,
    add: tuple[bytes, Vnode] | None = None,
    remove: bytes | None = None,
) -> None:
    """One change of a directory's pages, and what follows from it for its status."""
    before = blocks(directory.length)
    if add is not None:
        name, vnode = add
        directory.directory.add(name, vnode.number, vnode.unique)
    if remove is not None:
        directory.directory.remove(remove)
    volume.charge(blocks(directory.length) - before)
    directory.version += 1
    directory.author = who
    directory.mtime = directory.server_mtime = seconds()


def _unlink(volume: Volume, directory: Vnode, target: Vnode) -> Removal:
    """One name less for a vnode; the last one takes it away."""
    if target.is_directory:
        directory.links -= 1
    if target.is_directory or target.links == 1:
        volume.free(target)
        return Removal(directory, target, gone=True)
    target = volume.change(target)
    target.links -= 1
    target.server_mtime = seconds()
    return Removal(directory, target, gone=False)
