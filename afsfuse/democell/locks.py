"""Locks on whole files. They end by themselves. Source: HandleLocking in afsfileprocs.c."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from afsfuse.democell.refusal import Refused
from afsfuse.interfaces.fileserver import LOCK_SECONDS, LockType

if TYPE_CHECKING:
    from afsfuse.democell.vnode import FileLock


def set_lock(lock: FileLock, type: LockType, now: float) -> None:
    """Take a lock; refuses (EAGAIN) when another one is in the way."""
    if now > lock.until:
        lock.count = 0
    if (lock.count < 0) if type is LockType.READ else lock.count:
        raise Refused(errno.EAGAIN)
    lock.count += 1 if type is LockType.READ else -1
    lock.until = now + LOCK_SECONDS


def extend_lock(lock: FileLock, now: float) -> None:
    """Let the lock hold for another five minutes; refuses (EINVAL) when there is none."""
    if not lock.count:
        raise Refused(errno.EINVAL)
    lock.until = now + LOCK_SECONDS


def release_lock(lock: FileLock) -> bool:
    """Give one lock back; whether none is left."""
    lock.count = max(0, lock.count - 1)
    if not lock.count:
        lock.until = 0.0
    return not lock.count
