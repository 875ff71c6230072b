"""Locks on whole files."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import trio

from afsfuse.democell import locks
from afsfuse.democell.fileservice.access import open_vnode
from afsfuse.democell.refusal import Refused
from afsfuse.interfaces import fileserver as fs

if TYPE_CHECKING:
    from afsfuse.democell.fileservice.access import Opened
    from afsfuse.democell.fileservice.server import Request, Serve, Server


def register(server: Server, serve: Serve) -> None:
    """Bring the handlers in."""
    service = _Locking(server)
    serve(fs.SET_LOCK, service.set_lock)
    serve(fs.EXTEND_LOCK, service.extend_lock)
    serve(fs.RELEASE_LOCK, service.release_lock)


class _Locking:
    """Nobody writes to a read-only volume, so there a lock is given to whoever asks, and nothing
    is remembered of it.
    """

    def __init__(self, server: Server) -> None:
        self._server = server

    async def set_lock(self, request: Request, args: fs.SetLockArgs) -> fs.SyncReply:
        try:
            type = fs.LockType(args.type)
        except ValueError:
            raise Refused(errno.EINVAL) from None
        opened = open_vnode(self._server, request, args.fid)
        if opened.volume.writable:
            opened.check_lock(type)
            locks.set_lock(opened.vnode.lock, type, trio.current_time())
        elif type is fs.LockType.WRITE:
            raise Refused(errno.EROFS)
        return _sync(opened)

    async def extend_lock(self, request: Request, args: fs.FidArgs) -> fs.SyncReply:
        opened = open_vnode(self._server, request, args.fid)
        if opened.volume.writable:
            locks.extend_lock(opened.vnode.lock, trio.current_time())
        return _sync(opened)

    async def release_lock(self, request: Request, args: fs.FidArgs) -> fs.SyncReply:
        opened = open_vnode(self._server, request, args.fid)
        if opened.volume.writable and locks.release_lock(opened.vnode.lock):
            await self._server.hosts.break_promises([args.fid], by=request.host)
        return _sync(opened)


def _sync(opened: Opened) -> fs.SyncReply:
    return fs.SyncReply(opened.volume.sync)
