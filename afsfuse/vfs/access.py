"""Who may do what: rights of access lists, and the owner's mode bits of files.

AFS judges by the access list of the directory, which `afsfuse.cache.doors` knows for each identity.
Of the mode bits only the owner's count, and they count for everybody. The superuser of this
machine is nobody special to a cell.
Source: afs_permission in fs/afs/security.c of Linux, afs_AccessOK in OpenAFS.

The kernel's caches belong to all users of a mount. What is put into them must be what anybody may
see: that is the one rule of `kept_for`.
"""

from __future__ import annotations

import math
import os
import stat
from errno import EROFS
from typing import TYPE_CHECKING

import trio

from afsfuse.auth.identity import NOBODY
from afsfuse.cache.doors import LOOK, NOT_ALLOWED, READ, needed_to_see
from afsfuse.errors import AfsError, NotPermitted
from afsfuse.model import FileKind, Rights, VolumeType
from afsfuse.vfs.dynroot import MadeUp
from afsfuse.vfs.inodes import ROOT_INODE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from afsfuse.auth.identity import Identity
    from afsfuse.cache import Vnode
    from afsfuse.cache.doors import Doors
    from afsfuse.model import Status
    from afsfuse.vfs.inodes import Node

# As plain numbers: the operators of an IntFlag cost ten times as much.
_LOOKUP, _READ, _WRITE = int(Rights.LOOKUP), int(Rights.READ), int(Rights.WRITE)
_INSERT = int(Rights.INSERT)
_CHANGE_NAMES = int(Rights.INSERT | Rights.DELETE)


def kept_for(true_until: float, open_until: float, now: float) -> float:
    """For how many seconds the kernel may keep what it is told.

    As long as it is true, and no longer than everybody may be told: from then on each user is to
    ask for himself. Nothing of a directory that is closed to the public may be kept at all.
    """
    return max(0.0, min(true_until, open_until) - now)


def may(status: Status, mask: int, rights: int) -> bool:
    """The truth for access(2): whether somebody with these rights may do what `mask` says.

    `mask` is made of `os.R_OK`, `os.W_OK` and `os.X_OK`. Directories: listing and searching both
    take the lookup right, writing that to insert or that to delete; their mode bits mean nothing.
    Files: lookup, with read or write, and the owner's bits. Symbolic links: lookup, and write for
    what can be set of them.

    Servers would do more for some. The owner of a file, and administrators of a cell, do not mind
    mode bits there; programs count on them, so they bind everybody here, as in other AFS clients.
    Who owns a volume may look into all of it, which nothing tells. See `owner_may` for the rest.
    """
    if not rights & _LOOKUP:
        return mask == os.F_OK
    if status.kind is FileKind.DIRECTORY:
        return not mask & os.W_OK or bool(rights & _CHANGE_NAMES)
    if mask & os.W_OK and not rights & _WRITE:
        return False
    if status.kind is not FileKind.FILE:
        return True
    if mask & (os.R_OK | os.X_OK) and not rights & _READ:
        return False
    return mode_allows(status, mask)


def owner_may(status: Status, mask: int, rights: int) -> bool:
    """Whether the owner of a file may do what `may` denies to others with these rights.

    Who may insert into a directory may write to the files in it that are his: so something can be
    dropped where nothing can be changed. Source: Check_PermissionRights in afsfileprocs.c.
    """
    return (
        bool(mask & os.W_OK and rights & _INSERT)
        and status.kind is FileKind.FILE
        and may(status, mask, rights | _WRITE)
    )


async def permits(doors: Doors, vnode: Vnode, mask: int, who: Identity) -> bool:
    """The truth for access(2), and for opening files: whether an identity may do what `mask` says.

    Raises `AfsError`: EROFS for writing to a volume to which nobody can write; asks the server for
    rights if need be.
    """
    status = vnode.status
    if not mask & os.W_OK:
        if doors.lets_in(vnode, READ, NOBODY):
            return may(status, mask, READ)
    elif vnode.volume.type is not VolumeType.RW:
        refuse_writing(mask)
    rights = await doors.rights(vnode, who)
    if may(status, mask, rights):
        return True
    return owner_may(status, mask, rights) and await doors.owns(vnode, who)


def mode_allows(status: Status, mask: int) -> bool:
    """Whether the owner's bits of a file let anybody at all."""
    if mask & os.R_OK and not status.mode & stat.S_IRUSR:
        return False
    if mask & os.W_OK and not status.mode & stat.S_IWUSR:
        return False
    return not (mask & os.X_OK and not status.mode & stat.S_IXUSR)


def refuse_writing(mask: int) -> None:
    """EROFS for writing where that ends for everybody: read-only volumes, and what is made up."""
    if mask & os.W_OK:
        raise AfsError("nobody can write here", errno=EROFS)


def refusal(node: Node, why: AfsError) -> AfsError:
    """What is said to who is not let in: why, with the path."""
    error = why.again()
    error.message = f"{node.path()}: {why.message}"
    return error


class Sight:
    """Who may be told the attributes of a node.

    For files and symbolic links that is a matter of the directory in which they stand, by their
    status. The status of a directory does not name the one above, so there it is the place at
    which the kernel was given it; and whoever may look into a directory may see it, too, as one
    who works in it.
    """

    def __init__(
        self, doors: Doors, vnode_of: Callable[[Node, Identity], Awaitable[Vnode]]
    ) -> None:
        self._doors = doors
        self._vnode_of = vnode_of

    def open_until(self, node: Node, vnode: Vnode | None) -> float:
        """Until when everybody may be told; trio's time."""
        if vnode is not None and vnode.status.kind is not FileKind.DIRECTORY:
            return self._doors.open_until(vnode, needed_to_see(vnode.status.kind))
        parent = node.parent
        if node.inode == ROOT_INODE or isinstance(parent, MadeUp):
            return math.inf
        above = None if parent is None else parent.vnode
        return 0.0 if above is None else above.look_until

    async def allows(self, node: Node, vnode: Vnode | None, who: Identity) -> bool:
        """Whether an identity may be told; asks the server if need be."""
        if self.open_until(node, vnode) > trio.current_time():
            return True
        if vnode is not None and vnode.status.kind is not FileKind.DIRECTORY:
            return await self._doors.allows(vnode, needed_to_see(vnode.status.kind), who)
        if node.parent is not None:
            above = await self._vnode_of(node.parent, who)
            if await self._doors.allows(above, LOOK, who):
                return True
        return vnode is not None and await self._doors.allows(vnode, LOOK, who)

    async def require(self, node: Node, vnode: Vnode | None, who: Identity) -> None:
        """`NotPermitted` unless an identity may be told."""
        if not await self.allows(node, vnode, who):
            why = NotPermitted(NOT_ALLOWED)
            raise refusal(node, self._doors.refusal(vnode.volume, who) if vnode else why)

    def path_is_open(self, node: Node, who: Identity) -> bool:
        """Whether an identity is known to be allowed to look into all directories above a node.

        Asks nobody.
        """
        while node.inode != ROOT_INODE:
            above = node.parent
            if above is None:
                return False
            vnode = above.vnode
            if not isinstance(above, MadeUp) and (
                vnode is None or not self._doors.lets_in(vnode, LOOK, who)
            ):
                return False
            node = above
        return True
