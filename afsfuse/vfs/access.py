"""Who may do what: rights of access lists, and the owner's mode bits of files.

AFS judges by the access list of the directory; a file's status carries what that list gives to
the caller. Of the mode bits only the owner's count, and they count for everybody. The superuser
of this machine is nobody special to a cell.
Source: afs_permission in fs/afs/security.c of Linux, afs_AccessOK in OpenAFS.
"""

from __future__ import annotations

import os
import stat
from errno import EROFS
from typing import TYPE_CHECKING

from afsfuse.errors import AfsError, NotPermitted
from afsfuse.model import FileKind, Rights

if TYPE_CHECKING:
    from afsfuse.auth.identity import Caller
    from afsfuse.model import Status
    from afsfuse.vfs.inodes import Node

# As plain numbers: the operators of an IntFlag cost ten times as much.
_LOOKUP, _READ = int(Rights.LOOKUP), int(Rights.READ)

READ_ONLY = "the file system is mounted read-only"


def rights_of(status: Status, caller: Caller) -> Rights:
    """The rights that `caller` has, as the status tells them.

    All calls are made with one identity now, the anonymous one, whose rights the server put into
    the status; a caller with another identity would need rights of its own here.
    """
    return status.caller_access


def may(status: Status, mask: int, caller: Caller) -> bool:
    """The truth for access(2): whether `caller` may read and execute as `mask` says.

    `mask` is made of `os.R_OK` and `os.X_OK`. Directories: listing and searching both take the
    lookup right. Files: lookup and read, and the owner's bits. Symbolic links: lookup.
    """
    rights = int(rights_of(status, caller))
    if not rights & _LOOKUP:
        return mask == os.F_OK
    if status.kind is not FileKind.FILE:
        return True
    if mask & (os.R_OK | os.X_OK) and not rights & _READ:
        return False
    if mask & os.R_OK and not status.mode & stat.S_IRUSR:
        return False
    return not (mask & os.X_OK and not status.mode & stat.S_IXUSR)


def refuse_writing(mask: int) -> None:
    """Whatever would change something ends here."""
    if mask & os.W_OK:
        raise AfsError(READ_ONLY, errno=EROFS)


def require(status: Status, mask: int, caller: Caller, node: Node) -> None:
    """`NotPermitted` unless `caller` may."""
    if not may(status, mask, caller):
        raise NotPermitted(f"{node.path()}: the access list does not allow it")
