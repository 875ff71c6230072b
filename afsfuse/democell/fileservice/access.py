"""Who may do what: the vnode that a call is about, with the caller's rights to it.

Source of the rules and their codes: GetVolumePackage, Check_PermissionRights and CheckWriteMode in
src/viced/afsfileprocs.c of OpenAFS.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from afsfuse.democell.people import ANYBODY
from afsfuse.democell.refusal import Refused
from afsfuse.interfaces.fileserver import FetchStatus, FileType, LockType, StoreMask, StoreStatus
from afsfuse.interfaces.protection import ANONYMOUS
from afsfuse.model import Rights

if TYPE_CHECKING:
    from afsfuse.democell.fileservice.server import Request, Server
    from afsfuse.democell.people import Identity
    from afsfuse.democell.vnode import Vnode
    from afsfuse.democell.volume import Volume
    from afsfuse.interfaces.common import Fid

_SET_ID_BITS = 0o6000
_OWNER_READ = 0o500
_OWNER_WRITE = 0o200


@dataclass(frozen=True, slots=True)
class Opened:
    """A vnode of a volume, and what its caller may do with it."""

    volume: Volume
    vnode: Vnode
    who: Identity
    rights: int
    anonymous_rights: int

    @property
    def fid(self) -> Fid:
        """What names it."""
        return self.volume.fid(self.vnode)

    @property
    def _is_owner(self) -> bool:
        return self.who.id == self.vnode.owner

    @property
    def _owns_volume(self) -> bool:
        return self.who.id == self.volume.root.owner

    def status(self) -> FetchStatus:
        """The state of the vnode as it is now."""
        return self.status_of(self.vnode)

    def status_of(self, vnode: Vnode, more: Rights = Rights.NONE) -> FetchStatus:
        """The state of a vnode for which the same access list counts."""
        parent = self.volume.parent_of(vnode)
        now = trio.current_time()
        return vnode.status(parent, self.rights | more, self.anonymous_rights, now)

    def need(self, right: Rights) -> None:
        """Refuse what the access list does not permit."""
        if not self.rights & right:
            raise Refused(errno.EACCES)

    def check_fetch(self, *, data: bool = False) -> None:
        """Refuse to tell what the caller may not know."""
        vnode = self.vnode
        if not data and self.who.administrator:
            return
        if vnode.kind is not FileType.FILE:
            if not self.rights & Rights.LOOKUP and not self._owns_volume:
                raise Refused(errno.EACCES)
            return
        mine = self._is_owner and self.rights & Rights.INSERT and self.who.id != ANONYMOUS
        if not self.rights & Rights.READ and not mine:
            raise Refused(errno.EACCES)
        hindered = data and not self._is_owner and not self.who.administrator
        if hindered and not vnode.mode & _OWNER_READ:
            raise Refused(errno.EACCES)

    def check_store_acl(self) -> None:
        """Refuse to change an access list that is not the caller's to change."""
        if not (self.rights & Rights.ADMINISTER or self._owns_volume or self.who.administrator):
            raise Refused(errno.EACCES)

    def check_mount_point(self) -> None:
        """Refuse to make a mount point where the caller does not administer."""
        if not (self.rights & Rights.ADMINISTER or self.who.administrator):
            raise Refused(errno.EACCES)

    def check_lock(self, type: LockType) -> None:
        """Refuse a lock that the caller has no use for."""
        if self.rights & Rights.WRITE or (self._is_owner and self.rights & Rights.INSERT):
            return
        if type is LockType.WRITE or not self.rights & Rights.LOCK:
            raise Refused(errno.EACCES)

    def check_store_data(self, status: StoreStatus) -> None:
        """Refuse to store what the caller may not write."""
        if self._first_store(status):
            return
        self._check_given_away(status)
        self.need(Rights.WRITE)
        if not self.vnode.mode & _OWNER_WRITE and not self.who.administrator:
            raise Refused(errno.EACCES)

    def check_store_status(self, status: StoreStatus) -> None:
        """Refuse to set what is not the caller's to set."""
        if self._first_store(status) or self.who.administrator:
            return
        self._check_given_away(status)
        if self.vnode.is_directory:
            self.need(Rights.DELETE | Rights.INSERT)
        else:
            self.need(Rights.WRITE)

    def _first_store(self, status: StoreStatus) -> bool:
        """Whether the caller made this file in a directory in which he may insert: then nothing
        is in his way but that he cannot give it away.
        """
        mine = self._is_owner and self.rights & Rights.INSERT
        if not mine or self.vnode.kind is not FileType.FILE:
            return False
        if self._gives_away(status) and not self.who.administrator:
            raise Refused(errno.EPERM)
        return True

    def _gives_away(self, status: StoreStatus) -> bool:
        vnode = self.vnode
        return bool(
            (status.mask & StoreMask.OWNER and status.owner != vnode.owner)
            or (status.mask & StoreMask.GROUP and status.group != vnode.group)
        )

    def _check_given_away(self, status: StoreStatus) -> None:
        if self.who.administrator:
            return
        if self._gives_away(status):
            raise Refused(errno.EPERM)
        if status.mask & StoreMask.MODE and status.unix_mode_bits & _SET_ID_BITS:
            raise Refused(errno.EACCES)


def open_vnode(
    server: Server,
    request: Request,
    fid: Fid,
    *,
    directory: bool | None = None,
    change: bool = False,
) -> Opened:
    """The vnode of a fid; `directory` says what it must (not) be, `change` what is meant to be
    done with it.
    """
    if not fid.volume or not fid.vnode:
        raise Refused(errno.EINVAL)
    volume = server.volume(fid.volume)
    if change and not volume.writable:
        raise Refused(errno.EROFS)
    vnode = volume.vnode(fid.vnode, fid.unique)
    if directory is not None and vnode.is_directory is not directory:
        raise Refused(errno.ENOTDIR if directory else errno.EISDIR)
    acl = volume.parent_of(vnode).acl
    assert acl is not None
    who = request.who
    rights = acl.rights(who.groups)
    if who.administrator:
        rights |= Rights.LOOKUP
    if not vnode.is_directory:
        rights &= ~Rights.ADMINISTER
        if vnode.owner == who.id:
            rights |= Rights.ADMINISTER
    return Opened(volume, vnode, who, rights, acl.rights(ANYBODY.groups))
