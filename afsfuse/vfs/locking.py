"""Locks on open files, in the name of whoever opened them.

A lock belongs to the vnode and not to the node: a volume that is mounted at two places has two
nodes for one file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from afsfuse.cache.locks import END, LockKind, LockRequest, Owner
from afsfuse.interfaces.fileserver import LockType

if TYPE_CHECKING:
    from afsfuse.cache.locks import Blocker, Locks
    from afsfuse.vfs.files import FileHandle, HandleTable

__all__ = ["END", "FileLock", "LockKind", "LockType", "Locking"]


class FileLock(NamedTuple):
    """A lock as the kernel asks for it."""

    handle: int
    kind: LockKind
    owner: int
    """The kernel's number for a process, or for an open file."""
    type: LockType | None
    """None: it is to go."""
    start: int = 0
    """The first byte."""
    end: int = END
    """The byte behind the last one."""
    pid: int = 0
    """The process."""


class Locking:
    """Finds the file behind a handle, and has the cache do what is asked."""

    def __init__(self, locks: Locks, handles: HandleTable[FileHandle]) -> None:
        self._locks = locks
        self._handles = handles

    @property
    def posix(self) -> bool:
        """Whether any process has a POSIX lock."""
        return self._locks.posix

    def change_at_once(self, lock: FileLock) -> bool:
        """Take a lock or let it go, if nobody need be waited for; whether it is done.

        Raises `AfsError`: EBADF without such a handle, EIO if an earlier lock did not hold.
        """
        opened = self._handles.get(lock.handle)
        volume, fid = opened.node.mount.volume, opened.node.fid
        if lock.type is None:
            owner = Owner(lock.kind, lock.owner)
            return self._locks.unlock_at_once(volume, fid, owner, lock.start, lock.end)
        return self._locks.lock_at_once(volume, fid, _request(lock, opened))

    async def change(self, lock: FileLock, *, wait: bool) -> None:
        """Take a lock or let it go; EAGAIN if others have it and `wait` is false."""
        opened = self._handles.get(lock.handle)
        volume, fid = opened.node.mount.volume, opened.node.fid
        if lock.type is None:
            owner = Owner(lock.kind, lock.owner)
            await self._locks.unlock(volume, fid, owner, lock.start, lock.end)
        else:
            await self._locks.lock(volume, fid, _request(lock, opened), wait=wait)

    async def blocker(self, lock: FileLock) -> Blocker | None:
        """What is in the way of a lock."""
        opened = self._handles.get(lock.handle)
        request = _request(lock, opened)
        return await self._locks.blocker(opened.node.mount.volume, opened.node.fid, request)

    async def closed(self, handle: int, owner: int) -> None:
        """A process has closed a descriptor: all its POSIX locks on the file go, whichever other
        descriptors it has. Source: fcntl(2).
        """
        if (opened := self._handles.find(handle)) is not None:
            volume = opened.node.mount.volume
            await self._locks.unlock(volume, opened.node.fid, Owner(LockKind.POSIX, owner))

    def released(self, handle: int) -> None:
        """Nobody has the file open any more by this handle."""
        if (opened := self._handles.find(handle)) is not None:
            self._locks.released(opened.node.mount.volume, opened.node.fid, handle)

    def check(self, handle: int) -> None:
        """EIO, once, if a lock that was taken through this handle did not hold."""
        self._locks.check(handle)


def _request(lock: FileLock, opened: FileHandle) -> LockRequest:
    return LockRequest(
        Owner(lock.kind, lock.owner),
        LockType.READ if lock.type is None else lock.type,
        lock.start,
        lock.end,
        lock.pid,
        lock.handle,
        opened.who,
    )
